"""What a change of role needs, step after step (specification sections 8.3 and 8.4).

Promotion   Everybody who has a say is asked before anything is let go: the copy itself (S7), the primary that is still
            connected, the arbiter (S11). Then the peer is dropped, the role taken, the device prepared, the worker
            started, waited for, and the device attached over it. What fails is undone, last thing first, and the
            resource is in its old role again.
Demotion    The peer is told. The device is written back and taken away while the worker serves; then nothing that
            changes data is answered any more, the worker is drained, the rest closed; a lease goes back only when the
            worker is gone (S10, S11). Only then is the new role taken. Resources of one pool wait for each other before
            answers are withheld, before the worker is drained, and before users get errors: what one device promised
            is then never lost with another.

A worker that outlives SIGKILL may hold its disk, so the resource ends in role init. At most one worker exists at any
time. A later request overrules a promotion that has not served anything yet, never a demotion.

Between any two steps the supervisor may die. What is left is on record: workers (`leftovers.py`), devices (`device/`),
and a lease that runs out by itself; the next hastd ends all of it and begins in role init.
"""

from __future__ import annotations

from dataclasses import dataclass

from hast.format.constants import Role
from hast.replication.promotion import PeerState, may_serve
from hast.supervisor.decisions.steps import Do, Ending, Part, Plan, Refusal, Step

ASK_LIMIT_S = 10.0
"""For questions to the worker and to the peer."""
ASK_AGAIN_S = 1.0
"""Between two questions to a peer that is primary."""
ARBITER_LIMIT_S = 75.0
"""The fence program may take most of it."""
STEP_LIMIT_S = 30.0
"""For what this node does alone."""
DEVICE_LIMIT_S = 60.0
"""The same where a helper process is started for it, which takes long on a busy host; more than that may take."""
DROP_LIMIT_S = 5.0
"""For the worker of a secondary to finish what is begun."""
READY_LIMIT_S = 30.0
"""For a worker to be ready, on top of twice `timeout` and `wait-for-peer`, which it may spend on the peer."""
STOP_MARGIN_S = 5.0
"""For a worker to drain, on top of `timeout`."""
SAY_LIMIT_S = 1.0
"""For the worker to pass on that this node lets go."""
MEET_LIMIT_S = 8.0
"""For the slowest of a pool's devices to be written back."""
QUIET_LIMIT_S = 5.0
"""For users to fall silent when nobody answers them."""
LEAVE_MARGIN_S = 15.0
"""For all steps of a demotion together, on top of `timeout`: what the peer is told."""
CLOSE_RESERVE_S = 5.0
"""What is kept of the time of a stop for the steps after the drain."""
SHORTEST_DRAIN_S = 1.0

CLOSED = "hastd is stopping, or the resource was removed."
RESTARTING = "Already primary, but its worker is being restarted; see the log."
INCONSISTENT = (
    "The local copy is inconsistent: a synchronization into it has not finished. "
    "Let it finish with the peer as primary, or use --force to serve mixed data."
)
STALE = (
    "The local copy is stale: it missed acknowledged writes that only the peer has. "
    "Let them be synchronized with the peer as primary, or use --force to go back to the older data."
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when the change begins. Times in seconds."""

    role: Role
    wanted: Role
    now_s: float
    timeout_s: float
    wait_for_peer_s: float = 0.0
    force: bool = False
    closed: bool = False
    """No role is taken any more but init, at the end."""
    serving: bool = False
    """As primary: the device is there and a worker serves it."""
    arbitrated: bool = False
    """An arbiter or a fence program has a say; as primary: it was asked and has granted the role."""
    last_error: str | None = None
    together: bool = False
    """Other resources of its pool let go at the same time."""
    end_s: float | None = None
    """When the whole of hastd has to have stopped, by the clock of `now_s`."""


def leave_limit_s(timeout_s: float) -> float:
    """How long a demotion takes at most."""
    return LEAVE_MARGIN_S + timeout_s


def change(facts: Facts) -> Plan:
    """The plan for a requested role."""
    if facts.closed:
        return Ending(facts.role, Refusal(CLOSED))
    if facts.wanted is facts.role:
        return Ending(facts.role, (yield from _confirm(facts)))
    if facts.wanted is Role.PRIMARY:
        return (yield from _promote(facts))
    return (yield from leave(facts))


def leave(facts: Facts) -> Plan:
    """Let go of everything and take the role wanted, which is not primary."""
    release = _release_primary if facts.role is Role.PRIMARY else _release_secondary
    stuck = yield from release(facts)
    role = Role.INIT if stuck else facts.wanted
    yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, role)
    return Ending(role, stuck)


def ready_limit_s(timeout_s: float, wait_for_peer_s: float) -> float:
    """How long a primary's worker may take to be ready."""
    return READY_LIMIT_S + 2.0 * timeout_s + wait_for_peer_s


def _confirm(facts: Facts) -> Part:
    """The role wanted is the present one: is it true? By hand, held writes go on."""
    if facts.role is not Role.PRIMARY:
        return None
    if not facts.serving:
        return Refusal(facts.last_error or RESTARTING)
    if facts.force and facts.arbitrated:
        answer = yield Step(Do.OVERRULE_ARBITER, ASK_LIMIT_S)
        if answer.failure is not None:
            return Refusal(answer.failure)
    return None


# --- promotion --------------------------------------------------------------------------------------------------------


def _promote(facts: Facts) -> Plan:
    refusal = yield from _ask_everybody(facts)
    if refusal is not None:
        return Ending(facts.role, refusal)
    stuck = yield from _release_secondary(facts)
    if stuck is not None:
        yield from _give_back(facts)
        yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, Role.INIT)
        return Ending(Role.INIT, stuck)
    yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, Role.PRIMARY)
    refusal = yield from _start(facts)
    if refusal is None:
        return Ending(Role.PRIMARY)
    yield Step(Do.KILL_WORKER, STEP_LIMIT_S)
    yield Step(Do.CLOSE_DEVICE, DEVICE_LIMIT_S)
    yield from _give_back(facts)
    yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, facts.role)
    return Ending(facts.role, refusal)


def _ask_everybody(facts: Facts) -> Part:
    if not facts.force:
        refusal = (yield from _ask_worker()) or (yield from _ask_peer(facts))
        if refusal is not None:
            return refusal
    return (yield from _ask_arbiter(facts)) if facts.arbitrated else None


def _ask_worker() -> Part:
    """A connected secondary knows of its copy what a new primary would find out only after the peer was dropped."""
    answer = yield Step(Do.ASK_WORKER, ASK_LIMIT_S)
    if answer.give_up is not None:
        return Refusal(answer.give_up)
    if answer.inconsistent:
        return Refusal(INCONSISTENT)
    return Refusal(STALE) if answer.stale else None


def _ask_peer(facts: Facts) -> Part:
    """To leave the role of a secondary makes the primary go on alone, so a living primary has to let go first."""
    deadline_s = facts.now_s + facts.timeout_s
    while True:
        answer = yield Step(Do.ASK_PEER, ASK_LIMIT_S)
        if answer.give_up is None:
            if not answer.peer_is_primary:
                return None
            if answer.peer_until_s is not None:
                deadline_s = max(deadline_s, answer.peer_until_s + ASK_AGAIN_S)
            answer = yield Step(Do.WAIT_FOR_PEER, min(ASK_AGAIN_S, max(deadline_s - answer.now_s, 0.0)))
        if answer.give_up is not None:
            return Refusal(answer.give_up)
        if answer.now_s >= deadline_s:
            reason = may_serve(PeerState.PRIMARY, force=False, resume=False).reason
            text = f"Unable to become primary: {reason}."
            return Refusal(text, f"Not primary: {reason}.", publish=True)


def _ask_arbiter(facts: Facts) -> Part:
    answer = yield Step(Do.ASK_ARBITER, ARBITER_LIMIT_S, force=facts.force)
    if answer.failure is None and answer.give_up is None:
        return None
    yield from _give_back(facts)
    if answer.give_up is not None:
        return Refusal(answer.give_up)
    return Refusal(f"The arbiter refuses: {answer.failure}.", f"Not primary: {answer.failure}.")


def _start(facts: Facts) -> Part:
    for step in (
        Step(Do.PREPARE_DEVICE, STEP_LIMIT_S),
        Step(Do.START_WORKER, DEVICE_LIMIT_S, force=facts.force),
        Step(Do.AWAIT_READY, ready_limit_s(facts.timeout_s, facts.wait_for_peer_s)),
        Step(Do.ATTACH_DEVICE, DEVICE_LIMIT_S),
    ):
        answer = yield step
        served = step.do is Do.ATTACH_DEVICE and answer.failure is None
        reason = answer.failure if answer.give_up is None or served else answer.give_up
        if reason is not None:
            return Refusal(reason, f"Not primary: {reason}", publish=True)
    return None


# --- letting go -------------------------------------------------------------------------------------------------------


def _release_primary(facts: Facts) -> Part:
    now_s = facts.now_s
    if facts.serving:
        within_s = leave_limit_s(facts.timeout_s)
        if facts.end_s is not None:
            within_s = min(within_s, max(facts.end_s - now_s, SHORTEST_DRAIN_S))
        yield Step(Do.SAY_LEAVING, SAY_LIMIT_S, within_s=within_s)
        yield Step(Do.QUIESCE_DEVICE, STEP_LIMIT_S)
    yield from _meet(facts)
    if facts.serving:
        answer = yield Step(Do.WITHHOLD, QUIET_LIMIT_S)
        now_s = answer.now_s
    yield from _meet(facts)
    answer = yield Step(Do.STOP_WORKER, _drain_limit_s(facts, now_s))
    yield from _meet(facts)
    yield Step(Do.CLOSE_DEVICE, DEVICE_LIMIT_S)
    yield from _give_back(facts)
    return Refusal(str(answer.failure), answer.failure) if answer.stuck else None


def _meet(facts: Facts) -> Part:
    if facts.together:
        yield Step(Do.MEET, MEET_LIMIT_S)
    return None


def _drain_limit_s(facts: Facts, now_s: float) -> float:
    limit_s = facts.timeout_s + STOP_MARGIN_S
    if facts.end_s is not None:
        limit_s = min(limit_s, facts.end_s - now_s - CLOSE_RESERVE_S)
    return max(limit_s, SHORTEST_DRAIN_S)


def _release_secondary(_facts: Facts) -> Part:
    answer = yield Step(Do.DROP_PEER, DROP_LIMIT_S)
    return Refusal(str(answer.failure), answer.failure) if answer.stuck else None


def _give_back(facts: Facts) -> Part:
    if facts.arbitrated:
        yield Step(Do.GIVE_BACK_LEASE, STEP_LIMIT_S)
    return None
