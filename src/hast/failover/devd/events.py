"""One shape for the events of every source: a kind and string variables; system, subsystem and type say the most.

Knows how the sources write their events, and the line that devd reads: `!system=IFNET subsystem=carp0 type=LINK_UP`.
No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hast.config.devd_model import RuleKind

MAX_VARIABLES = 64
MAX_VALUE_CHARACTERS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PAIR = re.compile(r"""([A-Za-z_][A-Za-z0-9_-]*)=("(?:\\.|[^"\\])*"|\S*)""")
_KINDS = {"!": RuleKind.NOTIFY, "+": RuleKind.ATTACH, "-": RuleKind.DETACH, "?": RuleKind.NOMATCH}
_HIDDEN = frozenset({"system", "subsystem", "type", "current"})


class EventError(ValueError):
    """Something that is no event. `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Event:
    """What rules are asked about. `current`: no change, only the state found when the source was (re)connected."""

    variables: Mapping[str, str]
    kind: RuleKind = RuleKind.NOTIFY
    current: bool = field(default=False, compare=False)

    @property
    def queue(self) -> tuple[str, str]:
        """Events of one queue are acted on one after the other."""
        return self.variables.get("system", ""), self.variables.get("subsystem", "")

    def __str__(self) -> str:
        first = [f"{name}={quoted(self.variables.get(name, ''))}" for name in ("system", "subsystem", "type")]
        more = [f"{name}={quoted(value)}" for name, value in self.variables.items() if name not in _HIDDEN]
        return " ".join([*first, *more])

    def record(self) -> str:
        """The event as one line that `parse_line` reads."""
        return json.dumps({"kind": str(self.kind), **self.variables})


def quoted(value: str) -> str:
    """A value as devd writes it: in double quotes where it holds blanks or quotes."""
    if value and not re.search(r'[\s"\\]', value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def from_object(value: Any) -> Event:
    """An event from a JSON object with `system`, `subsystem`, `type` (carpd's form). Raises EventError."""
    if not isinstance(value, dict):
        raise EventError("not an object")
    variables = {}
    for name, item in list(value.items())[:MAX_VARIABLES]:
        if _NAME.fullmatch(name) and isinstance(item, (str, int, float, bool)) and name not in ("current", "kind"):
            variables[name] = _text(item)
    if not variables.get("system") or not variables.get("type"):
        raise EventError("without system and type")
    try:
        kind = RuleKind(value.get("kind", RuleKind.NOTIFY))
    except ValueError:
        raise EventError(f"unknown kind {value['kind']!r}") from None
    return Event({"subsystem": "", **variables}, kind, current=value.get("current") is True)


def from_hastd(record: Any) -> Event:
    """An event of hastd's stream (docs/control.md): system HAST, the resource as subsystem. Raises EventError."""
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise EventError("not an event of hastd")
    rest = {name: item for name, item in record.items() if name not in ("event", "resource", "error")}
    kind = record["event"].upper().replace("-", "_")
    return from_object({**rest, "system": "HAST", "subsystem": str(record.get("resource") or ""), "type": kind})


def link(interface: str, kind: str) -> Event:
    """An event of a network interface."""
    return Event({"system": "IFNET", "subsystem": interface, "type": kind})


def parse_line(line: str) -> Event:
    """One recorded event: a JSON object, or the line that devd reads on FreeBSD. Raises EventError."""
    text = line.strip()
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise EventError(f"not JSON: {error}") from None
        return from_hastd(value) if isinstance(value, dict) and "event" in value else from_object(value)
    kind = _KINDS.get(text[:1])
    pairs = _PAIR.findall(text[1:] if kind else text)
    if not pairs:
        raise EventError(f"found {text[:40]!r}; expected a JSON object or !system=… subsystem=… type=…")
    variables = {name: _text(_unquoted(value)) for name, value in pairs[:MAX_VARIABLES]}
    return Event(variables, kind or RuleKind.NOTIFY)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value


def _text(item: Any) -> str:
    text = str(item).lower() if isinstance(item, bool) else str(item)
    return text.replace("\0", "")[:MAX_VALUE_CHARACTERS]
