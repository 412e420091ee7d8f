"""A pair in which hosts leave at any moment, beside power cuts, pulled cables and starts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaving_model import DEADLINE_S, TICK_S, Node, Pair

from hast.election.carp_types import State
from hast.election.leaving import Outcome, Program, Way

TAKE_OVER_S = 4.5
"""A master-down time with the largest skew, and what the data take to be told."""
HAND_OVER_S = 0.3
ENDINGS = [None, *Program]
STORY = st.lists(
    st.tuples(
        st.sampled_from(["leave", "leave", "leave and go", "kill", "boot", "boot", "pull", "plug"]),
        st.integers(0, 1),
        st.sampled_from(ENDINGS),
        st.floats(0.0, 12.0),
        st.sampled_from([0.0, 0.5, 3.0, 2 * DEADLINE_S]),
    ),
    max_size=12,
)


def end_all_leaves(pair: Pair, going: set[int]) -> None:
    """Hosts that were to go after their leave go when it has ended."""
    for number in sorted(going):
        if pair.nodes[number].leave is None:
            pair.kill(pair.nodes[number])
            going.discard(number)


def go_on(pair: Pair, seconds: float, going: set[int]) -> None:
    for _ in range(max(1, round(seconds / TICK_S))):
        pair.run(TICK_S)
        end_all_leaves(pair, going)


@settings(max_examples=40, deadline=None)
@given(story=STORY, seed=st.integers(0, 1000))
def test_whatever_happens_leaving_makes_no_two_masters_leaves_no_address_alone_and_ends(
    story: list[tuple[str, int, Program | None, float, float]], seed: int
) -> None:
    pair = Pair(seed)
    going: set[int] = set()
    for what, number, ending, pause_s, let_go_s in story:
        node = pair.nodes[number]
        match what:
            case "leave" | "leave and go":
                pair.begin_leave(node, ending, let_go_s)
                if what == "leave and go" and node.alive:
                    going.add(number)
            case "kill":
                pair.kill(node)
                going.discard(number)
            case "boot":
                pair.boot(node)
            case "pull" | "plug":
                pair.plugged = what == "plug"
        go_on(pair, pause_s, going)
    go_on(pair, DEADLINE_S + 20, going)
    assert pair.worst_two_masters_s <= HAND_OVER_S
    assert pair.worst_nobody_s <= TAKE_OVER_S
    for leave in pair.leaves:
        assert leave.ended_s, "a leave has not ended"
        assert leave.ended_s - leave.began_s <= DEADLINE_S + 2 * TICK_S
        assert leave.given is (leave.way is Way.HAND_OVER)
    pair.plugged = True
    for node in pair.nodes:
        pair.boot(node)
    pair.run(90)
    assert len(pair.segment.masters()) == 1


def master(pair: Pair) -> Node:
    (carp,) = pair.segment.masters()
    return next(node for node in pair.nodes if node.carp is carp)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_leave_of_a_pair_that_is_well_hands_over_within_a_second_of_what_the_pool_takes(
    ending: Program | None,
) -> None:
    pair = Pair(1)
    first = master(pair)
    assert first.primary
    pair.begin_leave(first, ending, 2.0)
    pair.run(3.0)
    assert pair.leaves[0].outcome is Outcome.HANDED_OVER
    assert (master(pair), pair.other(first).primary, first.primary) == (pair.other(first), True, False)
    assert pair.worst_nobody_s <= HAND_OVER_S


def test_both_hosts_leave_at_once_and_the_one_that_is_left_serves() -> None:
    pair = Pair(1)
    first = master(pair)
    pair.begin_leave(first, None, 0.5)
    pair.run(2.0)
    pair.begin_leave(pair.other(first), None, 0.5)
    pair.run(30.0)
    assert [leave.outcome for leave in pair.leaves] == [Outcome.HANDED_OVER] * 2
    assert master(pair) is first
    assert first.primary


def test_a_host_that_leaves_while_the_other_copy_is_made_keeps_the_address_from_it() -> None:
    pair = Pair(1)
    first = master(pair)
    pair.plugged = False
    pair.run(1.0)
    pair.plugged = True
    pair.begin_leave(first, Program.HASTD, 0.5)
    pair.run(1.0)
    assert pair.leaves[0].way is Way.END_ALONE
    assert pair.leaves[0].outcome is Outcome.ALONE
    assert first.carp.state is State.MASTER
    assert not pair.other(first).primary
