"""Two hosts whose election and leaving are the real decisions, and whose hastd and daemons are a few rules. For tests
of what a pair does when it is stopped, cut and started in any order.

The rules: roles follow the state of CARP (hast-devd); nobody becomes primary beside another, as with an arbiter;
a copy is not whole from a write that it missed until it was copied, and is not served; a leave takes its steps with the
times of failover/leave.py.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from segment import Host, Segment

from hast.election import leaving
from hast.election.adoption import Service
from hast.election.carp_types import State
from hast.election.demotion import CopyState, judge
from hast.election.leaving import Action, Facts, Outcome, Program, Resource, Step

TICK_S = 0.1
DEADLINE_S = 60.0
SUCCESSOR_S = 15.0
AFTER_S = 20.0
COPY_S = 3.0
"""How long a synchronisation takes."""


@dataclass
class Leave:
    """One `failover leave` under way."""

    plan: leaving.Leave
    began_s: float
    way: leaving.Way
    step: Step | None = None
    step_began_s: float = 0.0
    given: bool = False
    outcome: Outcome | None = None
    ended_s: float = 0.0


class Node:
    """One host: its carpd (`carp`), its role, its copy and what it is doing."""

    def __init__(self, carp: Host) -> None:
        self.carp = carp
        self.primary = False
        self.whole = True
        self.last_primary = False
        self.wanted = State.BACKUP
        self.let_go_s = 0.5
        """How long services and pools take to stop."""
        self.letting_go_since_s: float | None = None
        self.leave: Leave | None = None
        self.since_s = 0.0
        """Since when it has been up, and, as far as its copy goes, one that could serve."""

    @property
    def alive(self) -> bool:
        return self.carp.alive


class Pair:
    """Both, on one wire for clients that stays whole, and a cable for replication that may be pulled."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.segment = Segment(seed)
        self.plugged = True
        self.copied_since_s: float | None = None
        self.nodes = [Node(self.segment.add(skew, data_required=True)) for skew in (0, 100)]
        self.leaves: list[Leave] = []
        self.two_masters_s = 0.0
        self.nobody_s = 0.0
        """How long there has been no master although a whole host that does not leave could be it."""
        self.worst_nobody_s = 0.0
        self.worst_two_masters_s = 0.0
        self.run(45)
        self.worst_nobody_s = 0.0

    @property
    def now(self) -> float:
        return self.segment.now

    @property
    def linked(self) -> bool:
        return self.plugged and all(node.alive for node in self.nodes)

    def other(self, node: Node) -> Node:
        return self.nodes[1 - self.nodes.index(node)]

    # What happens to them

    def kill(self, node: Node) -> None:
        """Its power is gone."""
        node.carp.kill()
        node.last_primary = node.primary or node.last_primary
        node.primary, node.letting_go_since_s, node.wanted = False, None, State.BACKUP
        if node.leave is not None:
            node.leave.ended_s = self.now
            node.leave = None

    def boot(self, node: Node) -> None:
        if not node.alive:
            node.carp.data = None
            node.carp.boot()
            node.since_s = self.now

    def begin_leave(self, node: Node, ending: Program | None, let_go_s: float) -> None:
        """`failover leave`; a second one beside the first waits for it and finds nothing to do."""
        if not node.alive or node.leave is not None:
            return
        node.let_go_s = let_go_s
        facts = self.facts(node, ending)
        node.leave = Leave(leaving.leave(facts), self.now, leaving.decide(facts).way)
        self.leaves.append(node.leave)
        self._advance(node, node.leave, None)

    def facts(self, node: Node, ending: Program | None) -> Facts:
        other = self.other(node)
        lacking = "" if self.linked and other.whole else "the other copy is not whole"
        master = node.carp.state is State.MASTER
        return Facts(
            [Resource("disk1", node.primary, lacking if node.primary else "")],
            [leaving.Vhid("1@pub", master, adoptable=node.primary)],
            begun=node.primary,
            ending=ending,
        )

    # What they do

    def run(self, seconds: float) -> None:
        end_s = self.now + seconds
        while self.now < end_s:
            self.segment.run(TICK_S)
            for node in self.nodes:
                if node.alive:
                    self._follow_state(node)
                    self._change_role(node)
                    self._go_on_leaving(node)
            self._replicate()
            for node in self.nodes:
                if node.alive:
                    node.carp.report(judge([("disk1", self._copy_state(node))], [self._service(node)]))
            self._check()

    def _follow_state(self, node: Node) -> None:
        """hast-devd."""
        told, node.carp.told = node.carp.told, []
        for state in told:
            node.wanted = state

    def _change_role(self, node: Node) -> None:
        if node.wanted is State.MASTER and not node.primary:
            node.letting_go_since_s = None
            node.primary = node.whole and not self.other(node).primary
        elif node.wanted is not State.MASTER and node.primary:
            if node.letting_go_since_s is None:
                node.letting_go_since_s = self.now
            if self.now - node.letting_go_since_s >= node.let_go_s:
                node.primary, node.letting_go_since_s, node.last_primary = False, None, True

    def _replicate(self) -> None:
        primary = next((node for node in self.nodes if node.primary), None)
        if primary is None:
            self.copied_since_s = None
            return
        other = self.other(primary)
        primary.last_primary, other.last_primary = True, other.last_primary and not self.linked
        if not self.linked:
            other.whole, self.copied_since_s = False, None
        elif not other.whole:
            self.copied_since_s = self.copied_since_s or self.now
            if self.now - self.copied_since_s >= COPY_S:
                other.whole, self.copied_since_s, other.since_s = True, None, self.now

    def _copy_state(self, node: Node) -> CopyState:
        if node.primary:
            return CopyState.LEADING
        if self.linked and self.other(node).primary:
            return CopyState.COMPLETE if node.whole else CopyState.INCONSISTENT
        if not node.whole:
            return CopyState.OUTDATED
        return CopyState.LAST_PRIMARY if node.last_primary else CopyState.DISCONNECTED

    def _service(self, node: Node) -> Service:
        if node.primary:
            return Service.HERE if self.linked else Service.HERE_ALONE
        return Service.THERE if self.linked and self.other(node).primary else Service.NOT_KNOWN

    # Leaving, as failover/leave.py

    def _go_on_leaving(self, node: Node) -> None:
        leave = node.leave
        if leave is None or leave.step is None:
            return
        done = self._look_at(node, leave, leave.step)
        if done is not None:
            self._advance(node, leave, done)

    def _look_at(self, node: Node, leave: Leave, step: Step) -> bool | None:
        """Whether the step succeeded; None while it is under way."""
        late = self.now - leave.began_s >= DEADLINE_S
        match step.action:
            case Action.TAKE_DOWN:
                return True if not node.primary else False if late else None
            case Action.AWAIT_SUCCESSOR:
                late = late or self.now - leave.step_began_s >= SUCCESSOR_S
                return True if self.linked and self.other(node).primary else False if late else None
            case Action.GIVE_ADDRESS | Action.WARN | Action.KEEP_ADDRESS:
                return True
        raise AssertionError(step)

    def _advance(self, node: Node, leave: Leave, done: bool | None) -> None:
        try:
            leave.step = next(leave.plan) if done is None else leave.plan.send(done)
        except StopIteration as stop:
            leave.outcome, leave.ended_s, leave.step, node.leave = stop.value, self.now, None, None
            if leave.given:
                node.carp.leave(AFTER_S)
            return
        leave.step_began_s = self.now
        if leave.step.action is Action.GIVE_ADDRESS:
            leave.given = True
            node.carp.leave(DEADLINE_S - (self.now - leave.began_s) + AFTER_S)
        elif leave.step.action is Action.TAKE_DOWN:
            node.wanted = State.BACKUP

    # What is watched

    def _check(self) -> None:
        masters = self.segment.masters()
        self.two_masters_s = self.two_masters_s + TICK_S if len(masters) > 1 else 0.0
        self.worst_two_masters_s = max(self.worst_two_masters_s, self.two_masters_s)
        could = any(self._could_be_master(node) for node in self.nodes)
        self.nobody_s = self.nobody_s + TICK_S if could and not masters else 0.0
        self.worst_nobody_s = max(self.worst_nobody_s, self.nobody_s)

    def _could_be_master(self, node: Node) -> bool:
        return node.alive and node.whole and not node.carp.vhid._is_away
