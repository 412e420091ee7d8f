"""What a change of role would do, said before it is done."""

from __future__ import annotations

import asyncio

import pytest

from hast.format.constants import Role
from hast.supervisor.decisions.foresight import Foreseen, foresee
from hast.supervisor.decisions.role_change import INCONSISTENT, Facts, change
from hast.supervisor.decisions.steps import Answer, Do, Step


def foreseen(facts: Facts, **answers: bool) -> tuple[Foreseen, list[Do]]:
    asked: list[Do] = []

    async def ask(step: Step) -> Answer:
        asked.append(step.do)
        return Answer(0.0, **answers)  # type: ignore[arg-type]

    return asyncio.run(foresee(change(facts), ask, 0.0)), asked


def test_a_promotion_is_told_from_the_questions_to_the_device() -> None:
    told, asked = foreseen(Facts(Role.SECONDARY, Role.PRIMARY, 0.0, 20.0))
    assert asked == [Do.ASK_WORKER, Do.ASK_PEER]
    assert told.refusal is None
    assert told.steps[2:4] == (
        "end the connections of the secondary and its worker, at most 5 s",
        "be primary from now on, for peers and for status",
    )
    assert told.steps[-1].startswith("make the device over the worker that serves")


def test_the_arbiter_is_not_asked_and_its_part_is_told() -> None:
    told, asked = foreseen(Facts(Role.SECONDARY, Role.PRIMARY, 0.0, 20.0, arbitrated=True))
    assert Do.ASK_ARBITER not in asked
    assert any("refused, with nothing changed, if it says no" in line for line in told.steps)


def test_a_peer_that_is_primary_is_waited_for_once_and_both_ends_are_told() -> None:
    told, asked = foreseen(Facts(Role.SECONDARY, Role.PRIMARY, 0.0, 20.0), peer_is_primary=True)
    assert asked == [Do.ASK_WORKER, Do.ASK_PEER]
    assert [line for line in told.steps if "wait until the peer" in line] == [
        "wait until the peer lets go, or the time is over; refused if it is still primary then"
    ]
    assert told.refusal is None


def test_a_copy_that_is_not_fit_refuses_and_nothing_after_it_is_told() -> None:
    told, _asked = foreseen(Facts(Role.SECONDARY, Role.PRIMARY, 0.0, 20.0), inconsistent=True)
    assert told.refusal == INCONSISTENT
    assert len(told.steps) == 1


@pytest.mark.parametrize("wanted", [Role.SECONDARY, Role.INIT])
def test_a_demotion_asks_nobody_and_ends_with_the_role(wanted: Role) -> None:
    told, asked = foreseen(Facts(Role.PRIMARY, wanted, 0.0, 20.0, serving=True, together=True))
    assert asked == []
    assert told.steps[-1] == f"be {wanted} from now on, for peers and for status"
    assert any("write back what the kernel holds" in line for line in told.steps)
