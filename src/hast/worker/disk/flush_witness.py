"""A second hearer of failed flushes: did one fail of which a dead worker can tell nobody?

The kernel tells each open file description of a failed flush once, whoever else was told. So a worker opens its disk a
second time and gives that to the supervisor, who does nothing with it but keep it; the next worker, should its
predecessor have died in the middle of a flush (`flush_mark.py`), flushes by it and hears what that one heard. What only
the disk's own answer to a flush said, not the writing before it, is asked of the disk again.
"""

from __future__ import annotations

import os
import threading


def open_witness(provider_fd: int) -> int:
    """Of the same disk; -1 where it cannot be had."""
    try:
        return os.open(f"/proc/self/fd/{provider_fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1


def nothing_failed(witness_fd: int, provider_fd: int, limit_s: float) -> bool:
    """Whether no flush of this disk failed since the witness was opened, or asked last. False when it is another disk,
    or does not answer in time (`limit_s`, 0 for any time)."""
    try:
        if _identity(witness_fd) != _identity(provider_fd):
            return False
    except OSError:
        return False
    said: list[bool] = []

    def ask() -> None:
        try:
            os.fsync(witness_fd)
        except OSError:
            said.append(False)
        else:
            said.append(True)

    thread = threading.Thread(target=ask, name="witness", daemon=True)
    thread.start()
    thread.join(limit_s or None)
    return said == [True]


def _identity(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_rdev
