"""Records of running workers in the run directory, and the clean-up of what a killed hastd left behind.

A record holds the process id and its start time, so that a number reused by another process is never killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

from hast.daemon import paths

log = logging.getLogger("hast.supervisor")

OWN_END_DEADLINE_S = 3.0
KILL_DEADLINE_S = 5.0
_POLL_S = 0.05


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    after = text.rpartition(")")[2].split()
    return None if len(after) < 20 or after[0] in ("Z", "X") else int(after[19])


def record_worker(name: str, pid: int) -> None:
    """Remember that this worker runs. Without a writable run directory nothing is remembered."""
    started = start_time(pid)
    if started is not None:
        with contextlib.suppress(OSError):
            paths.resource_file(name, "worker").write_text(f"{pid} {started}\n")


def forget_worker(name: str) -> None:
    with contextlib.suppress(OSError):
        paths.resource_file(name, "worker").unlink()


async def end_old_workers() -> None:
    """End workers of an earlier hastd, which hold their providers: they stop by themselves, else they are killed.

    Sockets that they served are removed. The caller holds the lock of the run directory.
    """
    records = sorted(paths.run_directory().glob("*.worker"))
    await asyncio.gather(*(_end_worker(record) for record in records))
    for stale in paths.run_directory().glob("*.nbd"):
        with contextlib.suppress(OSError):
            stale.unlink()


async def _end_worker(record: Path) -> None:
    try:
        pid, started = (int(word) for word in record.read_text().split())
    except (OSError, ValueError):
        pid, started = 0, 0
    if pid > 1 and start_time(pid) == started:
        log.warning("Worker %d of an earlier hastd still runs; waiting for its end.", pid)
        if not await _gone(pid, started, OWN_END_DEADLINE_S):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            if not await _gone(pid, started, KILL_DEADLINE_S):
                log.error("Worker %d of an earlier hastd does not die: it is stuck in the kernel.", pid)
                return
    with contextlib.suppress(OSError):
        record.unlink()


async def _gone(pid: int, started: int, deadline_s: float) -> bool:
    for _ in range(round(deadline_s / _POLL_S)):
        if start_time(pid) != started:
            return True
        await asyncio.sleep(_POLL_S)
    return start_time(pid) != started
