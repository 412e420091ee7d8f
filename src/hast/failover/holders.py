"""Who keeps a file system busy: a scan of /proc, and an end to those processes when that is configured.

Covers open files, working directories, roots, mapped files and memory; what the kernel itself holds (an NFS export, a
loop device, a nested mount, swap) has no process and is named as such by the caller.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hast.failover.commands import Result, alive
from hast.failover.part import Context, PartError

KILL_WAIT_S = 3.0
GRACE_S = 1.0
"""What is busy is tried again for this long: whoever was just stopped may still be closing its files."""
RETRY_S = 0.1
MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class Holder:
    """One process and what it holds."""

    pid: int
    command: str
    what: str

    def __str__(self) -> str:
        return f"{self.command}[{self.pid}] ({self.what})"


def of_mount(mountpoint: str) -> list[Holder]:
    """Processes with something open on the file system mounted at `mountpoint`, in this mount namespace."""
    try:
        device = os.stat(mountpoint).st_dev
    except OSError:
        return []
    namespace = _namespace("self")
    inside = mountpoint.rstrip("/") + "/"
    return [holder for pid in _processes() if (holder := _holds(pid, device, mountpoint, inside, namespace))]


def called(name: str) -> list[int]:
    """Processes of this mount namespace whose program is called `name`."""
    ours = _namespace("self")
    return [pid for pid in _processes() if _command(pid) == name and _namespace(str(pid)) == ours and alive(pid)]


def has_open(pid: int, path: str) -> bool:
    """Whether a process has the device or file behind `path` open, as it is now. Raises OSError when there is none."""
    wanted = _identity(os.stat(path))
    for entry in _entries(f"/proc/{pid}/fd"):
        try:
            if _identity(os.stat(f"/proc/{pid}/fd/{entry}")) == wanted:
                return True
        except OSError:
            continue
    return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return (-1, status.st_rdev) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


def listed(holders: list[Holder]) -> str:
    """The holders as text for one line."""
    text = ", ".join(map(str, holders[:MAX_LISTED]))
    more = len(holders) - MAX_LISTED
    return f"{text} and {more} more" if more > 0 else text


def release(
    context: Context,
    what: str,
    attempt: Callable[[], Result],
    find: Callable[[], list[Holder]],
    kill_after_s: float | None,
) -> None:
    """Repeat `attempt` (an unmount, an export) while it fails for being busy.

    Users are told to end after `kill_after_s`; None leaves them alone. Raises PartError naming those in the way.
    """
    patience_s = GRACE_S if kill_after_s is None else kill_after_s
    killed = kill_after_s is None
    until = time.monotonic() + patience_s
    told = False
    while (result := attempt()).code != 0:
        busy = "busy" in result.output
        late = time.monotonic() >= until or not context.left_s()
        if not busy or (late and killed):
            raise PartError(f"{result.problem()}; in use by {_in_the_way(find())}" if busy else result.problem())
        if not told:
            told = True
            context.log.error(f"{what} is in use by {_in_the_way(find())}.")
        if late:
            end(find(), context)
            killed = True
            until = time.monotonic() + GRACE_S
        context.pause(RETRY_S)


def _in_the_way(holders: list[Holder]) -> str:
    return listed(holders) or "no process (a nested mount, a loop device or a server in the kernel)"


def end(holders: list[Holder], context: Context) -> None:
    """TERM, wait, KILL. Raises PartError naming those that stay."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        waited = 0.0
        for holder in holders:
            context.log.error(f"Sending {number.name} to {holder}.")
            try:
                os.kill(holder.pid, number)
            except ProcessLookupError:
                pass
        while waited < KILL_WAIT_S and context.left_s():
            holders = [holder for holder in holders if alive(holder.pid)]
            if not holders:
                return
            context.pause(0.05)
            waited += 0.05
    raise PartError(f"cannot be ended: {listed(holders)}")


def _holds(pid: int, device: int, mountpoint: str, inside: str, namespace: str) -> Holder | None:
    if _namespace(str(pid)) != namespace:
        return None
    for name in ("cwd", "root", "exe", *(f"fd/{fd}" for fd in _entries(f"/proc/{pid}/fd"))):
        link = f"/proc/{pid}/{name}"
        try:
            target = os.readlink(link)
            if (target == mountpoint or target.startswith(inside)) and os.stat(link).st_dev == device:
                return Holder(pid, _command(pid), f"{'working directory' if name == 'cwd' else 'uses'} {target}")
        except OSError:
            continue
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return None
    for line in maps.splitlines():
        if inside in line:
            return Holder(pid, _command(pid), f"maps {line[line.index(inside) :]}")
    return None


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _processes() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != own:
            yield int(name)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
