"""A line for each cause now and then, not for each time: what a stranger can make happen must not fill a log."""

from __future__ import annotations

from collections.abc import Callable

MAX_CAUSES = 256
"""Remembered at once; the one told longest ago gives way."""


class Throttle:
    """Each cause is told at once, then at most once in `interval_s`, with how often it came meanwhile."""

    def __init__(self, interval_s: float, now: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._now = now
        self._causes: dict[str, tuple[float, int]] = {}

    def count(self, cause: str) -> int:
        """How often this cause came since it was told last, if it is to be told now; else 0."""
        now = self._now()
        told_s, unsaid = self._causes.pop(cause, (float("-inf"), 0))
        unsaid += 1
        due = now - told_s >= self._interval_s
        self._causes[cause] = (now, 0) if due else (told_s, unsaid)
        if len(self._causes) > MAX_CAUSES:
            del self._causes[next(iter(self._causes))]
        return unsaid if due else 0
