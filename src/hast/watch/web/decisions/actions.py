"""The short closed list of what can be ordered from the page, each as the command line that it is. Pure.

The plan that is shown and the service that carries an order out take the command from here, so they cannot differ.
Nothing is in the list that is not for the node on which it is ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LEAVE, TAKE_OVER, LET_GO, SERVE = "leave", "take-over", "let-go", "serve"
DISCARD, ATTACH, DETACH = "discard", "attach", "detach"
COMPARE, REPAIR = "compare", "repair"


@dataclass(frozen=True, slots=True)
class Action:
    """`{}` in `words` stands for what it is done to. `limit_s` is longer than the command's own deadline."""

    words: tuple[str, ...]
    limit_s: float
    is_grave: bool = False
    """The name has to be typed."""
    outcomes: dict[int, str] = field(default_factory=dict)
    """What an exit code means, where it is not `done` for 0 and `failed` for others."""


_LEFT = {
    0: "handed over, or nothing was here to hand over",
    1: "something could not be taken down",
    2: "stopped without a successor",
    75: "gave way to a later request",
}
_BEGUN = {0: "begun; the timeline tells what is found"}
ACTIONS = {
    LEAVE: Action(("failover", "leave"), 180.0, outcomes=_LEFT),
    TAKE_OVER: Action(("carpctl", "state", "{}", "master"), 30.0),
    LET_GO: Action(("hastctl", "role", "secondary", "{}"), 180.0, is_grave=True),
    SERVE: Action(("hastctl", "role", "primary", "{}"), 180.0),
    DISCARD: Action(("hastctl", "resolve", "--discard-local", "{}"), 360.0, is_grave=True),
    ATTACH: Action(("hastctl", "attach", "{}"), 180.0),
    DETACH: Action(("hastctl", "detach", "{}"), 180.0),
    COMPARE: Action(("hastctl", "verify", "--no-wait", "{}"), 60.0, outcomes=_BEGUN),
    REPAIR: Action(("hastctl", "verify", "--repair", "--no-wait", "{}"), 60.0, is_grave=True, outcomes=_BEGUN),
}


def words_of(name: str, targets: Sequence[str]) -> list[str]:
    """The command line."""
    return [each for word in ACTIONS[name].words for each in (targets if word == "{}" else (word,))]


def can_be_ordered(name: str, targets: Sequence[str]) -> bool:
    """False where a command would read a name as an option, or as all resources."""
    if ("{}" in ACTIONS[name].words) != bool(targets):
        return False
    return not any(not each or each.startswith("-") or each == "all" for each in targets)


def to_type(name: str, targets: Sequence[str]) -> str:
    """What has to be typed before it is done; empty where nothing has."""
    return targets[0] if ACTIONS[name].is_grave else ""


def outcome(name: str, code: int | None) -> str:
    """An exit code in words; None for a command that has not ended in time."""
    if code is None:
        return f"no end within {ACTIONS[name].limit_s:g} s; it goes on"
    return ACTIONS[name].outcomes.get(code) or ("done" if code == 0 else f"failed, exit code {code}")
