"""What clients may see: every sector is a register with a history of writes, acknowledged or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hast.sim.disk import SECTOR_BYTES

BLANK = bytes(SECTOR_BYTES)


@dataclass(slots=True)
class Write:
    """One write of one sector; `ended_s` is infinite while, or if, it was never acknowledged."""

    data: bytes
    began_s: float
    ended_s: float = math.inf


@dataclass(slots=True)
class History:
    """All writes of the data area, by sector."""

    sectors: dict[int, list[Write]] = field(default_factory=dict)

    def begin(self, offset: int, data: bytes, now: float) -> list[Write]:
        writes = []
        for position in range(0, len(data), SECTOR_BYTES):
            write = Write(data[position : position + SECTOR_BYTES], now)
            self.sectors.setdefault((offset + position) // SECTOR_BYTES, []).append(write)
            writes.append(write)
        return writes

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
        writes = self.sectors.get(number, [])
        newest_start = max((w.began_s for w in writes if w.ended_s < began_s), default=-math.inf)
        if seen == BLANK and newest_start == -math.inf:
            return True
        return any(w.data == seen and w.began_s <= ended_s and w.ended_s >= newest_start for w in writes)
