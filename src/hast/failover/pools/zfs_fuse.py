"""The daemon of zfs-fuse: where it is, and its restart, the only end of a pool suspended for good.

zfs-fuse answers `zpool export` of a suspended pool never, also not with -f. What it had acknowledged as flushed is on
the devices; the rest is lost with the daemon, as it would be with the host.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path

from hast.failover import holders, mounts
from hast.failover.commands import alive
from hast.failover.part import Context, PartError

UNIT = "zfs-fuse"
KILL_S = 5.0
START_S = 15.0
LOOK_S = 2.0
MOUNT_TYPE = "fuse.zfs"
_one_at_a_time = threading.Lock()


def find() -> int | None:
    """Process id of the zfs-fuse of this mount namespace; None where there is none (then ZFS is in the kernel)."""
    return next(iter(holders.called("zfs-fuse")), None)


def restart(context: Context, pid: int) -> None:
    """Kill this daemon, take its mounts away, start another like it. Raises PartError when it cannot be killed.

    Of several calls for one daemon the first does it. One that cannot be started again is logged: the pool is gone.
    """
    with _one_at_a_time:
        if not alive(pid):
            return
        argv, environment = _command(pid)
        by_systemd = _is_unit(context)
        context.log.error(f"Restarting zfs-fuse (process {pid}): nothing else ends a pool that is suspended for good.")
        _kill(pid)
        _forget_pid_file(argv)
        for mount in reversed(mounts.table()):
            if mount.fs_type == MOUNT_TYPE:
                context.commands.run(("umount", "-l", "--", mount.target), LOOK_S)
        if by_systemd:
            result = context.commands.run(("systemctl", "restart", UNIT), START_S, marked=False)
            started, problem = None, result.problem() if result.code != 0 else ""
        else:
            started, problem = _start(argv, environment)
        problem = problem or _wait_until_it_answers(context, started)
        if problem:
            context.log.error(f"zfs-fuse cannot be started again: {problem}; start it by hand.")


def _command(pid: int) -> tuple[list[str], dict[str, str]]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        settings = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError as error:
        raise PartError(f"zfs-fuse (process {pid}) cannot be looked at: {error.strerror}") from None
    pairs = (os.fsdecode(setting).partition("=") for setting in settings if b"=" in setting)
    return [os.fsdecode(word) for word in words], {name: value for name, _, value in pairs}


def _is_unit(context: Context) -> bool:
    if not Path("/run/systemd/system").is_dir():
        return False
    return context.commands.run(("systemctl", "is-active", UNIT), LOOK_S, marked=False).code == 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    until = time.monotonic() + KILL_S
    while _has_threads(pid):
        if time.monotonic() >= until:
            raise PartError(f"zfs-fuse (process {pid}) cannot be killed")
        time.sleep(0.02)


def _forget_pid_file(argv: list[str]) -> None:
    """zfs-fuse does not start beside a pid file, nor does its init script remove that of a dead daemon."""
    for option, value in pairwise(argv):
        if option in ("-p", "--pidfile"):
            Path(value).unlink(missing_ok=True)


def _has_threads(pid: int) -> bool:
    """A process counts as ended when its first thread has; its lock and its devices go with the last one."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(alive(int(thread)) for thread in threads)


def _start(argv: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes] | None, str]:
    """The process, which may be one that goes into the background and ends; or why there is none."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return None, error.strerror or str(error)
    return process, ""


def _wait_until_it_answers(context: Context, started: subprocess.Popen[bytes] | None) -> str:
    until = time.monotonic() + START_S
    while context.commands.run(("zpool", "list", "-H", "-o", "name"), LOOK_S).code != 0:
        if started is not None and started.poll():
            return f"exit code {started.returncode}"
        if time.monotonic() >= until:
            return f"no answer within {START_S:g} s"
        time.sleep(0.05)
    return ""
