"""Which rule an event runs, and its actions as commands that no value of an event can change the meaning of. No I/O.

Values are never pasted into the command: they travel as environment variables, and `$name` becomes a quoted reference
to one, whatever quotes of the user's own it stands in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hast.config.devd_model import Rule, expand
from hast.failover.devd.events import Event

ENVIRONMENT_PREFIX = "HAST_EVENT_"
_REFERENCE = re.compile(
    r"""\$(?:(?P<dollar>\$) | (?P<kept>\([^()]*\)) | \{(?P<braced>[A-Za-z_*][A-Za-z0-9_-]*)\}
          | (?P<plain>[A-Za-z_*][A-Za-z0-9_-]*))""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The rules that match an event, the one that runs first."""

    matching: tuple[Rule, ...]

    @property
    def rule(self) -> Rule | None:
        """The rule that runs: the highest priority, the first in the file among equals."""
        return self.matching[0] if self.matching else None


def choose(rules: Sequence[Rule], event: Event) -> Choice:
    """Ask every rule of the event's kind."""
    matching = [rule for rule in rules if rule.kind is event.kind and rule.accepts(event.variables)]
    return Choice(tuple(sorted(matching, key=lambda rule: -rule.priority)))


def variables(event: Event) -> dict[str, str]:
    """The variables of actions: those of the event, and all of it as `*` and `_`."""
    return {**event.variables, "*": str(event), "_": str(event)}


def environment(event: Event) -> dict[str, str]:
    """Environment variables that carry the event: HAST_EVENT_type and so on."""
    return {_variable(name): value for name, value in variables(event).items()}


def command(action: str, known: Mapping[str, str]) -> str:
    """The shell command of an action, with references to `environment` in place of `$name` and `${name}`."""
    out: list[str] = []
    quote = ""
    position = 0
    while position < len(action):
        found = _REFERENCE.match(action, position)
        if found:
            out.append(_reference(found, known, quote))
            position = found.end()
            continue
        character = action[position]
        if character == "\\" and quote != "'":
            out.append(action[position : position + 2])
            position += 2
            continue
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        out.append(character)
        position += 1
    return "".join(out)


def readable(action: str, event: Event) -> str:
    """An action with its values in place, for people."""
    return expand(action, variables(event), shlex.quote)


def _reference(found: re.Match[str], known: Mapping[str, str], quote: str) -> str:
    if found["dollar"]:
        return "$"
    name = found["plain"] or found["braced"]
    if name not in known:
        return "" if found["plain"] else found.group()
    reference = "${" + _variable(name) + "}"
    return {"": f'"{reference}"', '"': reference, "'": f"'\"{reference}\"'"}[quote]


def _variable(name: str) -> str:
    if name in ("*", "_"):
        return f"{ENVIRONMENT_PREFIX}ALL"
    return ENVIRONMENT_PREFIX + name.replace("-", "__")
