"""Which of two equal copies serves a read sooner (`read-balancing`). Decides only: no I/O, no clock, no rule of safety.

Of each copy it is known what is under way there, and how long that much takes, by the reads that it has served. A copy
that nobody asked for a while is asked once, so that it is known when that changes.
"""

from __future__ import annotations

READ_COST_BYTES = 16 * 1024
"""What a read costs beside its length."""
WEIGHT = 0.125
"""Of the last time in the mean of all."""
PREFERRED = 0.8
"""The peer is asked where it takes less than this share of what the local disk does: a read there costs both nodes."""
PROBE_EVERY_S = 1.0
LATE_S, LATE_TIMES = 0.1, 8.0
"""A read at the peer is late after LATE_TIMES what was expected, and no sooner than LATE_S."""
AVOID_S = 5.0
"""A peer that was late, or failed a read, is not asked for so long."""


class Queue:
    """The reads of one copy."""

    def __init__(self) -> None:
        self.under_way_bytes = 0
        self._s_per_byte = -1.0
        self._asked_s = -PROBE_EVERY_S

    def expected_s(self, cost_bytes: int) -> float:
        """How long one more would take; -1 when that is not known."""
        return -1.0 if self._s_per_byte < 0 else self._s_per_byte * (self.under_way_bytes + cost_bytes)

    def is_forgotten(self, now: float) -> bool:
        """Nobody has asked this copy for a while."""
        return now - self._asked_s >= PROBE_EVERY_S

    def begin(self, cost_bytes: int, now: float) -> int:
        """A read goes there; what is under way with it."""
        self._asked_s = now
        self.under_way_bytes += cost_bytes
        return self.under_way_bytes

    def end(self, cost_bytes: int) -> None:
        """It is over, or given up."""
        self.under_way_bytes -= cost_bytes
        assert self.under_way_bytes >= 0, "more reads ended than began"

    def took(self, seconds: float, under_way_bytes: int) -> None:
        """One that began with so much under way was served."""
        last = seconds / under_way_bytes
        known = self._s_per_byte >= 0
        self._s_per_byte = self._s_per_byte + WEIGHT * (last - self._s_per_byte) if known else last


class Balance:
    """Of one primary."""

    def __init__(self) -> None:
        self.local, self.peer = Queue(), Queue()
        self._avoid_until_s = 0.0

    def reset(self) -> None:
        """Another link, or another disk."""
        self.local, self.peer = Queue(), Queue()

    def prefers_peer(self, cost_bytes: int, now: float) -> bool:
        """Where the next read is to go."""
        if now < self._avoid_until_s:
            return False
        if self.peer.is_forgotten(now):
            return True
        here_s, there_s = self.local.expected_s(cost_bytes), self.peer.expected_s(cost_bytes)
        return 0 <= there_s < PREFERRED * here_s and not self.local.is_forgotten(now)

    def late_at_s(self, cost_bytes: int, now: float) -> float:
        """When the read that begins at the peer now is late."""
        return now + max(LATE_S, LATE_TIMES * self.peer.expected_s(cost_bytes))

    def avoid_peer(self, now: float) -> None:
        """It was late, or failed."""
        self._avoid_until_s = now + AVOID_S


def cost_bytes(length: int) -> int:
    """Of a read."""
    return READ_COST_BYTES + length
