"""What a frame of the live view is drawn from. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hast.watch.picture import Picture
from hast.watch.problems import Problem
from hast.watch.rates import Rates


@dataclass(frozen=True, slots=True)
class Dialog:
    """What is asked or told in place of events. `question` empty: any key ends it."""

    title: str
    lines: Sequence[str]
    question: str = ""
    is_busy: bool = False
    """A command is at work, and the answer comes by itself."""


@dataclass(frozen=True, slots=True)
class View:
    """`events` oldest first; `selected` counts resources; `age_s`: how old the picture is."""

    picture: Picture
    problems: Sequence[Problem]
    now_s: float
    rates: Mapping[str, Rates] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    selected: int = 0
    age_s: float = 0.0
    dialog: Dialog | None = None
    has_keys: bool = True
