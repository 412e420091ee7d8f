"""The clean-up of what a killed hastd left behind and nobody takes over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Collection

from hast.daemon import paths
from hast.worker.worker_record import WorkerRecord, records

log = logging.getLogger("hast.supervisor")

OWN_END_DEADLINE_S = 3.0
KILL_DEADLINE_S = 5.0
_POLL_S = 0.05


async def end_old_workers(kept: Collection[str] = ()) -> None:
    """End workers of an earlier hastd, which hold their providers: they are asked to stop, then killed.

    Sockets that they served are removed. Those of the resources `kept` are left alone. The caller holds the lock of
    the run directory.
    """
    stems = {paths.file_stem(name) for name in kept}
    await asyncio.gather(*(_end_worker(record) for record in records() if record.path.stem not in stems))
    for stale in [*paths.run_directory().glob("*.nbd"), *paths.run_directory().glob("worker/*.adopt")]:
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
