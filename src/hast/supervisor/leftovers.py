"""Records of running workers in the run directory, and the clean-up of what a killed hastd left behind.

A record holds the process id and its start time, so that a number reused by another process is never killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

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


class WorkerRecord(NamedTuple):
    """A worker that ran when its record was written."""

    path: Path
    pid: int
    started: int

    @property
    def door(self) -> Path:
        """Where it waits for another hastd when its own died."""
        return self.path.with_suffix(".adopt")

    def is_alive(self) -> bool:
        return self.pid > 1 and start_time(self.pid) == self.started


def records() -> list[WorkerRecord]:
    """All in the run directory; one that cannot be read names nobody."""
    return [_read(path) for path in sorted(paths.run_directory().glob("*.worker"))]


def _read(path: Path) -> WorkerRecord:
    try:
        pid, started = (int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        pid, started = 0, 0
    return WorkerRecord(path, pid, started)


def record_worker(name: str, pid: int) -> None:
    """Remember that this worker runs. Without a writable run directory nothing is remembered."""
    started = start_time(pid)
    if started is not None:
        with contextlib.suppress(OSError):
            paths.resource_file(name, "worker").write_text(f"{pid} {started}\n")


def forget_worker(name: str, pid: int) -> None:
    """It is gone; the record of another one that took its place stays."""
    path = paths.resource_file(name, "worker")
    if _read(path).pid == pid:
        with contextlib.suppress(OSError):
            path.unlink()


async def end_old_workers(kept: Collection[str] = ()) -> None:
    """End workers of an earlier hastd, which hold their providers: they are asked to stop, then killed.

    Sockets that they served are removed. Those of the resources `kept` are left alone. The caller holds the lock of
    the run directory.
    """
    stems = {paths.file_stem(name) for name in kept}
    await asyncio.gather(*(_end_worker(record) for record in records() if record.path.stem not in stems))
    for stale in [*paths.run_directory().glob("*.nbd"), *paths.run_directory().glob("*.adopt")]:
        if stale.stem not in stems:
            with contextlib.suppress(OSError):
                stale.unlink()


async def _end_worker(record: WorkerRecord) -> None:
    if record.is_alive():
        log.warning("Worker %d of an earlier hastd still runs and cannot be taken over; ending it.", record.pid)
        _signal(record.pid, signal.SIGTERM)
        if not await _gone(record, OWN_END_DEADLINE_S):
            _signal(record.pid, signal.SIGKILL)
            if not await _gone(record, KILL_DEADLINE_S):
                log.error("Worker %d of an earlier hastd does not die: it is stuck in the kernel.", record.pid)
                return
    with contextlib.suppress(OSError):
        record.path.unlink()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


async def _gone(record: WorkerRecord, deadline_s: float) -> bool:
    for _ in range(round(deadline_s / _POLL_S)):
        if not record.is_alive():
            return True
        await asyncio.sleep(_POLL_S)
    return not record.is_alive()
