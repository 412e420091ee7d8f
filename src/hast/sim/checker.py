"""What clients may see: every sector is a register with a history of writes, acknowledged or not."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hast.sim.disk import SECTOR_BYTES

PRUNE_AT = 24
_SHIFT = SECTOR_BYTES.bit_length() - 1


class Write:
    """One write, of one sector or of many; `ended_s` is infinite while, or if, it was never acknowledged.

    `value` is what each of its sectors holds. `safe`: an acknowledged flush came after it, so nothing may undo it.
    """

    __slots__ = ("began_s", "ended_s", "first", "last", "safe", "value")

    def __init__(self, value: int, began_s: float, first: int = 0, last: int = 0, ended_s: float = math.inf) -> None:
        self.value = value
        self.began_s = began_s
        self.ended_s = ended_s
        self.first = first
        self.last = last
        self.safe = False


class History:
    """All writes of the data area, by sector, as far as a read may still show them.

    `horizon_s`: every read still open began at that time or later.
    """

    def __init__(self, sectors: int) -> None:
        self.sectors: list[list[Write]] = [[Write(0, -math.inf, ended_s=-math.inf)] for _ in range(sectors)]
        self.horizon_s = -math.inf

    def begin(self, offset: int, length: int, value: int, now: float) -> Write:
        """A client asks to write `value` into every one of these sectors."""
        first = offset >> _SHIFT
        last = (offset + length - 1) >> _SHIFT
        write = Write(value, now, first, last)
        for known in self.sectors[first : last + 1]:
            if len(known) >= PRUNE_AT and not len(known) % 8:
                self._prune(known)
            known.append(write)
        return write

    def ask_again(self, write: Write) -> None:
        """It was never answered, and is asked for anew: whoever carries it out does so after what came before."""
        for known in self.sectors[write.first : write.last + 1]:
            if write in known:
                known.remove(write)
            known.append(write)

    def doubt(self, writes: Iterable[Write]) -> None:
        """These were acknowledged, and may be lost all the same: more failed than their mode survives."""
        for write in writes:
            write.ended_s = math.inf
            write.safe = False

    def doubt_sector(self, number: int, after: int) -> None:
        """The same for what this sector held after the write at this place of its history."""
        known = self.sectors[number]
        for place in range(after + 1, len(known)):
            known[place] = Write(known[place].value, known[place].began_s, number, number)

    def recall(self, number: int, value: int) -> None:
        """This sector may show the value again, though the history has pruned it."""
        if self.place(number, value) < 0:
            self.sectors[number].insert(0, Write(value, -math.inf, number, number))

    def restart(self, image: memoryview, unanswered: memoryview, now: float) -> None:
        """From now on this is what was written; where `unanswered` differs, that too, by a write without an answer."""
        for number, (value, other) in enumerate(zip(image.cast("Q"), unanswered.cast("Q"), strict=True)):
            known = self.sectors[number]
            known[:] = [Write(value, now, number, number, ended_s=now)]
            if other != value:
                known.append(Write(other, now, number, number))

    def place(self, number: int, value: int) -> int:
        """Where in this sector's history the value stands, the newest place; -1 where it was never written."""
        known = self.sectors[number]
        for place in range(len(known) - 1, -1, -1):
            if known[place].value == value:
                return place
        return -1

    def place_of(self, number: int, write: Write) -> int:
        """Where this write stands, or -1 where it counts no more."""
        known = self.sectors[number]
        for place in range(len(known) - 1, -1, -1):
            if known[place] is write:
                return place
        return -1

    def wrong(self, offset: int, data: bytes | memoryview, began_s: float, ended_s: float) -> str | None:
        """Why a read of `data` between these times is wrong, or None: it has to show, for each sector, a write that
        no other write wholly came after before the read began."""
        number = offset >> _SHIFT
        for seen in memoryview(data).cast("Q"):
            known = self.sectors[number]
            if known[-1].value != seen and not self._allowed(known, seen, began_s, ended_s):
                return f"sector {number} shows {seen:x}, which was overwritten or never written"
            number += 1
        return None

    @staticmethod
    def _allowed(known: list[Write], seen: int, began_s: float, ended_s: float) -> bool:
        newest_start_s = -math.inf
        for write in known:
            if write.ended_s < began_s and write.began_s > newest_start_s:
                newest_start_s = write.began_s
        return any(w.value == seen and w.began_s <= ended_s and w.ended_s >= newest_start_s for w in known)

    def _prune(self, known: list[Write]) -> None:
        """Forget what a safe write came after, for every read that is still open or to come."""
        newest_start_s = -math.inf
        for write in known:
            if write.safe and write.ended_s < self.horizon_s and write.began_s > newest_start_s:
                newest_start_s = write.began_s
        if newest_start_s > -math.inf:
            known[:] = [write for write in known if write.ended_s >= newest_start_s]
