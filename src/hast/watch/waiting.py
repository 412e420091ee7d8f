"""What `hastctl wait` waits for, judged by the status object of a resource (docs/control.md). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hast.watch.words import clock, percent

SYNCED = "synced"
CONNECTED = "connected"
ROLES = ("init", "primary", "secondary")
CONDITIONS = (SYNCED, CONNECTED, *(f"role={role}" for role in ROLES))


class NoCondition(Exception):
    """The words name nothing to wait for; `str()` is one line."""


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The conditions at the beginning, and the names of resources after them. Raises NoCondition."""
    count = next((index for index, word in enumerate(words) if not _is_condition(word)), len(words))
    if not count:
        raise NoCondition(f"Say for what to wait: {', '.join(CONDITIONS)}.")
    return list(words[:count]), list(words[count:])


def _is_condition(word: str) -> bool:
    if word.startswith("role=") and word not in CONDITIONS:
        raise NoCondition(f"{word}: the roles are {', '.join(ROLES)}.")
    return word in CONDITIONS


def missing(conditions: Collection[str], entry: Mapping[str, Any]) -> str:
    """Why this resource is not as wanted yet, for one line; empty when it is."""
    for condition in conditions:
        if not _holds(condition, entry):
            return f"{entry.get('name')} is not {condition} ({_state(entry)})"
    return ""


def _holds(condition: str, entry: Mapping[str, Any]) -> bool:
    if condition == CONNECTED:
        return bool(entry.get("connected"))
    if condition == SYNCED:
        return entry.get("status") == "complete" and not entry.get("sync") and not entry.get("split_brain")
    return entry.get("role") == condition.removeprefix("role=") and not entry.get("transition")


def _state(entry: Mapping[str, Any]) -> str:
    if entry.get("split_brain"):
        return f"{entry.get('role')}, split-brain"
    told = [str(entry.get("role")), str(entry.get("status"))]
    sync, apart = entry.get("sync"), entry.get("not_connected")
    if entry.get("transition"):
        told.append(f"changing: {entry['transition']}")
    if isinstance(sync, Mapping):
        told.append(f"{percent(sync):.1f}% copied")
    if isinstance(apart, Mapping):
        told.append(f"not connected since {clock(apart.get('since'))}: {str(apart.get('reason')).rstrip('.')}")
    return ", ".join(word for word in told if word != "-")
