"""A byte that outlives its worker: what the metadata does not say, yet or for good.

A flush may have failed: the kernel tells that to one process, once. A worker that is killed between hearing of it and
noting it would take that knowledge with it, so the bit is set before each flush and cleared after a good one.
Whose copy leads (`replication.types.Lead`): the peer's does, or was told to, and the disk has no record of that.
Both lie in a mapped file in the run directory: setting one costs no system call, and it lives as long as the kernel's
cache that the first speaks of.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

from hast.replication.types import Lead

_CLEAR, _DOUBTFUL = 0, 1
_LEAD_BITS = {Lead.AS_RECORDED: 0, Lead.PEERS: 2, Lead.OFFERED: 4}
_LEAD_MASK = 6


def forget(path: Path) -> None:
    """The disk is a new one: what was noted of the former does not hold for it."""
    with contextlib.suppress(OSError):
        path.unlink()


class FlushMark:
    """`doubtful` and `lead`: how the worker before this one left it. Without a writable run directory nothing is
    remembered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._byte: mmap.mmap | bytearray = bytearray(1)
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, 1)
                self._byte = mmap.mmap(fd, 1)
            finally:
                os.close(fd)
        self.doubtful = bool(self._byte[0] & _DOUBTFUL)
        self.lead = next((lead for lead, bits in _LEAD_BITS.items() if self._byte[0] & _LEAD_MASK == bits), Lead.PEERS)
        self._failed = self.doubtful
        self._flushing = False

    def believe(self) -> None:
        """The flush that the worker before this one did not live to hear of was good (`flush_witness.py`)."""
        self.doubtful = self._failed = False
        self._byte[0] &= ~_DOUBTFUL

    def begin(self) -> None:
        """A flush is about to start."""
        self._flushing = True
        self._byte[0] |= _DOUBTFUL

    def end(self, good: bool) -> None:
        """It ended."""
        self._flushing = False
        if good and not self._failed:
            self._byte[0] &= ~_DOUBTFUL
        elif not good:
            self.failed()

    def failed(self) -> None:
        """Something did not reach the medium."""
        self._failed = True
        self._byte[0] |= _DOUBTFUL

    def noted(self) -> None:
        """The metadata says so, durably."""
        self._failed = False
        if not self._flushing:
            self._byte[0] &= ~_DOUBTFUL

    def note_lead(self, lead: Lead) -> None:
        """Whose copy is the one to trust, beyond what the metadata says."""
        self._byte[0] = (self._byte[0] & ~_LEAD_MASK) | _LEAD_BITS[lead]

    def close(self) -> None:
        """The end of the worker. A mark that is set stays for the next one."""
        is_clear = self._byte[0] == _CLEAR
        if isinstance(self._byte, mmap.mmap):
            self._byte.close()
            if is_clear:
                self._path.unlink(missing_ok=True)
        self._byte = bytearray(1)
