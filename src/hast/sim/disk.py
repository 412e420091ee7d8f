"""A disk with a volatile cache: what was written may be lost in a crash until a flush covered it."""

from __future__ import annotations

import errno
import random

from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Metadata, Request

SECTOR_BYTES = 512
Sector = tuple[int, bytes]
BLANK: Sector = (0, bytes(SECTOR_BYTES))


class Flush:
    """The cache's content at the moment a flush began: only that is made durable when it ends."""

    __slots__ = ("metadata", "sectors")

    def __init__(self, sectors: dict[int, Sector], metadata: tuple[int, Metadata] | None) -> None:
        self.sectors = sectors
        self.metadata = metadata


class Disk:
    """Sectors by number, each with the number of the write that made it; the metadata block is kept as a value.

    Reads see the cache. `failures` counts down the coming operations of a kind that fail with EIO; a `broken` disk
    fails everything.
    """

    def __init__(self, metadata: Metadata) -> None:
        self.size_bytes = metadata.offset_bytes + metadata.datasize_bytes
        self._durable: dict[int, Sector] = {}
        self._cache: dict[int, Sector] = {}
        self._metadata_durable = (0, metadata)
        self._metadata_cached: tuple[int, Metadata] | None = None
        self._version = 0
        self._dropped: set[int] = set()
        """Versions that a failed flush covered: they stay readable, and no later flush makes them durable."""
        self.failures = {READ: 0, WRITE: 0, FLUSH: 0}
        self.broken = False
        self.slowness = 1.0
        """Factor on the time that operations take."""

    @property
    def metadata(self) -> Metadata:
        """As a reader sees it now."""
        return (self._metadata_cached or self._metadata_durable)[1]

    def fails(self, op: int) -> int:
        """The errno of an operation that is about to be carried out, or 0."""
        kind = WRITE if op in (ZERO, DELETE) else op
        if self.broken:
            return errno.EIO
        if self.failures[kind] > 0:
            self.failures[kind] -= 1
            return errno.EIO
        return 0

    def execute(self, request: Request) -> int:
        """Carry out a READ, WRITE, DELETE or ZERO of the data area; returns an errno."""
        error = self.fails(request.op)
        if error:
            return error
        offset = self.metadata.offset_bytes + request.offset
        if request.op == READ:
            request.data = self.read(offset, request.length)
        elif request.op == WRITE:
            assert request.data is not None, "a write without data"
            self.write(offset, bytes(request.data))
        else:
            self.write(offset, bytes(request.length))
        return 0

    def write_metadata(self, metadata: Metadata) -> None:
        self._version += 1
        self._metadata_cached = (self._version, metadata)

    def write(self, offset: int, data: bytes) -> None:
        assert offset % SECTOR_BYTES == 0, "unaligned write"
        assert len(data) % SECTOR_BYTES == 0, "write of part of a sector"
        self._version += 1
        for position in range(0, len(data), SECTOR_BYTES):
            number = (offset + position) // SECTOR_BYTES
            self._cache[number] = (self._version, data[position : position + SECTOR_BYTES])

    def read(self, offset: int, length: int) -> bytes:
        first, last = offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES)
        sectors = (self._cache.get(n) or self._durable.get(n) or BLANK for n in range(first, last))
        skip = offset - first * SECTOR_BYTES
        return b"".join(data for _version, data in sectors)[skip : skip + length]

    def data_area(self) -> bytes:
        """All of it, as a reader sees it now."""
        return self.read(self.metadata.offset_bytes, self.metadata.datasize_bytes)

    def durable_read(self, offset: int, length: int) -> bytes:
        """What would be there after a crash that loses the whole cache."""
        first, last = offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES)
        return b"".join(self._durable.get(n, BLANK)[1] for n in range(first, last))[:length]

    def begin_flush(self) -> Flush:
        sectors = {number: sector for number, sector in self._cache.items() if sector[0] not in self._dropped}
        return Flush(sectors, self._metadata_cached)

    def fail_flush(self, flush: Flush) -> None:
        """A flush ended with an error; as on Linux the next one does not try again what this one failed."""
        self._dropped.update(sector[0] for sector in flush.sectors.values())

    def end_flush(self, flush: Flush) -> None:
        for number, sector in flush.sectors.items():
            if sector[0] > self._durable.get(number, BLANK)[0]:
                self._durable[number] = sector
            if self._cache.get(number) is sector:
                del self._cache[number]
        if flush.metadata is not None and flush.metadata[0] > self._metadata_durable[0]:
            self._metadata_durable = flush.metadata
            if self._metadata_cached is flush.metadata:
                self._metadata_cached = None

    def crash(self, rng: random.Random) -> None:
        """Power is lost: each cached sector reached the medium or not."""
        for number, sector in self._cache.items():
            if sector[0] not in self._dropped and rng.random() < 0.5:
                self._durable[number] = sector
        if self._metadata_cached is not None and rng.random() < 0.5:
            self._metadata_durable = self._metadata_cached
        self._cache.clear()
        self._metadata_cached = None

    def recreate(self, metadata: Metadata, rng: random.Random) -> None:
        """Another disk, with other things on it, on which `hastctl create` was run."""
        self.__init__(metadata)  # type: ignore[misc]
        for number in range(metadata.offset_bytes // SECTOR_BYTES, self.size_bytes // SECTOR_BYTES):
            self._durable[number] = (0, rng.randbytes(SECTOR_BYTES))
