"""Frames of the live view at 80 by 24 are as on file, and complete without colour.

After a change that is meant: `HAST_WRITE_FRAMES=1 .venv/bin/pytest tests/watch/test_top_frame.py`, then look at each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stories import STORIES, view

from hast.watch.top.actions import Action, action
from hast.watch.top.frame import frame
from hast.watch.top.terminal import to_text
from hast.watch.top.view import Dialog

FRAMES = Path(__file__).parent / "frames"
WIDTH, HEIGHT = 80, 24


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", STORIES)
def test_a_state_is_drawn_as_on_file(name: str) -> None:
    drawn = "\n".join(line.plain for line in frame(view(name), WIDTH, HEIGHT)) + "\n"
    path = FRAMES / f"{name}.txt"
    if os.environ.get("HAST_WRITE_FRAMES"):
        path.write_text(drawn)
    assert drawn == path.read_text()


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 3), (132, 50), (80, 1)])
def test_a_frame_never_is_larger_than_its_window(name: str, width: int, height: int) -> None:
    lines = frame(view(name), width, height)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


@pytest.mark.parametrize("name", [name for name in STORIES if name != "healthy"])
def test_what_is_wrong_and_the_next_step_have_room_at_80_by_24(name: str) -> None:
    text = "\n".join(line.plain for line in frame(view(name), WIDTH, HEIGHT))
    assert "next step: " in text
    assert "last events" in text


def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frame(view("split_brain"), WIDTH, HEIGHT)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in "".join(to_text(lines, WIDTH, colours=True))
    assert "\x1b[" not in "".join(to_text(lines, WIDTH, colours=False))
    monkeypatch.setenv("NO_COLOR", "1")
    assert ";31" not in "".join(to_text(lines, WIDTH, colours=True))
    assert [line.rstrip() for line in to_text(lines, WIDTH, colours=False)] == [line.plain for line in lines]


def test_a_plan_is_shown_with_its_question_and_cut_where_it_is_too_long() -> None:
    dialog = Dialog("detach", [f"{number}. step" for number in range(1, 40)], "do this?")
    text = [line.plain for line in frame(view("healthy", dialog=dialog), WIDTH, HEIGHT)]
    assert "  1. step" in text
    assert any("more lines" in line for line in text)
    assert "do this?" in text


def test_the_selected_resource_is_among_those_that_are_shown_in_a_low_window() -> None:
    text = [line.plain for line in frame(view("resync", selected=2), WIDTH, 14)]
    assert any(line.startswith("> disk3") for line in text)


def test_keys_mean_a_command_with_a_plan_or_a_reason() -> None:
    here = view("healthy").picture
    assert action("s", here, "disk1") == Action("hand the service over", ("carpctl", "state", "1@eth0", "backup"))
    taken = action("d", here, "disk2")
    assert isinstance(taken, Action)
    assert taken.plan == ("hastctl", "detach", "disk2", "--plan")
    assert action("x", here, "disk1") is None
    without = view("healthy").picture
    object.__setattr__(without.here, "vhids", ())
    assert action("s", without, "disk1") == Action("hand the service over", ("failover", "leave"))
    assert isinstance(action("s", without, "nosuch"), str)
