"""Clients at work on whichever node serves; every answer is checked against the history of what was asked."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hast.replication.primary import Primary
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Request
from hast.sim.checker import History, Write
from hast.sim.cluster import Cluster, Link
from hast.sim.disk import SECTOR_BYTES
from hast.sim.node import Node
from hast.sim.truth import Truth

LENGTHS = (1, 1, 1, 1, 2, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class Habits:
    """How clients work. `gap_s` mean time between batches, `batch` most operations of one, `depth` most unanswered;
    `reads` and so on are shares of all operations, the rest are writes; `spread` sectors they touch, from the
    first."""

    gap_s: float = 0.02
    batch: int = 3
    depth: int = 12
    reads: float = 0.25
    flushes: float = 0.06
    zeroes: float = 0.05
    discards: float = 0.04
    fua: float = 0.1
    spread: int = 10_000


class Clients:
    """Overlap on purpose, and keep the history. They rest until told to work."""

    def __init__(self, cluster: Cluster, history: History, truth: Truth, datasize_bytes: int) -> None:
        self.world = cluster.world
        self.cluster = cluster
        self.history = history
        self.truth = truth
        self.habits = Habits()
        self._shares: tuple[tuple[int, float], ...] = ()
        self.working = False
        self.answered = self.writes_answered = self.flushes_answered = self.errors = 0
        self.direct: dict[Request, int | None] = {}
        """Requests made by hand → their errno, None until they are answered."""
        self._rng = cluster.world.stream("clients")
        self._sectors = datasize_bytes // SECTOR_BYTES
        self._stamp = 0
        self._open: dict[Request, tuple[Write | None, float, bool]] = {}
        """Unanswered operation → its write, when it was asked for, FUA."""
        self._unflushed: list[tuple[Request, Write]] = []
        """Answered writes that no flush has covered yet. `request.left`: copies that have it still to confirm."""
        self._round = 0
        self._told: list[float] = [-1.0]
        """When flushes were answered with an error: nothing asked for before that is promised to become durable, but by
        a flush that had been asked for when that one failed."""
        self._served: dict[Request, Link] = {}
        """Unanswered operation → the link over which the peer could serve it when it was asked for."""
        self._resend = False
        for node in cluster.nodes.values():
            node.on_finished = self._finished
        cluster.on_served = self.send_again
        cluster.on_refused = self.server_gone

    @property
    def open(self) -> int:
        """Operations without an answer."""
        return len(self._open)

    def work(self, habits: Habits) -> None:
        """From now on, in this way."""
        self.habits = habits
        self._shares = (
            (READ, habits.reads),
            (FLUSH, habits.flushes),
            (ZERO, habits.zeroes),
            (DELETE, habits.discards),
        )
        self.working = True
        self._round += 1
        self._work(self._round)

    def rest(self) -> None:
        """No new operations."""
        self.working = False
        self._round += 1

    def server_gone(self) -> None:
        """The worker that served is gone: what was open is never answered."""
        self._open.clear()
        self._served.clear()

    def worker_gone(self) -> None:
        """The worker that served is gone: the kernel waits, and sends what is open to the next one."""
        self._served.clear()
        self._resend = True
        for request in [request for request, error in self.direct.items() if error is None]:
            self.direct[request] = -1

    def send_again(self) -> None:
        """In no particular order."""
        engine, node = self.cluster.engine(), self.cluster.primary()
        if not self._resend or engine is None or node is None:
            return
        self._resend = False
        unanswered, batch = list(self._open), []
        self._rng.shuffle(unanswered)
        for request in unanswered:
            opened, data = self._open.pop(request), request.cookie
            again = Request(request.op, request.offset, request.length, data, client=self, cookie=data, fua=opened[2])
            self._open[again] = opened
            if opened[0] is not None:
                self.history.ask_again(opened[0])
            batch.append(again)
        if batch:
            self.truth.states.add("requests sent again")
            engine.submit(batch, self.world.now)
            node.pump()

    def start_over(self) -> None:
        """The history begins anew: reads under way are not judged, writes under way may still come."""
        now = self.world.now
        self._open = {request: opened for request, opened in self._open.items() if request.op != READ}
        again: list[tuple[int, Request, int]] = []
        newest = 0
        for request, (opened, _began_s, _fua) in self._open.items():
            if opened is not None:
                newest = max(newest, opened.value)
                again.append((newest, request, opened.value))
        for request, error in self.direct.items():
            if error is None and request.data is not None:
                value = int.from_bytes(request.data, sys.byteorder)
                again.append((value, request, value))
        for _order, request, value in sorted(again, key=lambda each: each[0]):  # zeroing has no number of its own
            write = self.history.begin(request.offset, request.length, value, now)
            if request in self._open:
                self._open[request] = (write, now, self._open[request][2])

    def doubt_unconfirmed(self) -> None:
        """The primary is lost: what the peer had not confirmed for good goes with it (asynchronous replication)."""
        self.history.doubt(write for request, write in self._unflushed if request.left or request.remote_error)

    def doubt_unflushed(self) -> None:
        """The only good copy lost its cache: what no flush covered may be gone, as on any single disk."""
        self.history.doubt(write for _request, write in self._unflushed)

    def submit(self, op: int, sector: int, sectors: int, fua: bool = False) -> None:
        """One operation of this kind, now, if anybody serves."""
        engine, node = self.cluster.engine(), self.cluster.primary()
        if engine is not None and node is not None and self.cluster.admitting:
            engine.submit([self._make(op, sector, min(sectors, self._sectors - sector), fua)], self.world.now)
            node.pump()

    def write_directly(self, name: str, sector: int) -> Request | None:
        """A write of one sector by a client of this node, whoever serves; in the history it is never acknowledged."""
        node = self.cluster.nodes[name]
        if not isinstance(node.engine, Primary):
            return None
        self._stamp += 1
        data = self._stamp.to_bytes(SECTOR_BYTES, sys.byteorder)
        request = Request(WRITE, sector * SECTOR_BYTES, SECTOR_BYTES, data)
        self.direct[request] = None
        self.history.begin(request.offset, SECTOR_BYTES, self._stamp, self.world.now)
        node.engine.submit([request], self.world.now)
        node.pump()
        return request

    def _work(self, this_round: int) -> None:
        if this_round != self._round:
            return
        habits, rng = self.habits, self._rng
        engine, node = self.cluster.engine(), self.cluster.primary()
        if engine is not None and node is not None and self.cluster.admitting and len(self._open) < habits.depth:
            engine.submit([self._draw() for _ in range(1 + int(rng.random() * habits.batch))], self.world.now)
            node.pump()
        self.world.after(rng.random() * 2 * habits.gap_s, self._work, this_round)

    def _draw(self) -> Request:
        rng, habits = self._rng, self.habits
        op, share = WRITE, rng.random()
        for other, width in self._shares:
            if share < width:
                op = other
                break
            share -= width
        sectors = min(habits.spread, self._sectors)
        first = int(rng.random() * sectors)
        length = min(LENGTHS[int(rng.random() * len(LENGTHS))], self._sectors - first)
        return self._make(op, first, length, op == WRITE and rng.random() < habits.fua)

    def _make(self, op: int, sector: int, sectors: int, fua: bool) -> Request:
        now = self.world.now
        if op == FLUSH:
            request = Request(FLUSH, 0, 0, client=self)
            self._open[request] = (None, now, False)
            return request
        offset, length = sector * SECTOR_BYTES, sectors * SECTOR_BYTES
        data, value = None, 0
        if op == WRITE:
            self._stamp = value = self._stamp + 1
            data = value.to_bytes(SECTOR_BYTES, sys.byteorder) * sectors
        request = Request(op, offset, length, data, client=self, cookie=data, fua=fua)
        self.history.horizon_s = min((began_s for _write, began_s, _fua in self._open.values()), default=now)
        write = None if op == READ else self.history.begin(offset, length, value, now)
        self._open[request] = (write, now, fua)
        node = self.cluster.primary()
        link = None if node is None else self.truth.whole_peer(node)
        if link is not None:
            self._served[request] = link
        return request

    def _finished(self, node: Node, batch: list[Request]) -> None:
        now = self.world.now
        for request in batch:
            opened, served = self._open.pop(request, None), self._served.pop(request, None)
            if opened is None:
                if request in self.direct:
                    self.direct[request] = request.error
                    self.truth.acknowledged_apart(node, request)
                continue
            self.answered += 1
            write, began_s, fua = opened
            if request.error:
                self.errors += 1
                if fua or request.op == FLUSH:
                    self._told.append(now)
                else:
                    self.truth.failed(node, request, served)
                continue
            self.truth.answered(node, request, began_s)
            if write is not None:
                self._written(node, request, write, fua)
            elif request.op == READ:
                assert request.data is not None, "a read without data"
                wrong = self.history.wrong(request.offset, bytes(request.data), began_s, now)
                if wrong:
                    self.truth.wrong(f"a read of {node.name} is wrong: {wrong}")
            else:
                self._flushed(node, began_s)

    def _written(self, node: Node, request: Request, write: Write, fua: bool) -> None:
        write.ended_s = self.world.now
        self.writes_answered += 1
        self.truth.acknowledged(node, request, write)
        if fua and write.began_s > self._told_to(write.began_s):
            self.truth.flushed(node, [write])
            write.safe = True
        else:
            self._unflushed.append((request, write))

    def _flushed(self, node: Node, began_s: float) -> None:
        """Everything answered before this flush was asked for can not be lost any more, but for what a failed one
        covered."""
        self.flushes_answered += 1
        told_s = self._told_to(began_s)
        covered = [write for _request, write in self._unflushed if write.ended_s < began_s and write.began_s > told_s]
        self.truth.flushed(node, covered)
        for write in covered:
            write.safe = True
        self._unflushed = [
            entry for entry in self._unflushed if entry[1].ended_s >= began_s or entry[1].began_s <= told_s
        ]

    def _told_to(self, began_s: float) -> float:
        """When an error was told last that a flush asked for at `began_s` need not make up for."""
        limit_s = began_s if self.truth.flush_failed_s > began_s else self.world.now
        return next(told_s for told_s in reversed(self._told) if told_s <= limit_s)
