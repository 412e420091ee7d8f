"""How a host leaves: the decision for every state of the pair, and the steps in order, whatever fails on the way."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import replace

import pytest

from hast.election.leaving import (
    Action,
    Decision,
    Facts,
    Hold,
    Job,
    Outcome,
    Program,
    Resource,
    Vhid,
    Way,
    decide,
    hold,
    leave,
)

WHOLE = Resource("disk1", primary=True)
STALE = Resource("disk2", primary=True, lacking="not connected since 14:16:53")
SLAVE = Resource("disk1", primary=False, lacking="no primary is connected")
HERE = Vhid("1@pub", master=True, adoptable=True)
BACKUP = Vhid("1@pub", master=False)
MASTER = Facts([WHOLE], [HERE])
EVERY_PROGRAM = tuple(Program)


def run(facts: Facts, failing: Collection[Action] = ()) -> tuple[list[Action], Outcome]:
    """The actions in order, and the outcome, when those in `failing` fail."""
    steps = leave(facts)
    done: list[Action] = []
    try:
        step = next(steps)
        while True:
            done.append(step.action)
            step = steps.send(step.action not in failing)
    except StopIteration as stop:
        return done, stop.value


@pytest.mark.parametrize("ending", [None, *Program])
def test_a_host_that_serves_nothing_does_nothing(ending: Program | None) -> None:
    assert run(Facts([SLAVE], [BACKUP], ending=ending)) == ([], Outcome.NOTHING)
    assert run(Facts(hastd=False, carpd=False, ending=ending)) == ([], Outcome.NOTHING)


def test_an_address_without_data_goes_with_its_carpd_as_ever() -> None:
    facts = Facts(vhids=[replace(HERE, data=False, adoptable=False)], hastd=False, ending=Program.CARPD)
    assert run(facts) == ([], Outcome.NOTHING)


@pytest.mark.parametrize("ending", [None, *Program])
def test_a_master_with_a_whole_copy_on_the_other_side_hands_over_whatever_ends(ending: Program | None) -> None:
    order = [Action.GIVE_ADDRESS, Action.TAKE_DOWN, Action.AWAIT_SUCCESSOR]
    assert run(replace(MASTER, ending=ending)) == (order, Outcome.HANDED_OVER)
    if ending is not None:
        assert run(replace(MASTER, ending=ending, jobs={ending: Job.STOP})) == (order, Outcome.HANDED_OVER)


def test_one_copy_of_a_pool_that_is_not_whole_on_the_other_side_holds_back_all() -> None:
    facts = Facts([WHOLE, STALE], [HERE])
    assert decide(facts) == Decision(Way.END_ALONE, ("disk2: not connected since 14:16:53",))
    assert run(facts) == ([Action.WARN, Action.TAKE_DOWN], Outcome.ALONE)


def test_without_a_successor_the_address_is_not_offered_to_a_stale_copy() -> None:
    assert Action.GIVE_ADDRESS not in run(Facts([STALE], [HERE]))[0]


def test_what_a_run_left_up_without_a_role_is_taken_down() -> None:
    assert run(Facts([SLAVE], [BACKUP], begun=True))[0] == [
        Action.GIVE_ADDRESS,
        Action.TAKE_DOWN,
        Action.AWAIT_SUCCESSOR,
    ]
    assert decide(Facts(hastd=False, begun=True)).way is Way.END_ALONE


def test_without_carpd_nobody_is_told_to_take_over() -> None:
    decision = decide(Facts([WHOLE], carpd=False))
    assert decision.way is Way.END_ALONE
    assert "carpd does not answer" in decision.reasons[0]


def test_a_role_that_stays_is_no_hand_over_and_the_other_host_is_not_waited_for() -> None:
    done, outcome = run(MASTER, {Action.TAKE_DOWN})
    assert (done[-1], outcome) == (Action.TAKE_DOWN, Outcome.HELD)
    assert run(Facts([STALE], [HERE]), {Action.TAKE_DOWN})[1] is Outcome.HELD


def test_a_hand_over_that_nobody_took_is_said_aloud() -> None:
    done, outcome = run(MASTER, {Action.AWAIT_SUCCESSOR})
    assert (done[-1], outcome) == (Action.WARN, Outcome.ALONE)


@pytest.mark.parametrize("ending", [Program.CARPD, Program.DEVD])
def test_a_daemon_without_data_that_begins_anew_leaves_the_service_where_it_is(ending: Program) -> None:
    done, outcome = run(replace(MASTER, ending=ending, jobs={ending: Job.RESTART}))
    assert outcome is Outcome.KEPT
    assert done == ([Action.KEEP_ADDRESS] if ending is Program.CARPD else [])


def test_so_do_both_at_once() -> None:
    both = {Program.CARPD: Job.RESTART, Program.DEVD: Job.RESTART}
    assert all(
        run(replace(MASTER, ending=ending, jobs=both))[1] is Outcome.KEPT for ending in (Program.CARPD, Program.DEVD)
    )


def test_a_service_that_stays_is_kept_also_while_the_other_copy_is_stale() -> None:
    facts = Facts([STALE], [HERE], ending=Program.CARPD, jobs={Program.CARPD: Job.RESTART})
    assert run(facts)[1] is Outcome.KEPT


@pytest.mark.parametrize("others", itertools.product([None, *Job], repeat=2))
def test_hastd_that_stops_is_always_a_hand_over(others: tuple[Job | None, Job | None]) -> None:
    jobs = {program: job for program, job in zip((Program.CARPD, Program.DEVD), others, strict=True) if job}
    for ending in EVERY_PROGRAM:
        facts = replace(MASTER, ending=ending, jobs={**jobs, Program.HASTD: Job.STOP})
        assert decide(facts).way is Way.HAND_OVER


@pytest.mark.parametrize("others", itertools.product([None, Job.RESTART], repeat=2))
def test_hastd_that_begins_anew_leaves_its_workers_and_the_service_stays(others: tuple[Job | None, Job | None]) -> None:
    jobs = {program: job for program, job in zip((Program.CARPD, Program.DEVD), others, strict=True) if job}
    jobs[Program.HASTD] = Job.RESTART
    for ending in jobs:
        assert decide(replace(MASTER, ending=ending, jobs=jobs)).way is Way.KEEP


def test_so_it_does_while_hastd_is_away_and_nobody_can_tell_what_the_new_carpd_will_find() -> None:
    jobs = dict.fromkeys(EVERY_PROGRAM, Job.RESTART)
    facts = Facts([], [replace(HERE, adoptable=False)], hastd=False, begun=True)
    for ending in EVERY_PROGRAM:
        assert decide(replace(facts, ending=ending, jobs=jobs)).way is Way.KEEP


def test_a_restart_beside_a_daemon_that_stops_for_good_is_a_hand_over() -> None:
    jobs = {Program.CARPD: Job.RESTART, Program.DEVD: Job.STOP}
    assert decide(replace(MASTER, ending=Program.CARPD, jobs=jobs)).way is Way.HAND_OVER


def test_a_carpd_that_would_not_know_itself_master_hands_over() -> None:
    facts = Facts([WHOLE], [replace(HERE, adoptable=False)], ending=Program.CARPD, jobs={Program.CARPD: Job.RESTART})
    assert decide(facts).way is Way.HAND_OVER


def test_a_carpd_that_cannot_be_told_to_keep_the_address_hands_over() -> None:
    facts = replace(MASTER, ending=Program.CARPD, jobs={Program.CARPD: Job.RESTART})
    done, outcome = run(facts, {Action.KEEP_ADDRESS})
    assert (done[:3], outcome) == ([Action.KEEP_ADDRESS, Action.GIVE_ADDRESS, Action.TAKE_DOWN], Outcome.HANDED_OVER)


@pytest.mark.parametrize(
    ("resources", "somebody", "expected"),
    [
        ([], True, Hold.NONE),
        ([SLAVE], True, Hold.NONE),
        ([WHOLE], True, Hold.DELAY),
        ([WHOLE, STALE], False, Hold.DELAY),
        ([WHOLE, STALE], True, Hold.BLOCK),
    ],
)
def test_a_shutdown_waits_for_the_hand_over_and_a_person_is_asked_twice_for_the_only_good_copy(
    resources: list[Resource], somebody: bool, expected: Hold
) -> None:
    assert hold(resources, somebody) is expected
