"""Who has a block device open: for a line in the log. Looks into /proc, never at the device or a file that may hang."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from hast.format.text import printable

MOST_NAMED = 5


def users_of(device: str) -> str:
    """`zfs-fuse[812], mounted on /data`; empty when nobody is found."""
    try:
        status = os.stat(device)
    except OSError:
        return ""
    if not stat.S_ISBLK(status.st_mode):
        return ""
    found = [*dict.fromkeys([*_processes(status.st_rdev), *_mounts(status.st_rdev)])]
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
    numbers = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[2] == numbers:
                yield f"mounted on {printable(fields[4])}"
