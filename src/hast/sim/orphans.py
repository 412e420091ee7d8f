"""Nodes whose hastd is dead while the host is up: what their workers do without it, and how the next one takes over.

The rules are the real ones (`election/orphan.py`); what hastd would have done, nobody does: no connection is accepted,
no worker replaced, no question of the engine answered, no lease prolonged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hast.election.arbiter import STEP_DOWN_S
from hast.election.orphan import REASON, Conduct, Orphan
from hast.format.constants import Role
from hast.replication.primary import Primary
from hast.sim.arbiter import ASK_AGAIN_S

if TYPE_CHECKING:
    from hast.sim.cluster import Cluster

POLL_S = 0.2
REGAINING = "the arbiter is asked anew"


class Orphans:
    """`names`: of the nodes without hastd."""

    def __init__(self, cluster: Cluster) -> None:
        self.names: set[str] = set()
        self._cluster = cluster

    def died(self, name: str) -> None:
        """kill -9 of hastd, of it alone."""
        cluster = self._cluster
        cluster.world.note(f"{name}: hastd killed")
        self.names.add(name)
        dealings = cluster.dealings.pop(name, None)
        if dealings is not None:
            dealings.vanish()
        if cluster.roles[name] is Role.PRIMARY:
            self._watch(name, cluster.nodes[name].life, Orphan(cluster.settings.arbiter, cluster.world.now))

    def back(self, name: str) -> None:
        """The next hastd: it takes over the worker that lives, or has nothing but a secondary's role."""
        cluster = self._cluster
        self.names.discard(name)
        if name in cluster.stopped:
            cluster.start_hastd(name)
            return
        cluster.world.note(f"{name}: the next hastd takes over")
        engine = cluster.nodes[name].engine
        if cluster.roles[name] is Role.PRIMARY and isinstance(engine, Primary) and cluster.settings.arbiter:
            if not engine.core.connected:
                engine.freeze(REGAINING, cluster.world.now)
            self._regain(name, cluster.world.now + STEP_DOWN_S)

    def lost_worker(self, name: str) -> None:
        """Nobody replaces it: a primary's device is gone with it."""
        cluster = self._cluster
        if cluster.roles[name] is Role.PRIMARY:
            cluster.demote(name, Role.INIT)
            cluster.stopped.add(name)

    def _watch(self, name: str, life: int, orphan: Orphan) -> None:
        cluster = self._cluster
        node = cluster.nodes[name]
        engine, now = node.engine, cluster.world.now
        if name not in self.names or node.life != life or not isinstance(engine, Primary):
            return
        conduct = orphan.conduct(engine.core.connected, now)
        if conduct is Conduct.STEP_DOWN:
            cluster.stop_hastd(name)
            return
        if conduct is Conduct.HOLD_WRITES:
            engine.freeze(REASON, now)
        elif engine.writes.frozen == REASON:
            engine.thaw(now)
        node.pump()
        cluster.world.after(POLL_S, self._watch, name, life, orphan)

    def _regain(self, name: str, until_s: float) -> None:
        cluster = self._cluster
        node = cluster.nodes[name]
        engine, now = node.engine, cluster.world.now
        if name in self.names or name in cluster.dealings or cluster.roles[name] is not Role.PRIMARY:
            return
        if not isinstance(engine, Primary):  # killed, and the next one does not serve yet
            cluster.world.after(ASK_AGAIN_S, self._regain, name, until_s)
        elif cluster.regain_lease(name):
            engine.ask_anew(now)
            engine.thaw(now)
            node.pump()
        elif not engine.core.connected and now >= until_s:
            cluster.stop_hastd(name)
        else:
            cluster.world.after(ASK_AGAIN_S, self._regain, name, until_s)
