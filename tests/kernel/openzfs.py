"""OpenZFS for a fetched kernel: modules compiled from Debian's zfs-dkms sources, programs from its packages. Kept.

Nothing is installed, and nothing is written outside of the cache.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kernels import Backports, Kernel, MachineError, run

PROGRAM_PACKAGES = ("zfsutils-linux", "libnvpair3linux", "libuutil3linux", "libzfs6linux", "libzpool6linux")
TOOLS = {"gcc": "gcc", "make": "make", "bc": "bc", "pahole": "pahole", "strip": "binutils"}
MODULES = ("spl.ko", "zfs.ko")
COMPILE_S = 3600
"""Seven minutes on two cores that others use too."""


@dataclass(frozen=True, slots=True)
class Zfs:
    """Modules in the order to load them, and a folder with sbin/zpool, sbin/zfs and their libraries."""

    folder: Path

    @property
    def modules(self) -> list[Path]:
        return [self.folder / name for name in MODULES]

    @property
    def programs(self) -> list[Path]:
        return [self.folder / "programs" / "sbin" / name for name in ("zpool", "zfs")]

    @property
    def library_folders(self) -> list[Path]:
        return sorted({path.parent for path in (self.folder / "programs").rglob("*.so.*")})


def build(cache: Path, kernel: Kernel) -> Zfs:
    """OpenZFS for this kernel, compiled once into `cache`. Raises MachineError."""
    made = Zfs(cache / f"zfs-{kernel.release}")
    if made.folder.is_dir():
        return made
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise MachineError(f"to build OpenZFS: apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(dir=cache) as work:
        _build(Path(work).resolve(), kernel, made.folder)
    return made


def _build(work: Path, kernel: Kernel, folder: Path) -> None:
    apt = Backports(work / "apt")
    made = work / "made"
    apt.unpack([f"{name}/bookworm-backports" for name in PROGRAM_PACKAGES], made / "programs")
    headers = f"linux-headers-{kernel.release}"
    more = [name for name in apt.depends(headers) if name.startswith(("linux-headers-", "linux-kbuild-"))]
    apt.unpack([headers, *more, "zfs-dkms/bookworm-backports"], work / "root")
    tree = work / "root" / "usr" / "src" / headers
    _make_relocatable(tree)
    source = next((work / "root" / "usr" / "src").glob("zfs-*"))
    options = ("--with-config=kernel", f"--with-linux={tree}", f"--with-linux-obj={tree}")
    run(["./configure", *options], source, COMPILE_S)
    run(["make", f"-j{os.cpu_count() or 1}"], source, COMPILE_S)
    for name in MODULES:
        shutil.copy(next(source.rglob(name)), made / name)
        run(["strip", "--strip-debug", name], made)
    os.rename(made, folder)


def _make_relocatable(tree: Path) -> None:
    """The headers name one absolute path. Without vmlinux no type information (BTF) is made, which is not needed."""
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{tree.parent}/"))
    (tree / "vmlinux").unlink(missing_ok=True)
