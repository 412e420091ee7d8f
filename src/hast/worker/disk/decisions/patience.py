"""How long the local disk may take for one operation, and when it is held for hung.

An operation counts from the moment in which the disk is given it: what waits behind others is not the disk's delay.
Times are handed in. `begin` and `end` may come from the threads that sleep in the disk, all else from the reactor's.
"""

from __future__ import annotations

from dataclasses import dataclass

DOUBTFUL_AFTER_S = 0.5
"""While an operation has been out for longer, the reactor's own thread touches the disk no more."""

PROGRESS_COUNTS_TIMES = 6
"""An operation that is out for so many times the limit hangs, whatever the disk does for others."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The disk did not answer. `operation` in words, `began_s` of the clock that was handed in."""

    operation: str
    began_s: float
    age_s: float


class Patience:
    """Operations under way. `limit_s`: the disk may be silent for so long while one is out; 0 is any time."""

    def __init__(self, limit_s: float = 0.0) -> None:
        self.limit_s = limit_s
        self._answered_s = 0.0
        self._under_way: dict[object, tuple[float, object]] = {}

    def begin(self, key: object, operation: object, now_s: float) -> None:
        """The disk is asked now; `operation` as a string says what."""
        self._under_way[key] = (now_s, operation)

    def end(self, key: object) -> None:
        """It answered."""
        self._under_way.pop(key, None)

    def answered(self, now_s: float) -> None:
        """The disk completed something, be it for others: a flush of much data is slow and not hung."""
        self._answered_s = now_s

    def is_doubtful(self, now_s: float) -> bool:
        """Whether whoever asks the disk now may have to sleep for long."""
        oldest = self._oldest()
        return oldest is not None and now_s - oldest[0] > DOUBTFUL_AFTER_S

    def judge(self, now_s: float) -> Hang | None:
        """The operation for which the disk counts as hung, if there is one."""
        oldest = self._oldest()
        if oldest is None or not self.limit_s:
            return None
        age_s = now_s - oldest[0]
        silent_s = min(age_s, now_s - self._answered_s)
        if silent_s < self.limit_s and age_s < self.limit_s * PROGRESS_COUNTS_TIMES:
            return None
        return Hang(str(oldest[1]), oldest[0], age_s)

    def _oldest(self) -> tuple[float, object] | None:
        under_way = list(self._under_way.values())  # a copy: the threads change it meanwhile
        return under_way[0] if under_way else None
