"""A primary whose worker died: restarted or not, after which delay, by which steps."""

from __future__ import annotations

import pytest
from role_node import STUCK, Node, standing

from hast.format.constants import Role
from hast.supervisor.decisions.restart import (
    MAX_DELAY_S,
    STABLE_AFTER_S,
    Backoff,
    Death,
    give_up,
    may_restart,
    replace_worker,
)
from hast.supervisor.decisions.steps import Do, Ending, Refusal

REPLACE = [Do.RESUME_WORKER, Do.AWAIT_READY, Do.HAND_OVER_DEVICE]


def test_first_restart_is_at_once_and_crashes_in_a_row_wait_ever_longer() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay_s(0.0) for _ in range(30)]
    assert delays[0] <= 0.05
    assert delays[1] <= 1.0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S


def test_worker_that_ran_for_a_while_is_restarted_at_once_again() -> None:
    backoff = Backoff()
    for now in (0.0, 1.0, 2.0):
        backoff.next_delay_s(now)
    assert backoff.next_delay_s(2.0 + STABLE_AFTER_S + 1.0) <= 0.05


@pytest.mark.parametrize(
    ("death", "again"),
    [
        (Death(-9), True),
        (Death(-11), True),
        (Death(1), True),
        (Death(70), True),
        (Death(75), True),
        (Death(None), True),
        (Death(0), False),
        (Death(65), False),
        (Death(66), False),
        (Death(78), False),
        (Death(1, "the local copy is stale"), False),
        (Death(-9, "the local copy is stale"), False),
    ],
)
def test_crashes_keep_the_role_and_a_worker_that_says_it_cannot_hold_it_is_believed(death: Death, again: bool) -> None:
    assert may_restart(death) is again


def bereaved() -> Node:
    """A primary whose worker died."""
    node = standing(Role.PRIMARY)
    node.primary_worker = node.ready = node.connected = False
    return node


def test_a_device_that_survives_is_handed_over_and_another_is_made_anew() -> None:
    node = bereaved()
    assert node.run(replace_worker(30.0, device_survives=True)) == Ending(Role.PRIMARY)
    assert node.done == REPLACE
    assert node.serving
    node = bereaved()
    assert node.run(replace_worker(30.0, device_survives=False)) == Ending(Role.PRIMARY)
    assert node.done == [Do.DETACH_DEVICE, Do.PREPARE_DEVICE, *REPLACE]


@pytest.mark.parametrize("survives", [True, False])
@pytest.mark.parametrize("step", [Do.PREPARE_DEVICE, *REPLACE])
def test_a_restart_that_fails_leaves_no_worker_and_keeps_role_device_and_lease(step: Do, survives: bool) -> None:
    if survives and step is Do.PREPARE_DEVICE:
        return
    node = bereaved()
    node.faults = {step: "cannot"}
    assert node.run(replace_worker(30.0, survives)) == Ending(Role.PRIMARY, Refusal("cannot", "cannot"))
    assert (node.primary_worker, node.prepared, node.lease, node.role) == (False, True, True, Role.PRIMARY)


def test_a_later_request_ends_a_restart_that_serves_nothing_yet() -> None:
    for step in REPLACE[:2]:
        node = bereaved()
        node.give_up_at = step
        ending = node.run(replace_worker(30.0, device_survives=True))
        assert ending is not None
        assert ending.refusal is not None
        assert node.done[-1] is Do.KILL_WORKER
    node = bereaved()
    node.give_up_at = Do.HAND_OVER_DEVICE
    assert node.run(replace_worker(30.0, device_survives=True)) == Ending(Role.PRIMARY)


@pytest.mark.parametrize("faults", [{}, {Do.KILL_WORKER: STUCK}, {Do.CLOSE_DEVICE: "cannot"}])
@pytest.mark.parametrize("arbitrated", [True, False])
def test_a_role_that_cannot_be_held_leaves_nothing_behind(arbitrated: bool, faults: dict[Do, str]) -> None:
    node = standing(Role.PRIMARY, arbitrated)
    node.faults = faults
    ending = node.run(give_up("bad disk", arbitrated))
    assert ending == Ending(Role.INIT, Refusal("bad disk", "No longer primary: bad disk"))
    assert (node.prepared, node.lease, node.role) == (False, False, Role.INIT)


def test_after_a_death_between_any_two_steps_the_next_hastd_begins_clean() -> None:
    for survives in (True, False):
        for steps in range(6):
            node = bereaved()
            node.run(replace_worker(30.0, survives), stop_after=steps)
            node.crash()
            node.recover()
            assert not any((node.primary_worker, node.prepared, node.attached, node.lease))
