"""A disk with a volatile cache: what was written may be lost in a crash until a flush covered it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from hast.replication.types import FLUSH, READ, WRITE, Metadata, Request

SECTOR_BYTES = 8
"""The unit that is written whole or not at all. Small, so that a copy of everything costs nothing."""
MAP_OFFSET_BYTES = 4096
STORE = 0
"""Key of `failures` for writes of map and metadata."""

Flush = dict[int, tuple[int, bytes]]
"""What a flush that began covers: sector → its version and content at that moment."""


class Disk:
    """`view` is what a reader sees, `medium` what a crash leaves; both hold the whole provider, sector by sector.

    The metadata block is kept as a value. A flush of the data makes the data area durable and nothing else; a durable
    store makes its own bytes durable and nothing else. `failures` counts down the coming operations of a kind that
    fail with EIO; a `broken` disk fails everything.
    """

    def __init__(self, metadata: Metadata) -> None:
        size_bytes = metadata.offset_bytes + metadata.datasize_bytes
        self.view = bytearray(size_bytes)
        self.medium = bytearray(size_bytes)
        self.taken = bytearray(size_bytes)
        """What the disk ever took last, crashes notwithstanding: whether a write reached it at all."""
        self._first_data = metadata.offset_bytes // SECTOR_BYTES
        self._cached: dict[int, int] = {}
        """Sector → version, where the medium lacks it."""
        self._durable: dict[int, int] = {}
        self._version = 0
        self._lost: set[int] = set()
        """Sectors whose content a failed flush covered: readable, and no later flush makes them durable."""
        self._metadata = [metadata, metadata]
        """As a reader sees it, and as a crash leaves it."""
        self.failures = {READ: 0, WRITE: 0, FLUSH: 0, STORE: 0}
        self.broken = False
        self.slowness = 1.0
        """Factor on the time that operations take."""
        self.failed = 0
        """Operations that failed."""
        self.hung = False
        """It answers nothing."""
        self.asleep: list[Callable[[], None]] = []
        """What goes on when it answers again."""
        self.late = 0
        """Operations in it for which nobody waits any more."""

    @property
    def metadata(self) -> Metadata:
        """As a reader sees it now."""
        return self._metadata[0]

    @property
    def durable_metadata(self) -> Metadata:
        """As a crash leaves it."""
        return self._metadata[1]

    def fails(self, kind: int) -> int:
        """The errno of an operation that is about to be carried out, or 0."""
        if self.broken:
            self.failed += 1
            return errno.EIO
        if self.failures[kind] > 0:
            self.failures[kind] -= 1
            self.failed += 1
            return errno.EIO
        return 0

    def execute(self, request: Request) -> int:
        """Carry out a READ, WRITE, DELETE or ZERO of the data area; returns an errno."""
        op = request.op
        error = self.fails(op if op in self.failures else WRITE)
        if error:
            return error
        offset = self._metadata[0].offset_bytes + request.offset
        if op == READ:
            request.data = bytes(self.view[offset : offset + request.length])
        elif op == WRITE:
            assert request.data is not None, "a write without data"
            self.write(offset, bytes(request.data))
        else:
            self.write(offset, bytes(request.length))
        return 0

    def write(self, offset: int, data: bytes) -> int:
        """Into the cache; returns the version."""
        assert not (offset | len(data)) % SECTOR_BYTES, "write of part of a sector"
        end = offset + len(data)
        self.view[offset:end] = data
        self.taken[offset:end] = data
        self._version = version = self._version + 1
        cached = self._cached
        sectors = range(offset // SECTOR_BYTES, end // SECTOR_BYTES)
        for sector in sectors:
            cached[sector] = version
        if self._lost:
            self._lost.difference_update(sectors)
        return version

    def versions(self, offset: int, length: int) -> dict[int, int]:
        """Of the cached sectors of this range of the data area."""
        first = self._first_data + offset // SECTOR_BYTES
        cached = self._cached
        return {n: cached[n] for n in range(first, first + length // SECTOR_BYTES) if n in cached}

    def unsettled(self, versions: dict[int, int]) -> int:
        """How many of these sectors are still as they were then, and on the medium something else is."""
        return sum(
            self._cached.get(sector) == version and self._differs(sector) for sector, version in versions.items()
        )

    def _differs(self, sector: int) -> bool:
        place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
        return self.view[place] != self.medium[place]

    def write_metadata(self, metadata: Metadata) -> None:
        self._metadata[0] = metadata

    def store_metadata(self, metadata: Metadata) -> None:
        """Durably."""
        self._metadata[1] = metadata

    def store(self, offset: int, data: bytes, version: int) -> None:
        """Make durable what `write` returned this version for."""
        for position in range(0, len(data), SECTOR_BYTES):
            sector = (offset + position) // SECTOR_BYTES
            self._settle(sector, version, data[position : position + SECTOR_BYTES])

    def data(self) -> memoryview:
        """The data area, as a reader sees it now."""
        return memoryview(self.view)[self._metadata[0].offset_bytes :]

    def data_area(self) -> bytes:
        """A copy of it."""
        return bytes(self.data())

    def map(self) -> bytes:
        """The map, as a reader sees it now."""
        return bytes(self.view[MAP_OFFSET_BYTES : self._metadata[0].offset_bytes])

    def is_marked(self, extent: int) -> bool:
        """On the medium, in the map."""
        return bool(self.medium[MAP_OFFSET_BYTES + (extent >> 3)] & (1 << (extent & 7)))

    def begin_flush(self) -> Flush:
        view, first, lost = self.view, self._first_data, self._lost
        return {
            sector: (version, bytes(view[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]))
            for sector, version in self._cached.items()
            if sector >= first and sector not in lost
        }

    def fail_flush(self, flush: Flush) -> None:
        """A flush ended with an error; as on Linux the next one does not try again what this one failed."""
        self._lost.update(sector for sector, (version, _) in flush.items() if self._cached.get(sector) == version)

    def end_flush(self, flush: Flush) -> None:
        for sector, (version, content) in flush.items():
            self._settle(sector, version, content)

    def _settle(self, sector: int, version: int, content: bytes) -> None:
        if version > self._durable.get(sector, 0):
            self._durable[sector] = version
            self.medium[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES] = content
        if self._cached.get(sector) == version:
            del self._cached[sector]

    def holds(self, sector: int) -> bool:
        """What a reader sees of this sector of the data area may still become durable."""
        return sector + self._first_data not in self._lost

    def crash(self, rng: random.Random, keep: float = 0.5) -> list[int]:
        """Power is lost: each cached sector reached the medium, with probability `keep`, or not. Returns the sectors
        of the data area that were lost."""
        self.hung, self.late = False, 0
        self.asleep.clear()
        gone = []
        for sector, version in sorted(self._cached.items()):
            if sector not in self._lost and rng.random() < keep:
                start = sector * SECTOR_BYTES
                self.medium[start : start + SECTOR_BYTES] = self.view[start : start + SECTOR_BYTES]
                self._durable[sector] = version
            elif sector >= self._first_data:
                gone.append(sector - self._first_data)
        self.view[:] = self.medium
        self._cached.clear()
        self._lost.clear()
        if rng.random() < keep:
            self._metadata[1] = self._metadata[0]
        self._metadata[0] = self._metadata[1]
        return gone

    def recreate(self, metadata: Metadata, rng: random.Random) -> None:
        """Another disk, with other things on it, on which `hastctl create` was run."""
        self.__init__(metadata)  # type: ignore[misc]
        foreign = rng.getrandbits(8 * metadata.datasize_bytes).to_bytes(metadata.datasize_bytes, "big")
        for image in (self.view, self.medium, self.taken):
            image[metadata.offset_bytes :] = foreign
