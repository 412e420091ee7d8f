"""Whether the kernel counts more requests that a device completed: a slow disk does that, a hung one does not."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

BLOCK_DEVICES = Path("/sys/dev/block")
_COMPLETED = (0, 4, 11, 15)
"""Reads, writes, discards and flushes (Documentation/block/stat.rst)."""


class Progress:
    """Of the device `fd` is, or lies on. A file on a file system without one never shows any."""

    def __init__(self, fd: int, root: Path = BLOCK_DEVICES) -> None:
        status = os.fstat(fd)
        device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        self._path = root / f"{os.major(device)}:{os.minor(device)}" / "stat"
        self._last = self._completed()

    def moved(self) -> bool:
        """Since the last call something was completed."""
        before, self._last = self._last, self._completed()
        return self._last != before

    def _completed(self) -> tuple[str, ...]:
        with contextlib.suppress(OSError):
            fields = self._path.read_text().split()
            return tuple(fields[index] for index in _COMPLETED if index < len(fields))
        return ()
