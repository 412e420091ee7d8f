"""A primary whose worker died: restarted or not, after which delay, by which steps."""

from __future__ import annotations

import pytest
from role_node import STUCK, Node, standing

from hast.format.constants import Role
from hast.supervisor.decisions.restart import (
    FIRST_DELAY_S,
    MAX_DEATHS,
    MAX_DELAY_S,
    SHORT_LIFE_S,
    STABLE_AFTER_S,
    Backoff,
    Death,
    give_up,
    may_restart,
    replace_worker,
)
from hast.supervisor.decisions.steps import Do, Ending, Refusal

REPLACE = [Do.RESUME_WORKER, Do.AWAIT_READY, Do.HAND_OVER_DEVICE]


def delays_s(times_s: list[float]) -> list[float | None]:
    backoff = Backoff()
    return [backoff.next_delay_s(now_s) for now_s in times_s]


def test_first_restart_is_at_once_crashes_in_a_row_wait_ever_longer_and_a_crash_loop_ends() -> None:
    first, second, *more, last = delays_s([0.0] * (MAX_DEATHS + 1))
    assert first is not None
    assert second is not None
    assert (first <= 0.05, second <= 1.0) == (True, True)
    numbers = [delay_s for delay_s in more if delay_s is not None]
    assert len(numbers) == len(more)
    assert numbers == sorted(numbers)
    assert numbers[-1] <= MAX_DELAY_S
    assert last is None


def test_worker_that_ran_for_a_while_is_restarted_at_once_again() -> None:
    later_s = STABLE_AFTER_S + 3.0
    delays = delays_s([0.0, 1.0, 2.0, later_s])
    assert delays[-1] == delays[0]


def test_a_worker_that_served_for_a_while_is_replaced_at_once_however_often() -> None:
    backoff = Backoff()
    assert {backoff.next_delay_s(float(second), SHORT_LIFE_S) for second in range(500)} == {FIRST_DELAY_S}
    assert backoff.next_delay_s(500.0, 0.0) == FIRST_DELAY_S


def test_deaths_that_are_far_between_are_no_crash_loop() -> None:
    assert None not in delays_s([number * STABLE_AFTER_S / (MAX_DEATHS - 1) for number in range(40)])


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
