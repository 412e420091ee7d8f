"""Who has a block device open, in words. Looks into /proc and /sys, never at the device or a file that may hang.

A pool of the kernel's ZFS and a target of the kernel's iSCSI do not show there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hast.format.text import printable

MOST_NAMED = 5


def users_of(device: str) -> str:
    """`zfs-fuse[812], mounted on /data, loop7`; empty when nobody is found."""
    try:
        status = os.stat(device)
    except OSError:
        return ""
    if not stat.S_ISBLK(status.st_mode):
        return ""
    number = status.st_rdev
    found = [*dict.fromkeys([*_mounts(number), *_stacked(number), *_swaps(number), *_processes(number)])]
    more = len(found) - MOST_NAMED
    return ", ".join(found[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _processes(device: int) -> Iterator[str]:
    own = os.getpid()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if int(name) != own and _has_open(name, device):
            yield f"{_command(name)}[{name}]"


def _has_open(process: str, device: int) -> bool:
    folder = f"/proc/{process}/fd"
    try:
        descriptors = os.listdir(folder)
    except OSError:
        return False
    for descriptor in descriptors:
        path = f"{folder}/{descriptor}"
        try:
            if os.readlink(path).startswith("/dev/") and _is_this(os.stat(path), device):
                return True
        except OSError:
            continue
    return False


def _is_this(status: os.stat_result, device: int) -> bool:
    """A character device may have the number of a block device."""
    return stat.S_ISBLK(status.st_mode) and status.st_rdev == device


def _command(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return printable(file.read().strip())
    except OSError:
        return "?"


def _mounts(device: int) -> Iterator[str]:
    """A file system over several devices (btrfs) has a number of its own, and one of them as its source."""
    numbers = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, source = line.partition(" - ")
            words = fields.split()
            if words[2] == numbers or _leads_to(source.split()[1], device):
                yield f"mounted on {printable(words[4])}"


def _stacked(device: int) -> Iterator[str]:
    """Block devices made of it."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            path = backing.read_text(errors="surrogateescape").rstrip("\n")
        except OSError:
            continue
        if _leads_to(path, device):
            yield backing.parts[3]
    holders = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/holders")
    if holders.is_dir():
        yield from (each.name for each in holders.iterdir())


def _swaps(device: int) -> Iterator[str]:
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        if any(_leads_to(line.split()[0], device) for line in file):
            yield "swap"


def _leads_to(path: str, device: int) -> bool:
    try:
        return path.startswith("/dev/") and _is_this(os.stat(path), device)
    except (OSError, ValueError):
        return False
