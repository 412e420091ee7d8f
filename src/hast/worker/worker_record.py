"""Records of running workers in the run directory: who they are, and where one waits whose hastd died.

A record holds the process id and its start time, so that a number reused by another process is never meant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from hast.daemon import paths

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
        """Where it waits for another hastd when its own died; a worker of an earlier release does beside the record."""
        new = self.path.parent / "worker" / f"{self.path.stem}.adopt"
        old = self.path.with_suffix(".adopt")
        return old if old.exists() and not new.exists() else new

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


def end_orphan(name: str, limit_s: float) -> bool:
    """Have the worker of a resource whose hastd is dead end in order, and wait until it has.

    False when there is none, it does not end in time, or does not know yet that its hastd is dead.
    """
    record = _read(paths.resource_file(name, "worker"))
    until_s = time.monotonic() + limit_s
    asked = False
    if not record.is_alive():
        return False
    while record.is_alive():
        if not asked and record.door.exists():
            asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM)
        if time.monotonic() >= until_s:
            return False
        time.sleep(_POLL_S)
    return True
