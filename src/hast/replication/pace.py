"""How long the two disks take for reads, writes and flushes, and which of them is slow beside the other.

Every time goes into `latency`. Writes and flushes that both copies carried out together are compared as well, in
windows: one ends when it is WINDOW_S old and holds enough of both copies; a copy is slow when in two windows in a row
its p99 was far above the other's, and no more when in two windows in a row it was not by far.

A write and a read are sampled now and then, one at a time; each flush is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hast.replication.latency import FLUSH, LOCAL, PEER, READ, SAMPLE_EVERY_S, WRITE, Histogram, Latency, Sample
from hast.replication.sync_pace import SyncPace
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
            self._judge(self.local.percentile_s(99), self.peer.percentile_s(99))
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
        self.latency = Latency()
        self.sync = SyncPace()
        self.reads = Sample()
        self.writes, self.flushes = Comparison(WRITE), Comparison(FLUSH)
        self.sample_at_s = 0.0
        """From when on the next write may be sampled; none while one is under way."""
        self.sampled: Request | None = None
        """The write whose time is taken, until the local disk has carried it out."""
        self.sampled_seq = 0
        """Its seq, until the peer has."""
        self._left = 0
        self._compared = False
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
        self.sync.forget()
        self._end(0.0)
        self.reads.end(0.0)

    def link_lost(self) -> None:
        """What was sampled is not answered; what was said of either disk stays."""
        self._end(0.0)
        if self.reads.seq:
            self.reads.end(0.0)

    def flushed(self, local_s: float, peer_s: float, now: float, *, compare: bool, awaited: bool) -> None:
        """A flush took so long; -1 of a copy that did not carry it out. `compare`: both began with as much to do;
        `awaited`: by a client."""
        if awaited and local_s >= 0 and peer_s >= 0:
            self.sync.waited(FLUSH, max(local_s, peer_s), now)
        if local_s >= 0:
            self.latency.add(FLUSH, LOCAL, local_s)
        if peer_s >= 0:
            self.latency.add(FLUSH, PEER, peer_s)
        if compare and local_s >= 0 and peer_s >= 0:
            self.flushes.local.add(local_s)
            self.flushes.peer.add(peer_s)

    def sample(self, request: Request, seq: int, now: float, compare: bool) -> None:
        """This write went to the local disk and, with this seq, to the peer just now; 0: to the local disk only.

        `request.left` counts the answers that it waits for.
        """
        self.sampled, self.sampled_seq, self._left = request, seq, request.left
        self._compared = compare
        self.sample_at_s = float("inf")
        self._began_s = now
        self._local_s = self._peer_s = -1.0

    def look_at_local(self, now: float) -> None:
        """The local disk has answered something."""
        if self.sampled is None or self.sampled.left >= self._left:
            return
        self._local_s = now - self._began_s
        if not self.sampled.local_error:
            self.latency.add(WRITE, LOCAL, self._local_s)
        self.sampled = None
        self._part_done(now)

    def peer_done(self, now: float) -> None:
        """The peer has carried the sampled write out."""
        self._left -= 1
        self._peer_s = now - self._began_s
        self.latency.add(WRITE, PEER, self._peer_s)
        self.sampled_seq = 0
        self._part_done(now)

    def _part_done(self, now: float) -> None:
        if self.sampled is not None or self.sampled_seq:
            return
        if self._local_s >= 0 and self._peer_s >= 0:
            self.sync.waited(WRITE, max(self._local_s, self._peer_s), now)
        if self._compared:
            self.writes.local.add(self._local_s)
            self.writes.peer.add(self._peer_s)
        self._end(now)

    def _end(self, now: float) -> None:
        self.sampled, self.sampled_seq = None, 0
        self.sample_at_s = now + SAMPLE_EVERY_S

    def read_here(self, batch: Sequence[Request], now: float) -> None:
        """The local disk has answered these, and a read is sampled."""
        seconds = self.reads.ended(batch, now)
        if seconds is not None:
            self.latency.add(READ, LOCAL, seconds)
            self.sync.waited(READ, seconds, now)

    def read_there(self, now: float) -> None:
        """The peer has answered the sampled read."""
        self.latency.add(READ, PEER, self.reads.end(now))

    def look(self, now: float) -> Slow | None:
        """Ask now and then; returns what is to be told, once: a copy that is slow from now on."""
        self.writes.look(now)
        self.flushes.look(now)
        slow = self.slow
        before, self._told = self._told, slow.copy if slow is not None else ""
        return slow if self._told != before else None
