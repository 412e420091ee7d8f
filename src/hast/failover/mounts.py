"""The mount table of this process, and mounting and unmounting with deadlines and a word about who is in the way.

A mount that outlived its device (hastd died under it) is unmounted like any other, and when it is busy taken out of the
tree: it keeps nothing that is still there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hast.failover import blockdev, holders
from hast.failover.commands import Result
from hast.failover.part import Context, PartError

FSCK_CORRECTED = 1
STAT_S = 2.0
EMERGENCY = frozenset({"emergency_ro", "shutdown"})
"""Mount options by which the kernel shows a file system that has stopped to work."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    source: str
    target: str
    fs_type: str
    device: str
    """`major:minor`."""
    options: frozenset[str] = frozenset()
    """Of the mount and of its file system."""


def table(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Every mount that this process sees, in the order they were made."""
    result = []
    for line in Path(path).read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) >= 5 and len(tail) >= 2:
            options = frozenset(",".join([*fields[5:6], *tail[2:3]]).split(","))
            result.append(Mount(_plain(tail[1]), _plain(fields[4]), tail[0], fields[2], options))
    return result


def at(target: str) -> Mount | None:
    """What is mounted on `target` (the topmost), None for nothing."""
    wanted = os.path.realpath(target)
    found = [mount for mount in table() if mount.target == wanted]
    return found[-1] if found else None


def same_device(source: str, device: str) -> bool:
    """Whether `source` of a mount and the path `device` are the same block device."""
    try:
        return (
            os.path.realpath(source) == os.path.realpath(device) or os.stat(source).st_rdev == os.stat(device).st_rdev
        )
    except OSError:
        return False


def is_lost(mount: Mount) -> bool:
    """Whether the device under a mount has nothing behind it any more."""
    number = blockdev.number_of_text(mount.device)
    if os.major(number) == 0:
        number = blockdev.number_of(mount.source) or number
    return blockdev.is_lost(number)


def ailment(context: Context, mount: Mount, options: str) -> str:
    """One line of what is not well with a mount that was asked for with `options`; empty when it is well."""
    if is_lost(mount):
        return f"mounted, but its device {mount.source} is gone"
    if "ro" in mount.options and "ro" not in options.split(","):
        return "mounted, but read-only: the kernel found errors; see dmesg"
    if mount.options & EMERGENCY:
        return "mounted, but the kernel has stopped it for errors; see dmesg"
    result = context.commands.run(("stat", "-c", "", "--", mount.target), STAT_S)
    return "" if result.code == 0 else f"mounted, but does not answer: {result.problem()}"


def mount(context: Context, device: str, target: str, fs_type: str | None, options: str) -> None:
    """Mount `device` on `target`, which is created when missing. Raises PartError."""
    try:
        Path(target).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PartError(f"mount point {target} cannot be made: {error.strerror}") from None
    argv = ["mount"]
    if fs_type:
        argv += ["-t", fs_type]
    if options:
        argv += ["-o", options]
    context.run(*argv, "--", device, target)


def check(context: Context, device: str, fs_type: str | None) -> None:
    """fsck, repairing what is safe to repair. Raises PartError when errors are left."""
    argv = ("fsck", *(("-t", fs_type) if fs_type else ()), "-a", device)
    result = context.commands.run(argv, context.left_s())
    if result.code > FSCK_CORRECTED or result.code < 0:
        raise PartError(f"fsck of {device} failed: {result.problem()}; repair it by hand, then run failover again")
    if result.code == FSCK_CORRECTED:
        context.log.error(f"fsck repaired errors on {device}: {result.output}")


def unmount(context: Context, target: str, kill_after_s: float | None) -> None:
    """Unmount everything on `target` and below, the topmost first. Raises PartError naming who is in the way."""
    while mounted := _nested(target):
        topmost = mounted[-1]
        try:
            attempt = partial(_umount, context, topmost.target)
            users = partial(holders.of_mount, topmost.target)
            holders.release(context, topmost.target, attempt, users, kill_after_s)
        except PartError as error:
            if not is_lost(topmost):
                raise
            context.log.error(f"{error}; {topmost.source} is gone, so {topmost.target} is taken out of the tree.")
            context.run("umount", "-l", "--", topmost.target, timeout_s=STAT_S)


def _umount(context: Context, target: str) -> Result:
    return context.commands.run(("umount", "--", target), context.left_s())


def _nested(target: str) -> list[Mount]:
    wanted = os.path.realpath(target)
    return [mount for mount in table() if mount.target == wanted or mount.target.startswith(f"{wanted}/")]


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
