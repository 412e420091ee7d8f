"""What the worker of a primary is told of its arbiter's word. Each case is a story: what happens → what is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.election.arbiter import Verdict
from hast.supervisor.decisions.leave_to_write import (
    Action,
    Ask,
    Freeze,
    LeaveToWrite,
    Reply,
    StepDown,
    StopAsking,
    Thaw,
)

Happening = Callable[[LeaveToWrite], list[Action]]
EVENTS: dict[str, Happening] = {
    "asked": lambda leave: leave.asked("q"),
    "no": lambda leave: leave.refused("q"),
    "yes": lambda leave: leave.granted("q"),
    "peer": lambda leave: leave.peer_connected(),
    "by hand": lambda leave: leave.overruled(),
    "new worker": lambda leave: leave.worker_replaced(),
    "serve": lambda leave: leave.judged(Verdict.SERVE, ""),
    "freeze": lambda leave: leave.judged(Verdict.FREEZE, "why"),
    "step down": lambda leave: leave.judged(Verdict.STEP_DOWN, "why"),
}
NO, YES = Reply("q", yes=False), Reply("q", yes=True)
STORIES: list[tuple[str, list[Action]]] = [
    ("asked", [StopAsking(), Ask("q")]),
    ("asked, no", [NO]),
    ("asked, no, no", []),
    ("asked, yes", [YES]),
    ("asked, no, yes", [YES, Thaw()]),
    ("asked, no, freeze, yes", [YES]),
    ("asked, peer", [StopAsking()]),
    ("asked, no, peer", [StopAsking(), Thaw()]),
    ("asked, no, freeze, peer", [StopAsking()]),
    ("asked, no, serve", []),
    ("asked, peer, no", []),
    ("asked, peer, yes", []),
    ("asked, no, asked", [StopAsking(), Thaw(), Ask("q")]),
    ("asked, no, by hand", [StopAsking(), YES, Thaw()]),
    ("freeze, by hand", [StopAsking(), Thaw()]),
    ("freeze", [Freeze("why")]),
    ("freeze, serve", [Thaw()]),
    ("freeze, new worker", [StopAsking(), Freeze("why")]),
    ("step down", [Freeze("why"), StepDown("why")]),
    ("step down, new worker", [StopAsking(), Freeze("why")]),
    ("asked, no, new worker", [StopAsking(), Thaw()]),
    ("serve, new worker", [StopAsking()]),
]


@pytest.mark.parametrize(("story", "done"), STORIES)
def test_what_is_done_at_the_end_of_a_story(story: str, done: list[Action]) -> None:
    leave = LeaveToWrite()
    for name in story.split(", "):
        actions = EVENTS[name](leave)
    assert actions == done


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12))
def test_writes_are_never_let_go_but_by_hand_while_the_verdict_holds_them(events: list[str]) -> None:
    leave, verdict = LeaveToWrite(), "serve"
    for name in events:
        actions = EVENTS[name](leave)
        verdict = name if name in ("serve", "freeze", "step down") else verdict
        if name != "by hand" and verdict != "serve":
            assert Thaw() not in actions


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12))
def test_a_worker_that_was_told_no_is_told_when_that_is_over(events: list[str]) -> None:
    leave, held = LeaveToWrite(), False
    for name in [*events, "serve", "peer"]:
        for action in EVENTS[name](leave):
            if isinstance(action, Thaw):
                held = False
            elif isinstance(action, Freeze) or action == NO:
                held = True
    assert not held
