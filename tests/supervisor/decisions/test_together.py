"""supervisor/decisions/together.py: split brain of resources that belong together, by table."""

from __future__ import annotations

import pytest

from hast.config.model import SplitBrainPolicy as P
from hast.config.pool_groups import PoolGroup
from hast.format.constants import Role
from hast.supervisor.decisions.together import Member, decide_together, why_not_alone

GROUP = PoolGroup(("zhast",), ("disk1", "disk2", "disk3"))
LESS = {"local": {"extents": 1, "since": 20}, "peer": {"extents": 5, "since": 10}}
MORE = {"local": {"extents": 5, "since": 20}, "peer": {"extents": 1, "since": 10}}
UNKNOWN = {"local": {"extents": 1}, "peer": None}
LEAST, YOUNGER, MANUAL = P.DISCARD_LEAST_CHANGES, P.DISCARD_YOUNGER_PRIMARY, P.MANUAL


def member(number: int, report: object = LESS, policy: P = LEAST, **more: object) -> Member:
    fields = {"role": Role.SECONDARY, "connected": False} | more
    return Member(f"disk{number}", policy=policy, report=report, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "discard", "reason"),
    [
        ([member(1), member(2), member(3)], True, "changed 1 extents"),
        ([member(1, MORE), member(2, MORE), member(3, MORE)], False, "never given up by themselves"),
        ([member(1), member(2, MORE), member(3)], False, "do not agree, so none is resolved (disk1: policy"),
        ([member(1), member(2, policy=MANUAL), member(3)], False, "do not agree"),
        ([member(1, policy=MANUAL), member(2, policy=MANUAL), member(3, policy=MANUAL)], False, "left to the operator"),
        ([member(1), member(2, policy=YOUNGER), member(3)], True, "changed 1 extents"),
        ([member(1), member(2), member(3, None)], False, "disk3 has not met the other node yet"),
        ([member(1), member(2, connected=True), member(3)], False, "disk2 is connected already"),
        ([member(1), member(2), member(3, role=Role.PRIMARY)], False, "disk3 is primary here"),
        ([member(1), member(2), member(3, role=Role.INIT)], False, "disk3 is init here"),
        ([member(1), member(2, UNKNOWN), member(3)], False, "do not agree"),
        ([member(1, {}), member(2, {}), member(3, {})], False, "not known how much"),
    ],
)
def test_all_or_none_by_policy(members: list[Member], discard: bool, reason: str) -> None:
    decision = decide_together(GROUP, members)
    assert decision.discard_local is discard
    assert reason in decision.reason
    assert decision.reason.startswith("pool zhast (disk1 disk2 disk3): ")


@pytest.mark.parametrize(
    ("named", "apart", "command"),
    [
        (["disk1"], ["disk1", "disk2", "disk3"], "--discard-local disk1 disk2 disk3"),
        (["disk1", "disk3"], ["disk1", "disk2", "disk3"], "--discard-local disk1 disk2 disk3"),
        (["disk2"], ["disk1", "disk2"], "--discard-local disk1 disk2."),
        (["disk1", "disk2"], ["disk1", "disk2"], None),
        (["disk1", "disk2", "disk3"], ["disk1", "disk2", "disk3"], None),
    ],
)
def test_by_hand_all_that_are_apart_have_to_be_named(named: list[str], apart: list[str], command: str | None) -> None:
    text = why_not_alone(GROUP, named, apart, "discard-local")
    assert text is None if command is None else command in (text or "")
