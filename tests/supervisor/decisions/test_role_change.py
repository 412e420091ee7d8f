"""Role changes step by step: who is asked, what is done and undone, and a death between any two steps."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from role_node import STUCK, Node, standing

from hast.format.constants import Role
from hast.supervisor.decisions.role_change import (
    CLOSED,
    INCONSISTENT,
    RESTARTING,
    STALE,
    Facts,
    change,
    leave,
)
from hast.supervisor.decisions.steps import Do, Ending, Refusal

INIT, PRIMARY, SECONDARY = Role.INIT, Role.PRIMARY, Role.SECONDARY
ASK_ALL = [Do.ASK_WORKER, Do.ASK_PEER, Do.ASK_ARBITER]
START = [Do.PREPARE_DEVICE, Do.START_WORKER, Do.AWAIT_READY, Do.ATTACH_DEVICE]
PROMOTE = [*ASK_ALL, Do.DROP_PEER, Do.TAKE_ROLE, *START]
STOP = [
    Do.SAY_LEAVING,
    Do.QUIESCE_DEVICE,
    Do.WITHHOLD,
    Do.STOP_WORKER,
    Do.CLOSE_DEVICE,
    Do.GIVE_BACK_LEASE,
]
UNDO = [Do.KILL_WORKER, Do.CLOSE_DEVICE, Do.GIVE_BACK_LEASE, Do.TAKE_ROLE]


def go(node: Node, wanted: Role, force: bool = False) -> Ending:
    ending = node.run(change(node.facts(wanted, force)))
    assert ending is not None
    assert ending.role is node.role
    return ending


def left(node: Node) -> str:
    """What the node holds, in short."""
    held = {
        "secondary worker": node.secondary_worker,
        "peer": node.connected,
        "primary worker": node.primary_worker,
        "device": node.prepared or node.attached,
        "lease": node.lease,
    }
    return ", ".join(name for name, there in held.items() if there)


# Steps of a change that meets no trouble, and what is held afterwards.
PATHS = [
    (INIT, SECONDARY, True, False, [Do.DROP_PEER, Do.TAKE_ROLE], ""),
    (INIT, PRIMARY, True, False, PROMOTE, "primary worker, device, lease"),
    (INIT, PRIMARY, False, False, [step for step in PROMOTE if step is not Do.ASK_ARBITER], "primary worker, device"),
    (INIT, PRIMARY, True, True, PROMOTE[2:], "primary worker, device, lease"),
    (INIT, PRIMARY, False, True, PROMOTE[3:], "primary worker, device"),
    (SECONDARY, PRIMARY, True, False, PROMOTE, "primary worker, device, lease"),
    (SECONDARY, PRIMARY, True, True, PROMOTE[2:], "primary worker, device, lease"),
    (SECONDARY, INIT, True, False, [Do.DROP_PEER, Do.TAKE_ROLE], ""),
    (PRIMARY, SECONDARY, True, False, [*STOP, Do.TAKE_ROLE], ""),
    (PRIMARY, SECONDARY, False, False, [*STOP[:-1], Do.TAKE_ROLE], ""),
    (PRIMARY, INIT, True, False, [*STOP, Do.TAKE_ROLE], ""),
    (INIT, INIT, True, False, [], ""),
    (SECONDARY, SECONDARY, True, True, [], "secondary worker, peer"),
    (PRIMARY, PRIMARY, True, False, [], "peer, primary worker, device, lease"),
    (PRIMARY, PRIMARY, True, True, [Do.OVERRULE_ARBITER], "peer, primary worker, device, lease"),
    (PRIMARY, PRIMARY, False, True, [], "peer, primary worker, device"),
]


@pytest.mark.parametrize(("role", "wanted", "arbitrated", "force", "steps", "held"), PATHS)
def test_steps_of_a_change_and_what_is_held_after_it(
    role: Role, wanted: Role, arbitrated: bool, force: bool, steps: list[Do], held: str
) -> None:
    node = standing(role, arbitrated)
    assert go(node, wanted, force) == Ending(wanted)
    assert node.done == steps
    assert left(node) == held


# What goes wrong → steps done, role held, the reason told, what status remembers, whether subscribers hear of it.
SAID = "said so"
TROUBLES = [
    (INIT, PRIMARY, Do.ASK_ARBITER, [*ASK_ALL, Do.GIVE_BACK_LEASE], INIT, "The arbiter refuses: said so.", False),
    (SECONDARY, PRIMARY, Do.ASK_ARBITER, [*ASK_ALL, Do.GIVE_BACK_LEASE], SECONDARY, "The arbiter refuses:", False),
    (SECONDARY, PRIMARY, Do.PREPARE_DEVICE, [*PROMOTE[:6], *UNDO], SECONDARY, SAID, True),
    (SECONDARY, PRIMARY, Do.START_WORKER, [*PROMOTE[:7], *UNDO], SECONDARY, SAID, True),
    (SECONDARY, PRIMARY, Do.AWAIT_READY, [*PROMOTE[:8], *UNDO], SECONDARY, SAID, True),
    (SECONDARY, PRIMARY, Do.ATTACH_DEVICE, [*PROMOTE[:9], *UNDO], SECONDARY, SAID, True),
    (INIT, PRIMARY, Do.ATTACH_DEVICE, [*PROMOTE[:9], *UNDO], INIT, SAID, True),
]


@pytest.mark.parametrize(("role", "wanted", "fails", "steps", "ends", "reason", "published"), TROUBLES)
def test_what_fails_is_undone_and_the_old_role_is_held_again(
    role: Role, wanted: Role, fails: Do, steps: list[Do], ends: Role, reason: str, published: bool
) -> None:
    node = standing(role)
    node.faults = {fails: SAID}
    before = left(node)
    ending = go(node, wanted)
    assert (node.done, ending.role) == (steps, ends)
    assert ending.refusal is not None
    assert reason in ending.refusal.reason
    assert ending.refusal.remember is not None
    assert ending.refusal.remember.startswith("Not primary: ")
    assert ending.refusal.publish is published
    assert left(node) == (before if fails is Do.ASK_ARBITER else "")


@pytest.mark.parametrize("role", [INIT, SECONDARY])
@pytest.mark.parametrize("step", [Do.KILL_WORKER, Do.CLOSE_DEVICE, Do.GIVE_BACK_LEASE])
def test_an_undo_that_fails_keeps_nothing_else_from_being_undone(role: Role, step: Do) -> None:
    node = standing(role)
    node.faults = {Do.AWAIT_READY: SAID, step: "cannot"}
    assert go(node, PRIMARY).role is role
    assert node.done[-len(UNDO) :] == UNDO


# --- who is asked, before anything is let go ----------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "text"), [("inconsistent", INCONSISTENT), ("stale", STALE)])
def test_a_copy_that_is_not_fit_is_refused_while_the_peer_is_still_connected(mark: str, text: str) -> None:
    node = standing(SECONDARY)
    setattr(node, mark, True)
    assert go(node, PRIMARY) == Ending(SECONDARY, Refusal(text))
    assert left(node) == "secondary worker, peer"
    assert go(node, PRIMARY, force=True) == Ending(PRIMARY)


def test_a_peer_that_lets_go_in_time_is_waited_for() -> None:
    node = standing(SECONDARY)
    node.peer_primary_for = 3
    assert go(node, PRIMARY) == Ending(PRIMARY)
    assert node.done.count(Do.ASK_PEER) == 4


def test_a_peer_that_stays_primary_keeps_its_secondary_and_the_promotion_ends_after_timeout() -> None:
    node = standing(SECONDARY)
    node.peer_primary_for = 1000
    ending = go(node, PRIMARY)
    assert ending.role is SECONDARY
    assert ending.refusal is not None
    assert "the peer is primary" in ending.refusal.reason
    assert (ending.refusal.remember or "").count("primary: ") == 1
    assert ending.refusal.publish
    assert 20.0 <= node.now_s <= 22.0
    assert left(node) == "secondary worker, peer"


def test_by_hand_neither_worker_nor_peer_is_asked_but_the_arbiter_is() -> None:
    node = standing(SECONDARY)
    node.peer_primary_for = 1000
    assert go(node, PRIMARY, force=True) == Ending(PRIMARY)
    assert node.done[0] is Do.ASK_ARBITER
    assert node.forced == [Do.ASK_ARBITER, Do.START_WORKER]
    node = standing(SECONDARY)
    assert go(node, PRIMARY) == Ending(PRIMARY)
    assert node.forced == []


# --- a later request ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*PROMOTE[:3], *PROMOTE[5:8]])
def test_a_later_request_ends_a_promotion_that_serves_nothing_yet(step: Do) -> None:
    node = standing(SECONDARY)
    node.give_up_at = step
    ending = go(node, PRIMARY)
    assert ending.role is SECONDARY
    assert ending.refusal is not None
    assert ending.refusal.reason == "Given up for role secondary."
    assert Do.ATTACH_DEVICE not in node.done
    assert not node.lease


def test_a_later_request_while_waiting_for_the_peer_keeps_the_peer() -> None:
    node = standing(SECONDARY)
    node.peer_primary_for, node.give_up_at = 1000, Do.WAIT_FOR_PEER
    assert go(node, PRIMARY) == Ending(SECONDARY, Refusal("Given up for role secondary."))
    assert left(node) == "secondary worker, peer"


def test_a_promotion_whose_device_is_there_is_not_taken_back() -> None:
    node = standing(SECONDARY)
    node.give_up_at = Do.ATTACH_DEVICE
    assert go(node, PRIMARY) == Ending(PRIMARY)


@pytest.mark.parametrize("step", STOP)
def test_a_demotion_is_not_stopped_by_anything(step: Do) -> None:
    node = standing(PRIMARY)
    node.give_up_at = step
    assert go(node, SECONDARY) == Ending(SECONDARY)
    assert left(node) == ""


# --- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "wanted", "step"),
    [
        (PRIMARY, SECONDARY, Do.STOP_WORKER),
        (SECONDARY, INIT, Do.DROP_PEER),
        (SECONDARY, PRIMARY, Do.DROP_PEER),
    ],
)
def test_a_worker_that_does_not_die_leaves_role_init_and_no_lease(role: Role, wanted: Role, step: Do) -> None:
    node = standing(role)
    node.faults = {step: STUCK}
    assert go(node, wanted) == Ending(INIT, Refusal(STUCK, STUCK))
    assert not node.lease
    assert not node.prepared


@pytest.mark.parametrize("step", [Do.QUIESCE_DEVICE, Do.STOP_WORKER, Do.CLOSE_DEVICE, Do.GIVE_BACK_LEASE])
def test_a_demotion_goes_on_whatever_fails(step: Do) -> None:
    node = standing(PRIMARY)
    node.faults = {step: "cannot"}
    assert go(node, SECONDARY) == Ending(SECONDARY)
    assert node.done == [*STOP, Do.TAKE_ROLE]


def test_a_dead_primary_is_demoted_without_writing_back() -> None:
    node = standing(PRIMARY)
    node.primary_worker = node.ready = False
    assert go(node, SECONDARY) == Ending(SECONDARY)
    assert Do.QUIESCE_DEVICE not in node.done


def test_primary_again_is_refused_while_no_worker_serves() -> None:
    facts = Facts(PRIMARY, PRIMARY, 0.0, 20.0)
    node = standing(PRIMARY)
    assert node.run(change(facts)) == Ending(PRIMARY, Refusal(RESTARTING))
    assert node.run(change(replace(facts, last_error="bad disk"))) == Ending(PRIMARY, Refusal("bad disk"))


def test_writes_that_cannot_be_let_go_by_hand_are_reported() -> None:
    node = standing(PRIMARY)
    node.faults = {Do.OVERRULE_ARBITER: "no answer"}
    assert go(node, PRIMARY, force=True) == Ending(PRIMARY, Refusal("no answer"))


@pytest.mark.parametrize("wanted", list(Role))
def test_a_closed_resource_takes_no_role_but_lets_go(wanted: Role) -> None:
    node = standing(PRIMARY)
    assert node.run(change(replace(node.facts(wanted), closed=True))) == Ending(PRIMARY, Refusal(CLOSED))
    assert node.run(leave(replace(node.facts(INIT), closed=True))) == Ending(INIT)
    assert left(node) == ""


# --- a death between any two steps ------------------------------------------------------------------------------------

CHANGES = [(role, wanted) for role in Role for wanted in Role if role is not wanted]
FAULTS: list[dict[Do, str]] = [{}, *({step: SAID} for step in Do), {Do.STOP_WORKER: STUCK}, {Do.DROP_PEER: STUCK}]


@pytest.mark.parametrize(("role", "wanted"), CHANGES)
def test_after_a_death_between_any_two_steps_the_next_hastd_begins_clean_and_takes_any_role(
    role: Role, wanted: Role
) -> None:
    for faults, steps in product(FAULTS, range(len(PROMOTE) + len(UNDO))):
        node = standing(role)
        node.faults = faults
        node.run(change(node.facts(wanted)), stop_after=steps)
        node.crash()
        node.recover()
        if node.immortal:
            continue
        assert left(node) == ""
        assert go(node, PRIMARY) == Ending(PRIMARY)
        assert go(node, SECONDARY) == Ending(SECONDARY)
        assert left(node) == ""


def test_every_step_has_a_limit() -> None:
    for role, wanted in CHANGES:
        node = standing(role)
        go(node, wanted)
        assert all(0 < limit_s <= 120 for limit_s in node.limits)


# --- letting go in order ----------------------------------------------------------------------------------------------


def test_resources_of_one_pool_meet_before_answers_stop_before_the_drain_and_before_errors() -> None:
    node = standing(PRIMARY)
    node.run(leave(replace(node.facts(INIT), together=True)))
    meet = Do.MEET
    assert node.done == [*STOP[:2], meet, Do.WITHHOLD, meet, Do.STOP_WORKER, meet, *STOP[4:], Do.TAKE_ROLE]


def test_one_whose_worker_is_dead_comes_to_the_same_places() -> None:
    node = standing(PRIMARY)
    node.primary_worker = node.connected = False
    node.run(leave(replace(node.facts(INIT), together=True)))
    assert node.done.count(Do.MEET) == 3


def test_time_of_a_stop_limits_what_the_peer_is_told_and_the_drain() -> None:
    node = standing(PRIMARY)
    node.now_s = 1000.0
    node.run(leave(replace(node.facts(INIT), end_s=1012.0)))
    assert node.told_within_s == 12.0
    assert node.limits[node.done.index(Do.STOP_WORKER)] < 7.0


def test_peer_that_is_letting_go_is_waited_for_until_the_time_that_it_told() -> None:
    node = standing(SECONDARY)
    node.peer_primary_for, node.peer_until_s = 40, 60.0
    ending = go(node, PRIMARY)
    assert ending.refusal is None
    assert node.now_s > 35.0
