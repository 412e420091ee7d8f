"""What Pacemaker is told of a node: its role, and how good a master it would make."""

from __future__ import annotations

from typing import Any

import pytest

from hast.failover.pacemaker.decisions.standing import (
    AHEAD,
    IN_STEP,
    PRIMARY,
    PRIMARY_ALONE,
    PRIMARY_WITHOUT_DISK,
    UNKNOWN_PEER,
    Ocf,
    answer,
    score,
    whole_again,
)

NOBODY: frozenset[str] = frozenset()


def secondary(**more: Any) -> dict[str, Any]:
    entry = {
        "name": "disk1",
        "error": None,
        "role": "secondary",
        "connected": True,
        "status": "complete",
        "workerpid": 7,
    }
    return entry | more


def primary(**more: Any) -> dict[str, Any]:
    return secondary(role="primary", peer_whole=True) | more


def left_alone(**more: Any) -> dict[str, Any]:
    return secondary(connected=False, status="-", localcnt=3, remotecnt=3) | more


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([secondary(role="init"), secondary(role="init")], Ocf.NOT_RUNNING),
        ([secondary(), secondary()], Ocf.SUCCESS),
        ([primary(), primary()], Ocf.RUNNING_PROMOTED),
        ([primary(), secondary()], Ocf.FAILED_PROMOTED),
        ([secondary(), secondary(role="init")], Ocf.GENERIC),
        ([primary(workerpid=0)], Ocf.FAILED_PROMOTED),
        ([{"name": "x", "error": "Resource x is not configured.", "code": 1}], Ocf.CONFIGURED),
    ],
)
def test_a_monitor_answers_by_the_roles_of_all(entries: list[dict[str, Any]], code: Ocf) -> None:
    assert answer(entries)[0] is code


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (primary(), PRIMARY),
        (primary(status="degraded", connected=False, peer_whole=False), PRIMARY_ALONE),
        (primary(status="synchronizing", peer_whole=False), PRIMARY_ALONE),
        (primary(status="degraded", problems=[{"kind": "disk", "text": "x"}]), PRIMARY_WITHOUT_DISK),
        (primary(status="degraded", split_brain={"attempts": 1}), PRIMARY_ALONE),
        (secondary(), IN_STEP),
        (left_alone(localcnt=4), AHEAD),
        (left_alone(), UNKNOWN_PEER),
        (left_alone(localcnt=None, remotecnt=None), UNKNOWN_PEER),
    ],
)
def test_the_better_the_copy_the_higher_the_score(entry: dict[str, Any], found: int) -> None:
    assert score([entry], NOBODY) == found


def test_scores_are_in_this_order() -> None:
    order = [PRIMARY, PRIMARY_ALONE, IN_STEP, PRIMARY_WITHOUT_DISK, AHEAD, UNKNOWN_PEER, 0]
    assert order == sorted(order, reverse=True)
    assert PRIMARY_ALONE > IN_STEP, "a peer that was in step a moment ago, by its last monitor, takes nothing away"
    assert PRIMARY_WITHOUT_DISK < IN_STEP, "whose disk failed hands over to the one that has every write"


@pytest.mark.parametrize(
    "entry",
    [
        secondary(inconsistent=True),
        secondary(stale=True),
        secondary(status="synchronizing"),
        secondary(split_brain={"attempts": 1}),
        left_alone(split_brain={"attempts": 1}),
        left_alone(inconsistent=True),
        left_alone(stale=True, localcnt=4),
        left_alone(discard_ordered=True),
        left_alone(problems=[{"kind": "provider", "text": "no metadata"}]),
        secondary(problems=[{"kind": "disk", "text": "failed"}]),
        {"name": "disk1", "error": "Resource disk1 is not configured.", "code": 1},
    ],
)
def test_a_copy_that_is_not_good_is_never_promoted(entry: dict[str, Any]) -> None:
    assert score([entry], NOBODY) is None
    assert score([secondary(name="other"), entry], NOBODY) is None


def test_a_copy_that_the_other_node_went_on_without_is_never_promoted() -> None:
    outdated = frozenset({"disk1"})
    assert score([left_alone()], outdated) is None
    assert score([left_alone(localcnt=9)], outdated) is None
    assert score([secondary()], outdated) == IN_STEP, "it has every write again, whatever was noted"
    assert score([primary()], outdated) == PRIMARY


def test_the_worst_of_all_copies_counts() -> None:
    assert score([primary(), primary(status="degraded", peer_whole=False)], NOBODY) == PRIMARY_ALONE
    assert score([], NOBODY) is None


def test_a_peer_is_whole_again_where_its_primary_says_so() -> None:
    assert whole_again([primary(), primary(name="b", peer_whole=False), secondary(name="c")]) == ["disk1"]
