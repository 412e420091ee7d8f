"""The counters of advertisements that were seen, on disk: a carpd that starts again knows what it may not believe.

A ring of MEMORY counters in a mapped file in the state directory, one for each vhid. Noting one costs no system call,
and it is there whatever becomes of this process, at any moment: each number changes in one store. Of a power cut it
survives what the kernel had written, which is all but the last half minute. Decides nothing (election/replay.py).
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from hast.daemon.paths import file_stem, make_state_directory
from hast.election.replay import MEMORY

_MAGIC = b"CARPSEEN"
_NOTED, _FIRST = 1, 2
"""Places of eight bytes each: after the magic how many were ever noted, then the counters."""
_SIZE_BYTES = 8 * (_FIRST + MEMORY)


class CounterMemory:
    """Of the vhid `label`. Raises OSError when the state directory cannot be used."""

    def __init__(self, label: str) -> None:
        directory = make_state_directory() / "carp"
        directory.mkdir(mode=0o700, exist_ok=True)
        self.path = directory / f"{file_stem(label)}.seen"
        self._map = _mapped(self.path)
        self._numbers = memoryview(self._map).cast("Q")
        if self._map[: len(_MAGIC)] != _MAGIC:
            self._numbers[_NOTED] = 0
            self._map[: len(_MAGIC)] = _MAGIC
        self._noted = self._numbers[_NOTED]

    def seen(self) -> list[int]:
        """What was noted, oldest first, as far as there is room."""
        count = min(self._noted, MEMORY)
        numbers = range(self._noted - count, self._noted)
        return [self._numbers[_place(number)] for number in numbers]

    def note(self, counter: int) -> None:
        """In the place of the oldest."""
        self._numbers[_place(self._noted)] = counter
        self._noted += 1
        self._numbers[_NOTED] = self._noted

    def close(self) -> None:
        self._numbers.release()
        self._map.close()


def _place(number: int) -> int:
    return _FIRST + number % MEMORY


def _mapped(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, _SIZE_BYTES)
        return mmap.mmap(fd, _SIZE_BYTES)
    finally:
        os.close(fd)
