"""The activemap of a primary (section 6): which extents may differ between the copies, and what of that is on disk.

Keeps no requests and decides no order; it answers "must the map be stored before this write?" and "which bits may be
cleared now?". A bit is *armed* when it is set on the disk, durably (S1); it is cleared only for extents that both
copies confirmed and a flush covered (S2).
"""

from __future__ import annotations

from itertools import islice

from hast.replication.bitmap import Bitmap
from hast.replication.types import Request

SCAN = 4096
"""Of how many extents at once it is asked whether their bits may be cleared."""


class Activemap:
    """Map over `datasize_bytes` in extents of `extentsize_bytes`, `mapsize_bytes` long on disk, loaded from `image`.

    Every bit found on the disk is armed at the start. `owed_remote`: extents the peer lacks; `owed_local`: extents
    this node lacks. Counters are extents.
    """

    def __init__(
        self,
        datasize_bytes: int,
        extentsize_bytes: int,
        mapsize_bytes: int,
        sectorsize_bytes: int,
        keepdirty: int,
        image: bytes,
    ) -> None:
        if extentsize_bytes & (extentsize_bytes - 1):
            raise ValueError(f"extent size {extentsize_bytes} is not a power of two")
        self.extents = -(-datasize_bytes // extentsize_bytes)
        self.shift = extentsize_bytes.bit_length() - 1
        self.datasize_bytes = datasize_bytes
        self.extentsize_bytes = extentsize_bytes
        self.mapsize_bytes = mapsize_bytes
        self.keepdirty = keepdirty
        self._unit_bytes = max(512, sectorsize_bytes)
        self.armed = Bitmap(self.extents)
        self.armed.merge(image)
        self._image = bytearray(mapsize_bytes)
        self._image[: len(self.armed.data)] = self.armed.data
        self.changed: tuple[int, int] | None = None
        """The first and the last unit of the image that the disk does not show yet."""
        self.arming = Bitmap(self.extents)
        self.inflight: dict[int, int] = {}
        self.hot: dict[int, int] = {}
        """Extents written since they were last clean → the clock of the last write to them."""
        self.clock = 0
        self.owed_remote = Bitmap(self.extents)
        self.owed_local = Bitmap(self.extents)
        self.updates = 0

    def extent_length(self, extent: int) -> int:
        """Bytes of this extent; the last one may be shorter."""
        return min(self.extentsize_bytes, self.datasize_bytes - (extent << self.shift))

    def begin(self, first: int, last: int) -> bool:
        """A write to these extents wants to start; False when the map has to be stored first."""
        armed = True
        for extent in range(first, last + 1):
            self.inflight[extent] = self.inflight.get(extent, 0) + 1
            self.hot[extent] = self.clock
            if extent not in self.armed:
                armed = False
                if extent not in self.arming:
                    self.arming.add(extent)
                    self._image[extent >> 3] |= 1 << (extent & 7)
                    self._touch(extent, extent)
        return armed

    def begin_all(self, batch: list[Request], waiting: list[Request]) -> list[Request]:
        """These writes want to start: those that may. The others go to `waiting`: the map has to be stored first."""
        shift, clock = self.shift, self.clock
        data, inflight, hot = self.armed.data, self.inflight, self.hot
        armed: list[Request] = []
        for request in batch:
            offset = request.offset
            first = request.first = offset >> shift
            last = request.last = (offset + request.length - 1) >> shift
            if first == last and data[first >> 3] & (1 << (first & 7)):
                inflight[first] = inflight.get(first, 0) + 1
                hot[first] = clock
                armed.append(request)
            elif self.begin(first, last):
                armed.append(request)
            else:
                waiting.append(request)
        return armed

    def end_all(self, batch: list[Request]) -> None:
        """These writes are over on both copies."""
        inflight = self.inflight
        for request in batch:
            first = request.first
            if first != request.last:
                self.end(first, request.last)
            elif (count := inflight[first]) > 1:
                inflight[first] = count - 1
            else:
                del inflight[first]

    def end(self, first: int, last: int) -> None:
        """A write to these extents is over on both copies."""
        inflight = self.inflight
        for extent in range(first, last + 1):
            count = inflight[extent] - 1
            if count:
                inflight[extent] = count
            else:
                del inflight[extent]

    def is_armed(self, first: int, last: int) -> bool:
        """Every one of these extents is marked on the disk, durably."""
        data = self.armed.data
        if first == last:
            return bool(data[first >> 3] & (1 << (first & 7)))
        return all(extent in self.armed for extent in range(first, last + 1))

    def are_armed(self, batch: list[Request]) -> bool:
        """Every extent of these writes is."""
        data = self.armed.data
        for request in batch:
            first = request.first
            if first != request.last:
                if not self.is_armed(first, request.last):
                    return False
            elif not data[first >> 3] & (1 << (first & 7)):
                return False
        return True

    def arm(self, extents: Bitmap) -> None:
        """The map with these bits is on the disk, durably."""
        self.armed.unite(extents)
        self.arming.subtract(extents)

    def mark(self, image: bytes) -> None:
        """Take over the bits of a peer's map; they are armed once the map is stored."""
        fresh = Bitmap(self.extents)
        fresh.merge(image)
        fresh.subtract(self.armed)
        fresh.subtract(self.arming)
        if not fresh:
            return
        self.arming.unite(fresh)
        shown = self.armed.copy()
        shown.unite(self.arming)
        self._show(shown)
        self._touch(fresh.next(0), fresh.last())

    def flush_begins(self) -> int:
        """A flush of both copies begins; returns the clock that tells what it covers.

        It covers neither the writes under way nor any that begins from now on. `stale_bits` is asked next, if at all.
        """
        covered = self.clock
        self.clock += 1
        for extent in self.inflight:
            self.hot[extent] = self.clock
        return covered

    def stale_bits(self, everything: bool) -> Bitmap | list[int]:
        """Armed extents that a flush of both copies, started now, would allow to clear; a map where it is `everything`.

        Left out: extents with writes in flight, owed extents, and, unless `everything`, the `keepdirty` most
        recently written ones.
        """
        if everything:
            stale = self.armed.copy()
            self._drop_unclean(stale)
            return stale
        return [extent for extent in self._oldest() if extent in self.armed and self._clean(extent)]

    def _oldest(self) -> list[int]:
        """Extents that have left the keepdirty list; of very many only some, in the order of their first write.

        Those of the some that may not be cleared are put off: the owed until they are copied, the others to the end.
        """
        hot = self.hot
        excess = len(hot) - self.keepdirty
        if excess <= SCAN:
            return sorted(hot, key=hot.__getitem__)[: max(0, excess)]
        first = list(islice(hot, SCAN))
        for extent in first:
            if not self._clean(extent):
                written = hot.pop(extent)
                if written >= self.clock:
                    hot[extent] = written
        return first

    def crowded(self) -> bool:
        """Enough extents have left the keepdirty list to make a flush for them worth while."""
        return len(self.hot) > 2 * self.keepdirty + 16

    def disarm(self, extents: Bitmap | list[int], clock: int) -> bool:
        """Clear the bits of these extents, except where a write came after `clock`; True when the image changed."""
        if isinstance(extents, Bitmap):
            return self._disarm_map(extents, clock)
        changed = False
        for extent in extents:
            if not self._clean(extent):
                continue
            assert extent not in self.arming, "S1: a bit on its way to the disk is not cleared"
            if self.hot.get(extent, -1) > clock or not self.armed.discard(extent):
                continue
            self.hot.pop(extent, None)
            self._image[extent >> 3] &= ~(1 << (extent & 7)) & 0xFF
            self._touch(extent, extent)
            changed = True
        return changed

    def _disarm_map(self, extents: Bitmap, clock: int) -> bool:
        cleared = extents.copy()
        cleared.intersect(self.armed)
        self._drop_unclean(cleared)
        for extent, written in self.hot.items():
            if written > clock:
                cleared.discard(extent)
        if not cleared:
            return False
        armed = self.armed.copy()
        armed.subtract(cleared)
        shown = armed.copy()
        shown.unite(self.arming)
        assert shown.count == armed.count + self.arming.count, "S1: a bit on its way to the disk is not armed"
        self.armed = armed
        self.hot = {extent: written for extent, written in self.hot.items() if extent not in cleared}
        self._show(shown)
        self._touch(cleared.next(0), cleared.last())
        return True

    def show_again(self) -> None:
        """The disk is another one, or missed what was to be written: all of the image is to be stored."""
        self._touch(0, self.extents - 1)

    def image(self) -> bytes:
        """What the map on the disk is to be."""
        return bytes(self._image)

    def take_image(self) -> tuple[int, bytes] | None:
        """What has to be written to make the disk's map equal to the image: (offset within the map, bytes)."""
        if self.changed is None:
            return None
        first, last = self.changed
        start = first * self._unit_bytes
        end = min((last + 1) * self._unit_bytes, self.mapsize_bytes)
        self.changed = None
        self.updates += 1
        return start, bytes(self._image[start:end])

    def dirty_bytes(self) -> int:
        """Bytes of the extents that may differ now: owed to either copy, or with writes in flight."""
        extents = self.owed_remote.count + self.owed_local.count
        extents += sum(1 for e in self.inflight if e not in self.owed_remote and e not in self.owed_local)
        return extents * self.extentsize_bytes

    def _clean(self, extent: int) -> bool:
        """Neither in flight nor owed to a copy."""
        return extent not in self.inflight and extent not in self.owed_remote and extent not in self.owed_local

    def _drop_unclean(self, extents: Bitmap) -> None:
        extents.subtract(self.owed_remote)
        extents.subtract(self.owed_local)
        for extent in self.inflight:
            extents.discard(extent)

    def _show(self, extents: Bitmap) -> None:
        """The image is to name just these."""
        self._image[: len(extents.data)] = extents.data

    def _touch(self, first: int, last: int) -> None:
        """The image changed from this extent to that one."""
        low, high = (first >> 3) // self._unit_bytes, (last >> 3) // self._unit_bytes
        if self.changed is not None:
            low, high = min(low, self.changed[0]), max(high, self.changed[1])
        self.changed = low, high
