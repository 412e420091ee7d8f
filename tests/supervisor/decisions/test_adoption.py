"""Take-over of what a dead hastd left running, as a plan without I/O."""

from __future__ import annotations

import pytest

from hast.format.constants import Role
from hast.supervisor.decisions import adoption
from hast.supervisor.decisions.steps import Answer, Do, Ending, Plan


def played(plan: Plan, failing: Do | None = None) -> tuple[list[Do], Ending]:
    steps: list[Do] = []
    answer = None
    while True:
        try:
            step = next(plan) if answer is None else plan.send(answer)
        except StopIteration as end:
            return steps, end.value
        steps.append(step.do)
        answer = Answer(0.0, "no" if step.do is failing else None)


@pytest.mark.parametrize(
    ("role", "arbitrated", "asked"),
    [(Role.PRIMARY, True, True), (Role.PRIMARY, False, False), (Role.SECONDARY, True, False)],
)
def test_a_worker_is_taken_over_before_anybody_is_asked(role: Role, arbitrated: bool, asked: bool) -> None:
    steps, ending = played(adoption.adopt(role, arbitrated))
    assert steps == [Do.TAKE_ROLE, Do.ADOPT_WORKER, *([Do.REGAIN_LEASE] if asked else [])]
    assert ending == Ending(role)


@pytest.mark.parametrize(
    ("role", "undone"),
    [(Role.PRIMARY, [Do.KILL_WORKER, Do.CLOSE_DEVICE]), (Role.SECONDARY, [Do.DROP_PEER])],
)
def test_what_cannot_be_taken_over_is_ended_and_the_role_given_up(role: Role, undone: list[Do]) -> None:
    steps, ending = played(adoption.adopt(role, True), failing=Do.ADOPT_WORKER)
    assert steps == [Do.TAKE_ROLE, Do.ADOPT_WORKER, *undone, Do.TAKE_ROLE]
    assert ending.role is Role.INIT
    assert ending.refusal is not None


def test_an_arbiter_that_cannot_be_asked_ends_no_role() -> None:
    _steps, ending = played(adoption.adopt(Role.PRIMARY, True), failing=Do.REGAIN_LEASE)
    assert ending == Ending(Role.PRIMARY)


@pytest.mark.parametrize(("recorded", "role"), [("primary", "init"), ("secondary", "secondary"), ("init", "init")])
def test_only_a_secondary_outlives_its_worker(recorded: str, role: str) -> None:
    assert adoption.role_without_worker(Role(recorded)) is Role(role)
