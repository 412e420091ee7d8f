"""Clients at work on whichever node is primary; every answer is checked against the history of what was asked."""

from __future__ import annotations

from dataclasses import dataclass

from hast.replication.primary import Primary
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Request
from hast.sim.checker import History, Write
from hast.sim.cluster import Cluster
from hast.sim.disk import SECTOR_BYTES
from hast.sim.world import World

DEPTH = 12


@dataclass(slots=True)
class Acknowledged:
    """An answered write that no flush has covered yet. `request.left`: copies that have it still to confirm."""

    request: Request
    writes: list[Write]
    ended_s: float


class Clients:
    """Keep up to DEPTH operations under way, overlapping on purpose."""

    def __init__(self, world: World, cluster: Cluster, datasize_bytes: int) -> None:
        self.world = world
        self.cluster = cluster
        self.datasize_bytes = datasize_bytes
        self.history = History()
        self.wrong: list[str] = []
        self.errors = 0
        """Operations that were answered with an error."""
        self.working = True
        self.answered = 0
        self._stamp = 0
        self._open: dict[Request, tuple[list[Write], float]] = {}
        self._unflushed: list[Acknowledged] = []
        for node in cluster.nodes.values():
            node.on_finished = self._finished
        self._work()

    @property
    def open(self) -> int:
        """Operations without an answer."""
        return len(self._open)

    def server_gone(self) -> None:
        """The worker that served is gone: what was open is never answered."""
        self._open.clear()

    def doubt_unconfirmed(self) -> None:
        """The primary is lost: what the peer had not confirmed for good goes with it (asynchronous replication)."""
        self.history.doubt(write for entry in self._unflushed if entry.request.left for write in entry.writes)

    def doubt_unflushed(self) -> None:
        """The only good copy lost its cache: what no flush covered may be gone, as on any single disk."""
        self.history.doubt(write for entry in self._unflushed for write in entry.writes)

    def _work(self) -> None:
        engine = self.cluster.engine()
        node = self.cluster.primary()
        if self.working and self.cluster.admitting and engine is not None and node is not None and self.open < DEPTH:
            batch = [self._draw() for _ in range(self.world.rng.randint(1, 4))]
            engine.submit(batch, self.world.now)
            node.pump()
        self.world.soon(self._work, 0.004)

    def _draw(self) -> Request:
        rng = self.world.rng
        op = rng.choices((WRITE, READ, FLUSH, ZERO, DELETE), (60, 25, 6, 5, 4))[0]
        if op == FLUSH:
            request = Request(FLUSH, 0, 0, client=self)
            self._open[request] = ([], self.world.now)
            return request
        sectors = self.datasize_bytes // SECTOR_BYTES
        first = rng.randrange(sectors)
        if rng.random() < 0.5:
            first = first % 12
        length = min(rng.choice((1, 1, 1, 2, 8, 20)), sectors - first) * SECTOR_BYTES
        offset = first * SECTOR_BYTES
        data = b""
        if op == WRITE:
            self._stamp += 1
            data = self._stamp.to_bytes(8, "big") * (length // 8)
        request = Request(op, offset, length, data or None, client=self, fua=op == WRITE and rng.random() < 0.1)
        self.history.horizon_s = min((began_s for _writes, began_s in self._open.values()), default=self.world.now)
        writes = [] if op == READ else self.history.begin(offset, data or bytes(length), self.world.now)
        self._open[request] = (writes, self.world.now)
        return request

    def _finished(self, batch: list[Request]) -> None:
        now = self.world.now
        for request in batch:
            opened = self._open.pop(request, None)
            if opened is None:
                continue
            self.answered += 1
            writes, began_s = opened
            if request.error:
                self.errors += 1
                self.world.note(f"{request} failed")
            elif request.op == READ:
                assert request.data is not None, "a read without data"
                wrong = self.history.wrong(request.offset, bytes(request.data), began_s, now)
                if wrong:
                    self.complain(f"at {now:.3f} a read is wrong: {wrong}")
            elif request.op == FLUSH:
                self._flushed(began_s)
            else:
                for write in writes:
                    write.ended_s = now
                    write.safe = request.fua
                self._unflushed.append(Acknowledged(request, writes, now))

    def _flushed(self, began_s: float) -> None:
        """Everything answered before this flush was asked for can not be lost any more."""
        for entry in self._unflushed:
            if entry.ended_s < began_s:
                for write in entry.writes:
                    write.safe = True
        self._unflushed = [entry for entry in self._unflushed if entry.ended_s >= began_s]

    def complain(self, text: str) -> None:
        """Something went wrong."""
        self.wrong.append(text)
        self.world.note(text)


def protected(engine: Primary | None, link_alive: bool) -> bool:
    """Both copies have all that was acknowledged, so the loss of one costs nothing (in fullsync and memsync)."""
    if engine is None or not link_alive or not engine.core.connected or engine.sync.active:
        return False
    return not (engine.map.owed_local or engine.map.owed_remote)
