"""Whether a block device still has anything behind it. Reads sysfs and never opens the device.

A device of hast whose hastd died stays there for as long as somebody has it open, and answers every request with an
error: a loop device over a file of a dead FUSE server, an nbd device without a connection. What lies on such a device,
a volume say, is lost with it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

SYSFS = "/sys/dev/block"
DETACHED_FILE = "/disk"
"""What the kernel calls the file of a FUSE mount that was taken away under its loop device."""
MAX_DEPTH = 8


def number_of(path: str) -> int | None:
    """The device number behind a path; None when there is no block device."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_rdev if stat.S_ISBLK(status.st_mode) else None


def number_of_text(text: str) -> int:
    """`major:minor` as a device number."""
    major, _, minor = text.partition(":")
    return os.makedev(int(major), int(minor))


def is_lost(number: int, depth: int = 0) -> bool:
    """Whether nothing is behind the device any more, or behind one that it lies on."""
    if os.major(number) == 0:
        return False
    directory = Path(SYSFS, f"{os.major(number)}:{os.minor(number)}")
    if not directory.exists():
        return os.path.isdir(SYSFS)
    if _read(directory / "size") == "0":
        return True
    backing = _read(directory / "loop/backing_file")
    if backing is not None and _is_lost_file(backing):
        return True
    if directory.resolve().name.startswith("nbd") and not (directory / "partition").exists():
        return not (directory / "pid").exists()
    below = [_read(each / "dev") for each in (directory / "slaves").glob("*")] if depth < MAX_DEPTH else []
    return any(is_lost(number_of_text(each), depth + 1) for each in below if each)


def _is_lost_file(path: str) -> bool:
    if path == DETACHED_FILE or path.endswith(" (deleted)"):
        return True
    try:
        os.stat(path)
    except FileNotFoundError:
        return ".fuse/" in path
    except OSError:
        return True
    return False


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="surrogateescape").strip()
    except OSError:
        return None
