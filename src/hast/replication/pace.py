"""How long the two disks take for writes and flushes, and which of them is slow beside the other.

Times go into histograms whose buckets are a quarter of a power of two of microseconds wide. A window ends when it is
WINDOW_S old and holds enough of both copies; a copy is slow when in two windows in a row its p99 was far above the
other's, and no more when in two windows in a row it was not by far. The peer's times are those seen from here: the
network is in them.

A write is sampled now and then, one at a time; of flushes, of which one at a time is under way anyway, each one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hast.replication.types import Request

WINDOW_S = 10.0
LEAST = 100
"""So many times of each copy make a p99."""
FAR = 8.0
NOT_FAR = 4.0
"""The p99 of a slow disk is FAR times the other's; it is slow no more below NOT_FAR times."""
EXCESS_S = 0.02
"""Less than this more than the other is nothing that anybody has to look at."""
CONFIRM = 2
SAMPLE_EVERY_S = 0.005
BUCKETS = 128
LOCAL, PEER = "local", "peer"
WRITE, FLUSH = "write", "flush"


class Histogram:
    """Of times; nothing is kept of a single one."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        us = max(0, int(seconds * 1e6))
        bits = us.bit_length()
        quarter = us >> (bits - 3) & 3 if bits >= 3 else 0
        self._buckets[min(4 * bits + quarter, BUCKETS - 1)] += 1
        self.count += 1

    def p99_s(self) -> float:
        """No more than a quarter too high; 0 when nothing was added."""
        left = self.count - self.count // 100
        for bucket, count in enumerate(self._buckets):
            left -= count
            if count and left <= 0:
                bits, quarter = divmod(bucket, 4)
                return ((5 + quarter) << bits >> 3) / 1e6 if bits >= 3 else (1 << bits) / 1e6
        return 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """`copy` is LOCAL or PEER, `operation` WRITE or FLUSH; p99 of that copy and of the other one."""

    copy: str
    operation: str
    p99_s: float
    other_p99_s: float


class Comparison:
    """Of one operation. `verdict` is the last."""

    def __init__(self, operation: str) -> None:
        self.verdict: Slow | None = None
        self.local, self.peer = Histogram(), Histogram()
        self._operation = operation
        self._began_s: float | None = None
        self._seen, self._times = "", 0
        """What the last windows had in common, and how many they were."""

    def reset(self) -> None:
        """Another disk, or another peer: what was measured holds no more."""
        self.verdict = None
        self._seen, self._times = "", 0
        self._begin(None)

    def look(self, now: float) -> None:
        """Ask now and then."""
        if self._began_s is None:
            self._begin(now)
        elif now - self._began_s >= WINDOW_S and min(self.local.count, self.peer.count) >= LEAST:
            self._judge(self.local.p99_s(), self.peer.p99_s())
            self._begin(now)

    def _begin(self, now: float | None) -> None:
        self._began_s = now
        self.local, self.peer = Histogram(), Histogram()

    def _judge(self, local_s: float, peer_s: float) -> None:
        copy, high_s, low_s = (LOCAL, local_s, peer_s) if local_s > peer_s else (PEER, peer_s, local_s)
        factor = NOT_FAR if self.verdict is not None and self.verdict.copy == copy else FAR
        seen = copy if high_s >= factor * low_s and high_s - low_s >= EXCESS_S else ""
        self._times = self._times + 1 if seen == self._seen else 1
        self._seen = seen
        if self._times >= CONFIRM:
            self.verdict = Slow(seen, self._operation, high_s, low_s) if seen else None


class Pace:
    """Of one primary. `slow` is the verdict: which disk, if any."""

    def __init__(self) -> None:
        self.writes, self.flushes = Comparison(WRITE), Comparison(FLUSH)
        self.sample_at_s = 0.0
        """From when on the next write may be sampled; none while one is under way."""
        self.sampled: Request | None = None
        """The write whose time is taken, until the local disk has carried it out."""
        self.sampled_seq = 0
        """Its seq, until the peer has."""
        self._left = 0
        self._told = ""
        """The copy that is said to be slow."""
        self._began_s = 0.0
        self._local_s = self._peer_s = -1.0

    @property
    def slow(self) -> Slow | None:
        return self.flushes.verdict or self.writes.verdict

    def reset(self) -> None:
        """Another disk, or another peer."""
        self.writes.reset()
        self.flushes.reset()
        self._end(0.0)

    def link_lost(self) -> None:
        """What was sampled is not answered; what was said of either disk stays."""
        self._end(0.0)

    def flushed(self, local_s: float, peer_s: float) -> None:
        """A flush of both copies, which began together, took so long."""
        self.flushes.local.add(local_s)
        self.flushes.peer.add(peer_s)

    def sample(self, request: Request, seq: int, now: float) -> None:
        """This write went to both copies just now. `request.left` counts the answers that it waits for."""
        self.sampled, self.sampled_seq, self._left = request, seq, request.left
        self.sample_at_s = float("inf")
        self._began_s = now
        self._local_s = self._peer_s = -1.0

    def look_at_local(self, now: float) -> None:
        """The local disk has answered something."""
        if self.sampled is None or self.sampled.left >= self._left:
            return
        self._local_s = now - self._began_s
        self.sampled = None
        self._both_done(now)

    def peer_done(self, now: float) -> None:
        """The peer has carried the sampled write out."""
        self._left -= 1
        self._peer_s = now - self._began_s
        self.sampled_seq = 0
        self._both_done(now)

    def _both_done(self, now: float) -> None:
        if self._local_s >= 0 and self._peer_s >= 0:
            self.writes.local.add(self._local_s)
            self.writes.peer.add(self._peer_s)
            self._end(now)

    def _end(self, now: float) -> None:
        self.sampled, self.sampled_seq = None, 0
        self.sample_at_s = now + SAMPLE_EVERY_S

    def look(self, now: float) -> Slow | None:
        """Ask now and then; returns what is to be told, once: a copy that is slow from now on."""
        self.writes.look(now)
        self.flushes.look(now)
        slow = self.slow
        before, self._told = self._told, slow.copy if slow is not None else ""
        return slow if self._told != before else None
