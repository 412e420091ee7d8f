"""One node as plans of roles see it: does their steps in memory, fails where told, and checks the rules at each step.

`crash` leaves what a killed hastd leaves, `recover` does what the next one does at its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hast.format.constants import Role
from hast.supervisor.decisions.role_change import Facts
from hast.supervisor.decisions.steps import Answer, Do, Ending, Plan, Step

STUCK = "stuck"
MAX_STEPS = 1000
Faults = Mapping[Do, str]
"""Step → why it fails; STUCK: a worker does not die. A step that fails has done half of what it does."""


@dataclass
class Node:
    """What this node holds of a resource, and what of that outlives its supervisor."""

    role: Role = Role.INIT
    connected: bool = False
    peer_primary_for: int = 0
    """So many more questions are answered by a peer that is primary."""
    peer_until_s: float | None = None
    """By when it will have let go, as it said."""
    inconsistent: bool = False
    stale: bool = False
    arbitrated: bool = True
    secondary_worker: bool = False
    primary_worker: bool = False
    ready: bool = False
    prepared: bool = False
    attached: bool = False
    lease: bool = False
    immortal: bool = False
    """A killed worker that did not die."""
    give_up_at: Do | None = None
    """A later request comes during this step."""
    faults: Faults = field(default_factory=dict)
    records: set[str] = field(default_factory=set)
    """Files by which the next hastd finds a worker and a device."""
    now_s: float = 0.0
    done: list[Do] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    forced: list[Do] = field(default_factory=list)
    """Steps that were told to be by hand."""
    given_up: str | None = None
    told_within_s: float = 0.0

    @property
    def serving(self) -> bool:
        return self.attached and self.primary_worker and self.ready

    def facts(self, wanted: Role, force: bool = False) -> Facts:
        arbitrated = self.lease if self.role is Role.PRIMARY else self.arbitrated
        return Facts(self.role, wanted, self.now_s, 20.0, force=force, serving=self.serving, arbitrated=arbitrated)

    def run(self, plan: Plan, stop_after: int | None = None) -> Ending | None:
        """To its end, or through so many steps: then the supervisor dies and None is returned."""
        ended: list[Ending] = []

        def whole() -> Plan:
            ended.append((yield from plan))
            return ended[0]

        steps = whole()
        answer: Answer | None = None
        for _ in range(MAX_STEPS):
            try:
                step = next(steps) if answer is None else steps.send(answer)
            except StopIteration:
                return ended[0]
            if len(self.done) == stop_after:
                steps.close()
                return None
            answer = self.do(step)
        raise AssertionError("the plan does not end")

    def do(self, step: Step) -> Answer:
        self.done.append(step.do)
        self.limits.append(step.limit_s)
        self.forced += [step.do] if step.force else []
        self.now_s += 0.1
        if step.do is self.give_up_at:
            self.given_up = "Given up for role secondary."
        failure = self.faults.get(step.do)
        getattr(self, f"_{step.do.name.lower()}")(step, failure)
        self.check()
        stuck = failure == STUCK
        peer = step.do is Do.ASK_PEER and self.connected and self.peer_primary_for > 0
        worker = step.do is Do.ASK_WORKER and self.secondary_worker
        return Answer(
            self.now_s,
            failure,
            stuck,
            self.given_up,
            peer,
            worker and self.inconsistent,
            worker and self.stale,
            self.peer_until_s if peer else None,
        )

    def check(self) -> None:
        """What must hold between any two steps."""
        assert not (self.primary_worker and self.secondary_worker), "two workers of one disk"
        assert not (self.serving and self.arbitrated and not self.lease), "served without leave"
        assert not (self.serving and self.role is not Role.PRIMARY), "served in another role"
        assert not self.connected or self.primary_worker or self.secondary_worker, "connected without a worker"

    # --- the supervisor dies --------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Roles, plans and connections of the supervisor are gone; processes, devices and the lease are not."""
        self.role, self.given_up, self.give_up_at, self.faults = Role.INIT, None, None, {}
        self.done = []

    def recover(self) -> None:
        """What the next hastd does by the records it finds; an unrenewed lease runs out meanwhile."""
        if "worker" in self.records:
            self.secondary_worker = self.primary_worker = self.immortal
            self.ready = self.connected = False
        if "device" in self.records:
            self.attached = self.prepared = False
        self.lease = False
        self.records.clear()

    # --- steps ------------------------------------------------------------------------------------------------------

    def _ask_worker(self, step: Step, failure: str | None) -> None: ...

    def _ask_peer(self, step: Step, failure: str | None) -> None: ...

    def _wait_for_peer(self, step: Step, failure: str | None) -> None:
        self.now_s += step.limit_s
        self.peer_primary_for -= 1
        self.connected = self.connected and self.peer_primary_for > 0

    def _ask_arbiter(self, step: Step, failure: str | None) -> None:
        self.lease = True

    def _overrule_arbiter(self, step: Step, failure: str | None) -> None:
        assert self.lease

    def _give_back_lease(self, step: Step, failure: str | None) -> None:
        assert not self.primary_worker or self.immortal, "the lease goes back while a worker may acknowledge"
        self.lease = False

    def _drop_peer(self, step: Step, failure: str | None) -> None:
        assert self.role is not Role.PRIMARY
        self.connected = False
        self.immortal = failure == STUCK
        self.secondary_worker = self.immortal

    def _take_role(self, step: Step, failure: str | None) -> None:
        assert step.role is not None
        self.role = step.role

    def _prepare_device(self, step: Step, failure: str | None) -> None:
        assert self.role is Role.PRIMARY
        self.records.add("device")
        self.prepared = True

    def _start_worker(self, step: Step, failure: str | None) -> None:
        assert self.prepared
        assert not self.primary_worker
        self.primary_worker, self.ready = failure is None, False
        self.records.add("worker")

    _resume_worker = _start_worker

    def _await_ready(self, step: Step, failure: str | None) -> None:
        assert self.primary_worker
        self.ready = failure is None

    def _attach_device(self, step: Step, failure: str | None) -> None:
        assert self.ready
        self.attached = True

    def _hand_over_device(self, step: Step, failure: str | None) -> None:
        assert self.ready

    def _detach_device(self, step: Step, failure: str | None) -> None:
        self.attached = self.prepared = False

    def _say_leaving(self, step: Step, failure: str | None) -> None:
        assert self.serving, "the peer is told when nobody is served any more"
        self.told_within_s = step.within_s

    def _meet(self, step: Step, failure: str | None) -> None: ...

    def _withhold(self, step: Step, failure: str | None) -> None:
        assert self.primary_worker
        assert not self.attached, "what the kernel holds is written back after nothing is answered any more"

    def _quiesce_device(self, step: Step, failure: str | None) -> None:
        assert self.serving
        self.attached = False

    def _stop_worker(self, step: Step, failure: str | None) -> None:
        assert not self.serving, "the worker is stopped under a device in use"
        self.immortal = failure == STUCK
        self.primary_worker = self.immortal
        self.ready = self.connected = False

    def _kill_worker(self, step: Step, failure: str | None) -> None:
        self.immortal = failure == STUCK
        self.primary_worker = self.immortal
        self.ready = self.connected = False

    def _close_device(self, step: Step, failure: str | None) -> None:
        self.attached = self.prepared = self.connected = False
        self.records.discard("device")


def standing(role: Role, arbitrated: bool = True) -> Node:
    """A node that has been in this role for a while."""
    node = Node(arbitrated=arbitrated)
    node.role = role
    if role is Role.SECONDARY:
        node.secondary_worker = node.connected = True
        node.records = {"worker"}
    if role is Role.PRIMARY:
        node.primary_worker = node.ready = node.prepared = node.attached = node.connected = True
        node.lease = arbitrated
        node.records = {"worker", "device"}
    return node
