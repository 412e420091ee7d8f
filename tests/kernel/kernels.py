"""A distribution's kernel with its modules: downloaded and unpacked, never installed, and kept.

The package is that of Debian 12's backports, whatever this machine's own sources are: it is newer than Debian 12's own
and has ublk, nbd, TLS and the device mapper as modules. apt is given lists and a cache of its own for it.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm-backports main contrib"
FETCH_DEADLINE_S = 300
NEEDED = ("apt-get", "apt-cache", "dpkg", "depmod")


class MachineError(Exception):
    """The machine cannot be made here; `str()` says what is missing."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package below `root`."""

    root: Path
    release: str

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    def modules(self, *names: str) -> list[Path]:
        """Uncompressed files of these modules and of all that they need, in the order in which to load them.

        Raises MachineError.
        """
        folder = self.root / "lib" / "modules" / self.release
        needs = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[_name(path)] = [path, *rest.split()]
        ordered: dict[str, None] = {}
        for name in names:
            if name not in needs:
                raise MachineError(f"{META_PACKAGE} {self.release} has no module {name}")
            ordered |= dict.fromkeys(reversed(needs[name]))
        return [_unpacked(folder / path) for path in ordered]


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _unpacked(path: Path) -> Path:
    if path.suffix != ".xz":
        return path
    plain = path.with_suffix("")
    if not plain.exists():
        plain.write_bytes(lzma.decompress(path.read_bytes()))
    return plain


class Backports:
    """Packages of Debian 12's backports; apt works in `folder`, with its own sources. Methods raise MachineError."""

    def __init__(self, folder: Path) -> None:
        missing = [tool for tool in NEEDED if not shutil.which(tool)]
        if missing:
            raise MachineError(f"needs {', '.join(missing)}")
        self._folder = folder
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "sources.list").write_text(SOURCE + "\n")
        options = {
            "Dir::Etc::sourcelist": f"{folder}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": f"{folder}/lists",
            "Dir::Cache": f"{folder}/cache",
            "APT::Sandbox::User": "root",
        }
        self._options = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        run(["apt-get", *self._options, "-q", "update"], folder)

    def depends(self, package: str) -> list[str]:
        """What a package depends on directly."""
        text = run(["apt-cache", *self._options, "depends", package], self._folder)
        return [line.split()[-1] for line in text.splitlines() if "Depends:" in line]

    def unpack(self, packages: Iterable[str], target: Path) -> None:
        """Download these versions, `NAME` or `NAME/SUITE`, and unpack them into `target`."""
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            run(["apt-get", *self._options, "-q", "download", *packages], Path(work))
            for archive in Path(work).glob("*.deb"):
                run(["dpkg", "-x", str(archive), str(target)], Path(work))


def fetch(cache: Path) -> Kernel:
    """The kernel, downloaded once into `cache`. Raises MachineError."""
    unpacked = cache / "backports-kernel"
    if not unpacked.is_dir():
        _download(cache, unpacked)
    images = sorted(unpacked.glob("boot/vmlinuz-*"))
    if not images:
        raise MachineError(f"{unpacked} holds no kernel: remove it")
    return Kernel(unpacked, images[-1].name.removeprefix("vmlinuz-"))


def _download(cache: Path, unpacked: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as work:
        apt = Backports(Path(work) / "apt")
        images = [name for name in apt.depends(META_PACKAGE) if name.startswith("linux-image-")]
        if not images:
            raise MachineError(f"{META_PACKAGE} of bookworm-backports names no kernel")
        root = Path(work) / "root"
        apt.unpack(images[:1], root)
        run(["depmod", "-b", str(root), images[0].removeprefix("linux-image-")], root)
        os.rename(root, unpacked)


def run(command: list[str], folder: Path, timeout_s: float = FETCH_DEADLINE_S) -> str:
    """What a program printed. Raises MachineError, with the end of what it said."""
    try:
        done = subprocess.run(command, cwd=folder, timeout=timeout_s, capture_output=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{command[0]}: {error}") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise MachineError(f"{' '.join(command)[-200:]}: exit {done.returncode}: {' '.join(said)}")
    return done.stdout
