"""A run: clients at work on a cluster while a schedule is carried out; the verdict is a list of what went wrong."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from hast.format.constants import OUR_FEATURES, Feature, Replication, Role
from hast.replication.primary import Primary, Settings
from hast.replication.types import Metadata
from hast.sim import actions
from hast.sim.checker import History
from hast.sim.clients import Clients
from hast.sim.cluster import Cluster
from hast.sim.disk import SECTOR_BYTES
from hast.sim.node import Node
from hast.sim.schedule import Schedule, Step
from hast.sim.small import DATASIZE_BYTES, fresh_metadata, small_constants
from hast.sim.truth import Truth
from hast.sim.world import World

FORGOTTEN_S = 4.0
"""A record of the arbiter is removed by then."""
SETTLE_S = 90.0
MOST_PAUSES = 2
"""So often may a pass leave something to the next one, where no operation failed and clients rest."""
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to. `wrong` is empty when all was well."""

    wrong: list[str]
    simulated_s: float
    answered: int
    log: list[str]
    steps: list[str]
    """Kinds of the steps that were carried out."""
    states: set[str]


class Run:
    """One run, from the beginning: node a is primary and b its secondary, both as created.

    Actions change it; `execute` carries out a whole schedule. Use within `small_constants`.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.strict = schedule.strict
        self.world = World(schedule.seed)
        self.features = OUR_FEATURES if schedule.extensions else Feature.NONE
        settings = Settings(
            schedule.replication,
            timeout_s=TIMEOUT_S,
            sync_rate_bytes_s=schedule.sync_rate_bytes_s,
            arbiter=schedule.arbiter,
            read_balancing=schedule.read_balancing,
        )
        self.history = History(DATASIZE_BYTES // SECTOR_BYTES)
        self.truth = Truth(self.history)
        self.cluster: Cluster = Cluster(self.world, settings, fresh_metadata(), self.truth, self.features)
        self.truth.cluster = self.cluster
        self.clients: Clients = Clients(self.cluster, self.history, self.truth, DATASIZE_BYTES)
        self.truth.doubt_unconfirmed = self.clients.doubt_unconfirmed
        self.carried_out: list[str] = []
        self.failures_seen: int = 0
        self.heir = False
        """The node that served is gone, and the other had everything."""
        self.cluster.on_left = self._left
        self.cluster.disk_orders.on_replaced = self._replaced
        self.cluster.disk_orders.on_begins_anew = self._begins_anew
        self.split_brain_due = False
        """The nodes served apart, so a split brain is no surprise."""
        self.cluster.roles["b"] = Role.SECONDARY
        self.cluster.nodes["b"].up = not schedule.alone
        self.cluster.promote("a")

    @property
    def wrong(self) -> list[str]:
        return self.truth.complaints

    @property
    def is_async(self) -> bool:
        return self.schedule.replication is Replication.ASYNC

    def node(self, name: str) -> Node:
        """By its name, or by its part: "primary" is the one that serves, or served last."""
        serving = self.cluster.serving
        if name == "primary":
            name = serving
        elif name == "secondary":
            name = "b" if serving == "a" else "a"
        return self.cluster.nodes[name]

    def carry_out(self, step: Step) -> None:
        if step.pause_s:
            self.world.run_for(step.pause_s)
        self.world.note(f"-- {step.kind} {dict(step.arguments) or ''}")
        action = actions.ACTIONS[step.kind]
        if action(self, **step.arguments) is not False:
            self.carried_out.append(step.kind)

    # -- what the pair is in ------------------------------------------------------------------------------------

    def engine(self) -> Primary | None:
        return self.cluster.engine()

    def linked(self) -> bool:
        """The primary's link is there, and its engine takes it for there."""
        engine, link = self.engine(), self.cluster.link
        return engine is not None and engine.core.connected and link is not None and link.alive and not link.silent

    def peer_whole(self) -> bool:
        """The peer has all that was acknowledged: it may take over."""
        engine = self.engine()
        return self.linked() and engine is not None and engine.core.peer_whole and not engine.sync.active

    def protected(self) -> bool:
        """Both copies have all that was acknowledged: the loss of either costs nothing (in fullsync and memsync)."""
        engine = self.engine()
        return self.peer_whole() and engine is not None and engine.core.local_ok and not engine.map.owed_local

    def in_step(self) -> bool:
        """Protected, nothing under way, and nothing left on the disks that says otherwise."""
        engine = self.engine()
        if engine is None or not self.protected() or engine.active or engine.map.dirty_bytes():
            return False
        here, there = engine.core.meta, self.node("secondary").disk.metadata
        if here.stale or here.inconsistent or (self.features and (there.inconsistent or there.stale)):
            return False
        return (here.localcnt, here.remotecnt) == (there.remotecnt, there.localcnt)

    def _left(self, node: Node) -> None:
        """hastd of this node has ended in order."""
        if node.name == self.cluster.serving:
            self.clients.server_gone()
            self.heir = self.truth.left_whole

    def _begins_anew(self, node: Node) -> None:
        """Its worker makes way for another one."""
        actions.kill(self, node.name, resend=True)

    def _replaced(self, node: Node) -> None:
        """Another disk is in the place of this node's: what only the former held is gone."""
        self.truth.apart[node.name].clear()
        if not self.strict:
            self.truth.excuse_lost(node, range(DATASIZE_BYTES // SECTOR_BYTES))

    # -- the end ------------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Clients rest, the copies become equal; False, and a complaint, when that takes too long."""
        self.clients.rest()
        limit_s = self.world.now + SETTLE_S
        pauses, pausing = 0, False
        while not self.in_step():
            before, pausing = pausing, self._pauses()
            pauses += pausing and not before
            if pauses > MOST_PAUSES:
                self.truth.wrong("S9: nothing failed, and pass after pass leaves something to the next")
                return False
            if self.world.now >= limit_s:
                self.truth.wrong(f"the copies did not become equal: {self._why_not()}")
                return False
            if self.cluster.primary() is None:
                actions.heal(self)
            actions.restart_hastd(self)
            actions.mend_disks(self)
            self.world.run_for(0.2)
        self.compare()
        self.truth.together()
        self._forgotten()
        return True

    def _forgotten(self) -> None:
        """S11: where both copies are equal the arbiter has nobody on record who has to serve alone."""
        witness = self.cluster.witness
        if not self.schedule.arbiter or not all(witness.reach.values()):
            return
        self.world.run_till(lambda: not witness.sole, FORGOTTEN_S)
        if witness.sole and self.in_step():
            self.truth.wrong(f"S11: the copies are equal, and the arbiter lets {witness.sole} alone serve")

    def _pauses(self) -> bool:
        """Something is owed, nothing ever stood in the way, and it is not copied."""
        engine = self.engine()
        if engine is None or not self.linked() or any(node.disk.failed for node in self.cluster.nodes.values()):
            return False
        return bool(engine.map.owed_remote or engine.map.owed_local) and not engine.sync.active

    def compare(self) -> None:
        """S9, S4: both copies hold the same, and it is what clients were told."""
        a, b = self.cluster.nodes["a"].disk.data(), self.cluster.nodes["b"].disk.data()
        if a != b:
            self.truth.wrong("S9: the data areas differ although everything is in step")
        now = self.world.now
        for name, image in (("a", a), ("b", b)):
            bad = self.history.wrong(0, image, now, now)
            if bad:
                self.truth.wrong(f"S4: after everything settled, on {name} {bad}")
        if self.clients.open:
            self.truth.wrong(f"{self.clients.open} operations were never answered")
            self.clients.server_gone()
        if self.cluster.split_brains and not self.split_brain_due:
            self.truth.wrong("S8: split brain, although no two nodes served apart")
            self.cluster.split_brains = 0

    def _why_not(self) -> str:
        engine = self.engine()
        if engine is None:
            return "nobody serves"
        amap, meta, peer = engine.map, engine.core.meta, self.node("secondary").disk.metadata
        disk = "ok" if engine.core.local_ok else "bad"
        return (
            f"linked {self.linked()}, sync {engine.sync.stage.name}, owed {amap.owed_local.count} here "
            f"{amap.owed_remote.count} there, {engine.active} unanswered, disk {disk}, "
            f"counters {meta.localcnt}/{meta.remotecnt} {peer.localcnt}/{peer.remotecnt}, "
            f"marks {_marks(meta)} {_marks(peer)}, refusals {self.cluster.refusals}"
        )


def _marks(meta: Metadata) -> str:
    return "".join(letter for letter, on in (("i", meta.inconsistent), ("s", meta.stale)) if on) or "-"


def execute(schedule: Schedule) -> Result:
    """Carry out a schedule, then repair everything and compare. It ends early once something is wrong."""
    with small_constants():
        run = Run(schedule)
        try:
            for step in schedule.steps:
                run.carry_out(step)
                if run.wrong:
                    break
            if not run.wrong:
                actions.heal(run)
                run.settle()
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            run.truth.wrong(f"{type(error).__name__} at {place}: {error}")
        states = run.truth.states | {f"refused: {reason}" for reason in run.cluster.refusals}
        return Result(run.wrong, run.world.now, run.clients.answered, run.world.log, run.carried_out, states)
