"""net/data.py: what a status object of hastd says about a copy."""

from __future__ import annotations

from typing import Any

import pytest

from hast.election.demotion import MAX_SKEW, CopyState, judge
from hast.net.data import copy_state

TABLE: list[tuple[dict[str, Any] | None, CopyState]] = [
    (None, CopyState.NOT_CONFIGURED),
    ({"error": "Resource disk9 is not configured.", "code": 1}, CopyState.NOT_CONFIGURED),
    ({"role": "primary", "connected": True}, CopyState.LEADING),
    ({"role": "primary", "status": "degraded"}, CopyState.LEADING),
    ({"role": "primary", "status": "degraded", "problems": [{"kind": "frozen", "text": ""}]}, CopyState.FROZEN),
    ({"role": "primary", "status": "degraded", "problems": [{"kind": "split-brain"}]}, CopyState.LEADING),
    ({"role": "primary", "connected": True, "stale": True}, CopyState.STALE),
    ({"role": "primary", "status": "degraded", "stale": True}, CopyState.STALE_ALONE),
    ({"role": "primary", "connected": True, "inconsistent": True}, CopyState.STALE),
    ({"role": "primary", "status": "degraded", "inconsistent": True}, CopyState.INCONSISTENT),
    ({"role": "primary", "connected": True, "problems": [{"kind": "disk"}]}, CopyState.STALE),
    ({"role": "secondary", "connected": True}, CopyState.COMPLETE),
    ({"role": "secondary", "status": "-", "workerpid": 0}, CopyState.DISCONNECTED),
    ({"role": "secondary", "connected": True, "inconsistent": True}, CopyState.INCONSISTENT),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "outdated"}]}, CopyState.OUTDATED),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "split-brain"}]}, CopyState.SPLIT_BRAIN),
    ({"role": "init", "status": "-", "problems": [{"kind": "provider"}]}, CopyState.NO_PROVIDER),
    ({"role": "secondary", "status": "-", "prevrole": "primary"}, CopyState.LAST_PRIMARY),
    ({"role": "secondary", "connected": True, "prevrole": "primary"}, CopyState.COMPLETE),
    ({"role": "secondary", "status": "-", "problems": [{"kind": "last-error"}]}, CopyState.REFUSED),
    ({"role": "init", "status": "-", "prevrole": "primary", "problems": [{"kind": "last-error"}]}, CopyState.REFUSED),
    ({"role": "init", "status": "-", "prevrole": "primary"}, CopyState.LAST_PRIMARY),
    ({"role": "init", "status": "-", "prevrole": "secondary"}, CopyState.IDLE),
    ({"role": "init", "status": "-", "prevrole": None}, CopyState.IDLE),
]


@pytest.mark.parametrize(("status", "state"), TABLE)
def test_status_of_hastd_becomes_the_state_of_the_copy(status: dict[str, Any] | None, state: CopyState) -> None:
    assert copy_state(status) is state


def test_every_state_of_a_copy_has_a_verdict_and_better_ones_never_weigh_more() -> None:
    weights = [judge([("disk1", state)]).demotion for state in CopyState]
    assert weights == sorted(weights)
    assert all(0 <= weight <= MAX_SKEW for weight in weights)
    assert judge([("disk1", CopyState.DISCONNECTED)]).eligible
    assert not judge([("disk1", CopyState.OUTDATED)]).eligible
    assert [state for state in CopyState if judge([("disk1", state)]).preempt] == [
        CopyState.LEADING,
        CopyState.COMPLETE,
    ]
