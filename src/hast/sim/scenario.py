"""A run: clients at work on a cluster while disasters strike; the verdict is a list of what went wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hast.format.constants import OUR_FEATURES, Feature, Replication, Role
from hast.replication.primary import Settings
from hast.replication.types import Metadata
from hast.sim.clients import Clients, protected
from hast.sim.cluster import Cluster
from hast.sim.disk import SECTOR_BYTES
from hast.sim.world import World

EXTENT_BYTES = 4096
EXTENTS = 24
DATASIZE_BYTES = EXTENT_BYTES * EXTENTS - SECTOR_BYTES
SETTLE_S = 120.0
TIMEOUT_S = 5.0


def fresh_metadata() -> Metadata:
    """As `hastctl create` leaves it; a small disk, so that everything overlaps."""
    return Metadata("sim", DATASIZE_BYTES, EXTENT_BYTES, 3, 4096 + SECTOR_BYTES)


@dataclass
class Run:
    """One seeded run. `start` begins with node a as primary and b as its secondary, both as created."""

    seed: int
    replication: Replication = Replication.FULLSYNC
    features: Feature = OUR_FEATURES
    arbiter: bool = False
    world: World = field(init=False)
    cluster: Cluster = field(init=False)
    clients: Clients = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.seed)
        settings = Settings(replication=self.replication, timeout_s=TIMEOUT_S, arbiter=self.arbiter)
        self.cluster = Cluster(self.world, settings, fresh_metadata(), self.features)

    def start(self, alone: bool = False) -> None:
        """Begin; `alone`: the other host is not there yet."""
        self.cluster.roles["b"] = Role.SECONDARY
        self.cluster.nodes["b"].up = not alone
        self.cluster.promote("a")
        self.clients = Clients(self.world, self.cluster, DATASIZE_BYTES)

    @property
    def rng(self) -> random.Random:
        return self.world.rng

    def wait(self, most_s: float) -> None:
        """Up to so long, as chance has it."""
        self.world.run_until(self.world.now + self.rng.random() * most_s)

    def protected(self) -> bool:
        """The loss of one node costs nothing."""
        link = self.cluster.link
        alive = link is not None and link.alive and not link.silent
        return protected(self.cluster.engine(), alive)

    def wait_protected(self, most_s: float = SETTLE_S) -> bool:
        """Until both copies have everything; False when that takes too long."""
        limit = self.world.now + most_s
        while self.world.now < limit:
            if self.protected():
                return True
            self.world.run_until(self.world.now + 0.1)
        return False

    def wait_in_step(self) -> bool:
        """Let clients rest and the copies become equal; False when that takes too long."""
        self.clients.working = False
        limit = self.world.now + SETTLE_S
        while self.world.now < limit:
            self.world.run_until(self.world.now + 0.5)
            engine = self.cluster.engine()
            if engine is not None and engine.active == 0 and self.protected() and not engine.map.dirty_bytes():
                return True
        return False

    def end_trouble(self) -> None:
        """Everything that can be repaired without a new disk is."""
        self.cluster.network_up = True
        for node in self.cluster.nodes.values():
            node.disk.failures = dict.fromkeys(node.disk.failures, 0)
            node.disk.slowness = 1.0
            if not node.up:
                node.boot()

    def verdict(self) -> list[str]:
        """Bring everything up, let it settle, and compare (S4, S9)."""
        self.end_trouble()
        if not self.wait_in_step():
            return [*self.clients.wrong, "the copies did not become equal"]
        wrong = list(self.clients.wrong)
        images = {name: node.disk.data_area() for name, node in self.cluster.nodes.items()}
        if images["a"] != images["b"]:
            wrong.append("S9: the data areas differ although everything is in step")
        now = self.world.now
        bad = self.clients.history.wrong(0, images["a"], now, now)
        if bad:
            wrong.append(f"S4: after everything settled, {bad}")
        if self.cluster.split_brains:
            wrong.append("S8: split brain, although no two nodes served apart")
        return wrong
