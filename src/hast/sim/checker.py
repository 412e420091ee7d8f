"""What clients may see: every sector is a register with a history of writes, acknowledged or not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hast.sim.disk import SECTOR_BYTES

BLANK = bytes(SECTOR_BYTES)
PRUNE_AT = 24


@dataclass(slots=True)
class Write:
    """One write of one sector; `ended_s` is infinite while, or if, it was never acknowledged.

    `safe`: an acknowledged flush came after it, so nothing may undo it any more.
    """

    data: bytes
    began_s: float
    ended_s: float = math.inf
    safe: bool = False


@dataclass(slots=True)
class History:
    """All writes of the data area, by sector, as far as a read may still show them.

    `horizon_s`: every read still open began at that time or later.
    """

    sectors: dict[int, list[Write]] = field(default_factory=dict)
    horizon_s: float = -math.inf
    _overwritten: set[int] = field(default_factory=set)

    def begin(self, offset: int, data: bytes, now: float) -> list[Write]:
        """A client asks to write `data`; returns one Write for each sector."""
        writes = []
        for position in range(0, len(data), SECTOR_BYTES):
            write = Write(data[position : position + SECTOR_BYTES], now)
            number = (offset + position) // SECTOR_BYTES
            known = self.sectors.setdefault(number, [])
            if len(known) >= PRUNE_AT:
                self._prune(number, known)
            known.append(write)
            writes.append(write)
        return writes

    def doubt(self, writes: Iterable[Write]) -> None:
        """These were acknowledged, and may be lost all the same: more failed than their mode survives."""
        for write in writes:
            write.ended_s = math.inf

    def wrong(self, offset: int, data: bytes, began_s: float, ended_s: float) -> str | None:
        """Why a read of `data` between these times is wrong, or None: it has to show, for each sector, a write that
        no other write wholly came after before the read began."""
        for position in range(0, len(data), SECTOR_BYTES):
            number = (offset + position) // SECTOR_BYTES
            seen = data[position : position + SECTOR_BYTES]
            if not self._allowed(number, seen, began_s, ended_s):
                return f"sector {number} shows {seen[:8].hex()}, which was overwritten or never written"
        return None

    def _allowed(self, number: int, seen: bytes, began_s: float, ended_s: float) -> bool:
        writes = self.sectors.get(number, ())
        newest_start = -math.inf
        for write in writes:
            if write.ended_s < began_s and write.began_s > newest_start:
                newest_start = write.began_s
        if newest_start == -math.inf and seen == BLANK and number not in self._overwritten:
            return True
        return any(w.data == seen and w.began_s <= ended_s and w.ended_s >= newest_start for w in writes)

    def _prune(self, number: int, known: list[Write]) -> None:
        """Forget what a safe write came after, for every read that is still open or to come."""
        newest_start = -math.inf
        for write in known:
            if write.safe and write.ended_s < self.horizon_s and write.began_s > newest_start:
                newest_start = write.began_s
        if newest_start > -math.inf:
            self._overwritten.add(number)
            known[:] = [write for write in known if write.ended_s >= newest_start]
