"""Refusal of advertisements that were recorded and sent again.

The HMAC of CARP proves who made a counter, not when, and it does not cover advskew: a recorded advertisement can be
altered and sent again at any time. Senders differ. Ours follow the clock, so they only move forward, across restarts
too. FreeBSD and ucarp draw a new random counter for every advertisement until they have heard another master, and
count by one afterwards. Rules, for all masters of one vhid together (the source address is not proven either):

- A counter that was accepted before, or that this host sent itself, is refused, always, also after a restart.
- After two steps forward the masters are taken to count; from then on a counter that is not ahead, or far ahead, is
  refused ...
- ... until nothing was accepted for twice the last interval: a master that restarted starts a new sequence.

Performs no I/O and reads no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

MEMORY = 32768
"""Counters remembered: nine hours of one master with advbase 1."""
LATE_WINDOW = 64
"""The IPv4 and IPv6 advertisements of one interval may arrive in either order."""
MAX_STEP = 1 << 40
"""The most that a counting master is ahead of its last advertisement: 71 minutes of ours."""
STEPS_TO_TRUST = 2
_MODULUS = 1 << 64


class ReplayGuard:
    """Judges the counters of one vhid. `resyncs` counts the new sequences that were accepted.

    `seen` are those that an earlier process of this host remembered, oldest first; `note` is told each new one.
    """

    def __init__(self, seen: Iterable[int] = (), note: Callable[[int], None] | None = None) -> None:
        self.last: int | None = None
        self.resyncs = 0
        self._steps = 0
        self._silent_at = 0.0
        self._known: set[int] = set()
        self._order: deque[int] = deque()
        self._note: Callable[[int], None] | None = None
        for counter in seen:
            self._remember(counter)
        self._note = note

    @property
    def counting(self) -> bool:
        """The masters of this vhid count instead of drawing random numbers."""
        return self._steps >= STEPS_TO_TRUST

    def refusal(self, counter: int, interval_s: float, now: float) -> str | None:
        """Judge an authentic advertisement: None when it is new (and now remembered), else why it is refused."""
        if counter in self._known:
            return "its counter was used before"
        if self.last is not None:
            ahead = (counter - self.last) % _MODULUS
            if _MODULUS - ahead <= LATE_WINDOW:
                self._remember(counter)
                return None
            if ahead < MAX_STEP:
                self._steps += 1
            elif self.counting and now < self._silent_at:
                return "its counter is not ahead of the last one"
            else:
                self._steps = 0
                self.resyncs += 1
        self.last = counter
        self._silent_at = now + 2 * interval_s
        self._remember(counter)
        return None

    def sent(self, counter: int) -> None:
        """This host sent this counter itself; hearing it again is a reflection."""
        self._remember(counter)

    def _remember(self, counter: int) -> None:
        if counter in self._known:
            return
        if len(self._order) == MEMORY:
            self._known.discard(self._order.popleft())
        self._order.append(counter)
        self._known.add(counter)
        if self._note is not None:
            self._note(counter)
