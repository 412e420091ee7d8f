"""The counters of a host's own advertisements: they follow the clock, so they only move forward, across restarts too.

No I/O, no clock here.
"""

from __future__ import annotations

COUNTS_PER_US = 256
"""Counters move by this much per microsecond; the remainder is a random salt, so that two hosts never agree."""
STEPS_PER_S = 4
"""Within a step counters move by one, so that what is sent at once, for both families, is close together."""
TAKE_OVER = 1 << 48
"""A counter heard that is ahead of ours by less than this is taken over; random ones are mostly further away."""
_MODULUS = 1 << 64


class Counter:
    """`start` is the wall clock in microseconds, times COUNTS_PER_US, plus a random number below it, at `started_s`."""

    def __init__(self, start: int, started_s: float) -> None:
        self._start = start
        self._started_s = started_s
        self._last = start

    def heard(self, counter: int) -> None:
        """Another master's counter: ours go on from there when it is ahead, as a receiver of CARP is expected to."""
        if 0 < (counter - self._last) % _MODULUS < TAKE_OVER:
            self._last = counter

    def next(self, now: float) -> int:
        """The counter of the next packet, ahead of every earlier one and of those taken over."""
        steps = int((now - self._started_s) * STEPS_PER_S)
        clock = self._start + steps * (1_000_000 // STEPS_PER_S) * COUNTS_PER_US
        ahead = (clock - self._last) % _MODULUS
        self._last = clock if 0 < ahead < _MODULUS // 2 else (self._last + 1) % _MODULUS
        return self._last
