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
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm-backports main"
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


def fetch(cache: Path) -> Kernel:
    """The kernel, downloaded once into `cache`. Raises MachineError."""
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        raise MachineError(f"needs {', '.join(missing)}")
    unpacked = cache / "backports-kernel"
    if not unpacked.is_dir():
        try:
            _download(cache, unpacked)
        except (StopIteration, ValueError, OSError, subprocess.SubprocessError) as error:
            raise MachineError(f"cannot download {META_PACKAGE} of bookworm-backports: {error}") from None
    images = sorted(unpacked.glob("boot/vmlinuz-*"))
    if not images:
        raise MachineError(f"{unpacked} holds no kernel: remove it")
    return Kernel(unpacked, images[-1].name.removeprefix("vmlinuz-"))


def _download(cache: Path, unpacked: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as work:
        apt = Path(work)
        (apt / "lists" / "partial").mkdir(parents=True)
        (apt / "sources.list").write_text(SOURCE + "\n")
        options = {
            "Dir::Etc::sourcelist": f"{apt}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": f"{apt}/lists",
            "Dir::Cache": f"{apt}/cache",
            "APT::Sandbox::User": "root",
        }
        own = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        _run(["apt-get", *own, "-q", "update"], apt)
        depends = _run(["apt-cache", *own, "depends", META_PACKAGE], apt)
        package = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line)
        _run(["apt-get", *own, "-q", "download", package], apt)
        (archive,) = apt.glob("*.deb")
        _run(["dpkg", "-x", str(archive), f"{apt}/root"], apt)
        release = package.removeprefix("linux-image-")
        _run(["depmod", "-b", f"{apt}/root", release], apt)
        os.rename(apt / "root", unpacked)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, check=True, timeout=FETCH_DEADLINE_S, capture_output=True, text=True)
    return done.stdout
