"""Foreign text made harmless (security finding 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.format.text import printable, printable_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("disk1", "disk1"),
        ("größer — 5 €", "größer — 5 €"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nNov 28 hast1 hastd: forged", "a\\nNov 28 hast1 hastd: forged"),
        (b"\xff".decode("utf-8", "surrogateescape"), "\\xff"),
        ("\ud800", "\\ud800"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("tab\there", "tab\\there"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 2000, 10) == "x" * 9 + "…"
    assert printable("x" * 10, 10) == "x" * 10


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_printable_line_that_can_be_written(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


def test_every_string_in_an_answer_is_made_printable_and_nothing_else_is_touched() -> None:
    answer = {"holder": "hast1\x1b[2J", "epoch": 3, "list": ["a\n", None, True, 1.5], "k\x07": {}}
    assert printable_json(answer) == {
        "holder": "hast1\\x1b[2J",
        "epoch": 3,
        "list": ["a\\n", None, True, 1.5],
        "k\\x07": {},
    }
