"""The counters of advertisements that were seen, on disk: a carpd that starts again knows what it may not believe.

A ring of MEMORY counters in a mapped file in the state directory, one for each vhid. Noting one costs no system call,
and it is there whatever becomes of this process; of a power cut it survives what the kernel had written, which is all
but the last half minute. Decides nothing (election/replay.py).
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from hast.daemon.paths import file_stem, make_state_directory
from hast.election.replay import MEMORY

_MAGIC = b"CARPSEEN"
_HEADER = struct.Struct("<8sQ")
"""Magic, and how many were ever noted."""
_COUNTER = struct.Struct("<Q")
_SIZE_BYTES = _HEADER.size + MEMORY * _COUNTER.size


class CounterMemory:
    """Of the vhid `label`. Raises OSError when the state directory cannot be used."""

    def __init__(self, label: str) -> None:
        directory = make_state_directory() / "carp"
        directory.mkdir(mode=0o700, exist_ok=True)
        self.path = directory / f"{file_stem(label)}.seen"
        self._map = _mapped(self.path)
        magic, self._noted = _HEADER.unpack_from(self._map)
        if magic != _MAGIC:
            self._noted = 0
            _HEADER.pack_into(self._map, 0, _MAGIC, 0)

    def seen(self) -> list[int]:
        """What was noted, oldest first, as far as there is room."""
        count = min(self._noted, MEMORY)
        numbers = range(self._noted - count, self._noted)
        return [_COUNTER.unpack_from(self._map, _place(number))[0] for number in numbers]

    def note(self, counter: int) -> None:
        """In the place of the oldest."""
        _COUNTER.pack_into(self._map, _place(self._noted), counter)
        self._noted += 1
        _HEADER.pack_into(self._map, 0, _MAGIC, self._noted)

    def close(self) -> None:
        self._map.close()


def _place(number: int) -> int:
    return _HEADER.size + number % MEMORY * _COUNTER.size


def _mapped(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, _SIZE_BYTES)
        return mmap.mmap(fd, _SIZE_BYTES)
    finally:
        os.close(fd)
