"""A run: clients at work on a cluster while disasters strike; the verdict is a list of what went wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

from hast.format.constants import OUR_FEATURES, Feature, Replication, Role
from hast.replication.primary import Primary, Settings
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Metadata, Request
from hast.sim.checker import History, Write
from hast.sim.cluster import Cluster
from hast.sim.disk import SECTOR_BYTES
from hast.sim.world import World

EXTENT_BYTES = 4096
EXTENTS = 24
DATASIZE_BYTES = EXTENT_BYTES * EXTENTS - SECTOR_BYTES
DEPTH = 12
SETTLE_S = 120.0


def fresh_metadata() -> Metadata:
    """As `hastctl create` leaves it; a small disk, so that everything overlaps."""
    return Metadata("sim", DATASIZE_BYTES, EXTENT_BYTES, 3, 4096 + SECTOR_BYTES)


class Clients:
    """Keep up to DEPTH operations under way on whichever node is primary, and check every answer."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.world = world
        self.cluster = cluster
        self.history = History()
        self.wrong: list[str] = []
        self.working = True
        self.answered = 0
        self._stamp = 0
        self._open: dict[Request, tuple[list[Write], float]] = {}
        for node in cluster.nodes.values():
            node.on_finished = self._finished
        self._work()

    def forget(self) -> None:
        """The node that served is gone: what was open is never answered."""
        self._open.clear()

    def _work(self) -> None:
        engine = self.cluster.engine()
        node = self.cluster.primary()
        if (
            self.working
            and self.cluster.admitting
            and engine is not None
            and node is not None
            and len(self._open) < DEPTH
        ):
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
        sectors = DATASIZE_BYTES // SECTOR_BYTES
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
                continue
            for write in writes:
                write.ended_s = now
            if request.op == READ:
                assert request.data is not None, "a read without data"
                wrong = self.history.wrong(request.offset, bytes(request.data), began_s, now)
                if wrong:
                    self._complain(f"at {now:.3f} a read is wrong: {wrong}")

    def _complain(self, text: str) -> None:
        self.wrong.append(text)
        self.world.note(text)


class Disaster(Protocol):
    """Something that happens to the cluster."""

    def __call__(self, run: Run) -> None: ...


@dataclass
class Run:
    """One seeded run."""

    seed: int
    replication: Replication = Replication.FULLSYNC
    features: Feature = OUR_FEATURES
    world: World = field(init=False)
    cluster: Cluster = field(init=False)
    clients: Clients = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.seed)
        settings = Settings(replication=self.replication, timeout_s=5.0)
        self.cluster = Cluster(self.world, settings, fresh_metadata(), self.features)
        self.cluster.roles["b"] = Role.SECONDARY
        self.cluster.promote("a")
        self.clients = Clients(self.world, self.cluster)

    @property
    def rng(self) -> random.Random:
        return self.world.rng

    def wait(self, most_s: float) -> None:
        self.world.run_until(self.world.now + self.rng.random() * most_s)

    def in_step(self) -> bool:
        """Connected, nothing owed, no pass under way."""
        engine = self.cluster.engine()
        return engine is not None and engine.core.connected and not engine.sync.active and not engine.map.dirty_bytes()

    def wait_in_step(self) -> bool:
        """Let clients rest and the copies become equal; False when that takes too long."""
        self.clients.working = False
        limit = self.world.now + SETTLE_S
        while self.world.now < limit:
            self.world.run_until(self.world.now + 0.5)
            engine = self.cluster.engine()
            if engine is not None and engine.active == 0 and self.in_step():
                return True
        return False

    def verdict(self) -> list[str]:
        """Bring everything up, let it settle, and compare (S4, S9)."""
        cluster = self.cluster
        cluster.network_up = True
        for node in cluster.nodes.values():
            if not node.up:
                node.boot()
        wrong = list(self.clients.wrong)
        if not self.wait_in_step():
            return [*wrong, "the copies did not become equal"]
        images = {n: d.disk.read(d.disk.metadata.offset_bytes, DATASIZE_BYTES) for n, d in cluster.nodes.items()}
        if images["a"] != images["b"]:
            wrong.append("S9: the data areas differ although everything is in step")
        now = self.world.now
        bad = self.clients.history.wrong(0, images["a"], now, now)
        if bad:
            wrong.append(f"S4: after everything settled, {bad}")
        return wrong


def link_flap(run: Run) -> None:
    """The cable is pulled and plugged in again."""
    run.cluster.network_up = False
    run.cluster.cut("cable pulled")
    run.wait(4.0)
    run.cluster.network_up = True


def primary_worker_killed(run: Run) -> None:
    """kill -9 of the primary's worker; the supervisor starts another."""
    node = run.cluster.primary()
    if node is not None:
        run.clients.forget()
        run.cluster.restart_worker(node.name)


def secondary_power_cut(run: Run) -> None:
    """The secondary loses power and comes back."""
    node = run.cluster.primary()
    if node is not None:
        peer = run.cluster.other(node)
        run.cluster.crash(peer.name)
        run.wait(3.0)
        peer.boot()


def primary_power_cut(run: Run) -> None:
    """The primary loses power and is started again as primary."""
    node = run.cluster.primary()
    if node is not None:
        run.clients.forget()
        run.cluster.crash(node.name)
        run.wait(3.0)
        node.boot()
        run.cluster.serve(node.name)


def fail_over(run: Run) -> None:
    """The primary loses power while the copies are in step; the other takes over; the first returns as secondary."""
    node = run.cluster.primary()
    if node is None or not run.in_step():
        return
    peer = run.cluster.other(node)
    if peer.disk.metadata.inconsistent:
        return
    run.clients.forget()
    run.cluster.crash(node.name)
    run.cluster.roles[node.name] = Role.SECONDARY
    run.wait(0.5)
    run.cluster.promote(peer.name)
    run.wait(3.0)
    node.boot()


def planned_switch(run: Run) -> None:
    """Drain the primary, swap the roles."""
    node = run.cluster.primary()
    if node is None or not isinstance(node.engine, Primary) or not run.wait_in_step():
        return
    peer = run.cluster.other(node)
    node.engine.drain(run.world.now)
    node.pump()
    limit = run.world.now + 10.0
    while not node.engine.drained and run.world.now < limit:
        run.world.run_until(run.world.now + 0.05)
    if not node.engine.drained:
        run.clients.wrong.append("S10: a demotion did not come to its end")
    run.clients.forget()
    run.cluster.demote(node.name)
    run.cluster.promote(peer.name)
    run.clients.working = True


def disk_hiccup(run: Run) -> None:
    """Some writes on one node fail with EIO."""
    name = run.rng.choice(("a", "b"))
    run.world.note(f"{name}: the next writes fail")
    run.cluster.nodes[name].disk.fail_writes = run.rng.randint(1, 3)


DISASTERS: tuple[Disaster, ...] = (
    link_flap,
    primary_worker_killed,
    secondary_power_cut,
    primary_power_cut,
    fail_over,
    planned_switch,
)


def random_run(
    seed: int, replication: Replication = Replication.FULLSYNC, features: Feature = OUR_FEATURES, strikes: int = 4
) -> tuple[list[str], Run]:
    """Disasters drawn by `seed`, far enough apart to be single failures; returns what went wrong, and the run."""
    run = Run(seed, replication, features)
    run.wait(2.0)
    for _ in range(strikes):
        run.clients.working = True
        run.wait(1.5)
        disaster = run.rng.choice(DISASTERS)
        run.world.note(f"-- {disaster.__doc__}")
        disaster(run)
        run.wait(3.0)
        if run.rng.random() < 0.6 and not run.wait_in_step():
            return [*run.clients.wrong, "the copies did not become equal"], run
    return run.verdict(), run
