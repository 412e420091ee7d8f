"""How fast a synchronisation may copy beside clients (`sync-rate auto`). Decides only: no I/O, no clock.

While no client asks for anything the pass is bounded by its own queue alone: as many pieces are in flight as go through
within QUEUE_S more than one alone takes. While clients are at work there is a rate, which follows what they wait for:
their times are compared with those of the same clients beside no copying, taken before the pass and, as they change, in
short pauses of it. It is never below FLOOR_BYTES_S, so that every pass ends.
"""

from __future__ import annotations

from collections import deque

from hast.replication.latency import FLUSH, READ, WRITE

PIECES, FIRST_PIECES, PIECES_BUSY = 32, 8, 4
PIECE_BYTES, LEAST_PIECE_BYTES = 256 * 1024, 16 * 1024
QUEUE_S = 0.015
"""With no client at work; one that comes waits no longer than that for the pieces before it."""
PIECE_S = 0.00025
"""With clients at work a piece is what the rate makes of so much time."""
BURST_S = 0.002
"""Without a call for so long, the pass makes up for it; not for more."""

FLOOR_BYTES_S = 8 << 20
"""A terabyte in a day and a half, however much clients wait."""
FIRST_BYTES_S = 64 << 20
MOST_BYTES_S = 4 << 30

PERCENT = 95
"""Of the waits in one interval; few samples have no p99."""
FAR, NEAR = 1.5, 1.25
"""Beyond FAR times what it is beside no copying the rate goes down, below NEAR times it goes up; it stays between."""
DOWN, UP = 0.7, 1.15
INTERVAL_S, LONGEST_INTERVAL_S = 0.1, 1.0
LEAST, FEWEST = 8, 3
"""Samples that judge an interval; when it becomes the longest, the fewest do."""
KEPT = 64
PAUSE_EVERY_S, PAUSE_S = 5.0, 0.2
TINY_S = 0.00005
"""Nothing is told from waits shorter than this."""


class SyncPace:
    """Of one primary. `look` before each decision; then `pieces`, `piece_bytes` and `rate_bytes_s` (0: none) hold."""

    def __init__(self) -> None:
        self.pieces = PIECES
        self.piece_bytes = PIECE_BYTES
        self.rate_bytes_s = 0.0
        self._busy_bytes_s = float(FIRST_BYTES_S)
        """The rate beside clients, kept while there are none."""
        self._window = float(FIRST_PIECES)
        self._least_s = float("inf")
        """The shortest that one piece took."""
        self._copying = False
        self._quiet: dict[str, deque[float]] = {name: deque(maxlen=KEPT) for name in (READ, WRITE, FLUSH)}
        """What clients waited for beside no copying."""
        self._seen: dict[str, deque[float]] = {name: deque(maxlen=KEPT) for name in (READ, WRITE, FLUSH)}
        self._interval_s = 0.0
        self._pause_at_s = 0.0
        self._pausing = False
        self._still_s = -1.0
        """Since when no piece is in flight in this pause."""

    def begin(self, now: float) -> None:
        """A pass begins."""
        self._copying = True
        self._pausing = False
        self._window, self._least_s = float(FIRST_PIECES), float("inf")
        self._pause_at_s = now + PAUSE_EVERY_S if self._knows() else now
        self._next_interval(now)

    def end(self) -> None:
        """It is over, or interrupted."""
        self._copying = self._pausing = False
        self.rate_bytes_s = 0.0

    def forget(self) -> None:
        """Another disk, or another peer: what clients waited for says nothing any more."""
        for waits in self._quiet.values():
            waits.clear()

    def waited(self, operation: str, seconds: float, now: float) -> None:
        """A client has waited so long for both copies, or for the one that serves it."""
        if not self._copying:
            self._quiet[operation].append(seconds)
        elif not self._pausing:
            self._seen[operation].append(seconds)
        elif 0 <= self._still_s <= now - seconds:
            self._quiet[operation].append(seconds)

    def piece_took(self, seconds: float) -> None:
        """One of them, from its start to its end on both copies; not more often than one takes."""
        self._least_s = min(self._least_s, seconds)
        if seconds > self._least_s + QUEUE_S:
            self._window = max(float(PIECES_BUSY), self._window * DOWN)
        else:
            self._window = min(float(PIECES), self._window + 1.0)

    def look(self, now: float, busy: bool, in_flight: int) -> None:
        """`busy`: a client has asked for something just now."""
        if not busy:
            self._pausing = False
            self._pause_at_s = min(self._pause_at_s, now + PAUSE_EVERY_S)
            self.pieces, self.piece_bytes, self.rate_bytes_s = int(self._window), PIECE_BYTES, 0.0
            self._next_interval(now)
            return
        if self._pausing and self._pause_over(now, in_flight):
            self._pausing = False
            self._pause_at_s = now + PAUSE_EVERY_S
            self._next_interval(now)
        elif not self._pausing and now >= self._pause_at_s:
            self._pausing, self._still_s = True, -1.0
            for waits in self._quiet.values():
                waits.clear()
        elif not self._pausing:
            self._judge(now)
        self.rate_bytes_s = self._busy_bytes_s
        self.piece_bytes = _piece_bytes(self._busy_bytes_s)
        self.pieces = 0 if self._pausing else min(PIECES_BUSY, int(self._window))

    def _pause_over(self, now: float, in_flight: int) -> bool:
        if self._still_s < 0 and not in_flight:
            self._still_s = now
        return 0 <= self._still_s <= now - PAUSE_S

    def _judge(self, now: float) -> None:
        age_s = now - self._interval_s
        if age_s < INTERVAL_S:
            return
        worst = self._worst(LEAST if age_s < LONGEST_INTERVAL_S else FEWEST)
        if worst < 0:
            if age_s >= LONGEST_INTERVAL_S:
                self._next_interval(now)
            return
        if worst > FAR:
            self._busy_bytes_s = max(float(FLOOR_BYTES_S), self._busy_bytes_s * DOWN)
        elif worst < NEAR:
            self._busy_bytes_s = min(float(MOST_BYTES_S), self._busy_bytes_s * UP)
        self._next_interval(now)

    def _worst(self, least: int) -> float:
        """How many times what it is beside no copying; -1 where too little was seen."""
        worst = -1.0
        for operation, seen in self._seen.items():
            quiet = self._quiet[operation]
            if len(seen) >= least and len(quiet) >= FEWEST:
                worst = max(worst, _percentile(seen) / max(_percentile(quiet), TINY_S))
        return worst

    def _knows(self) -> bool:
        return any(len(waits) >= LEAST for waits in self._quiet.values())

    def _next_interval(self, now: float) -> None:
        self._interval_s = now
        for waits in self._seen.values():
            waits.clear()


def _percentile(waits: deque[float]) -> float:
    return sorted(waits)[len(waits) * PERCENT // 100]


def _piece_bytes(rate_bytes_s: float) -> int:
    """A power of two."""
    size_bytes = LEAST_PIECE_BYTES
    while size_bytes < PIECE_BYTES and size_bytes * 2 <= rate_bytes_s * PIECE_S:
        size_bytes *= 2
    return size_bytes
