"""An order as it comes in over the socket: read strictly, every text bounded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_TOKEN_CHARACTERS = 256
MAX_ORIGIN_CHARACTERS = 100
MAX_NAME_CHARACTERS = 256
MAX_TARGETS = 128


class NotUnderstood(ValueError):
    """It is no order. `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Request:
    """`seen`: the fingerprint of the plan that the person saw. `origin`: who it is for hast-monitor; for the log."""

    token: str
    action: str
    targets: tuple[str, ...]
    seen: str
    typed: str
    origin: str


def read(found: Any) -> Request:
    """Raises NotUnderstood."""
    if not isinstance(found, Mapping) or found.get("command") != "order":
        raise NotUnderstood("This is no order.")
    targets = found.get("targets")
    if not isinstance(targets, list) or len(targets) > MAX_TARGETS:
        raise NotUnderstood("targets: no list of names.")
    return Request(
        _text(found, "token", MAX_TOKEN_CHARACTERS),
        _text(found, "action", MAX_NAME_CHARACTERS),
        tuple(_text({"targets": each}, "targets", MAX_NAME_CHARACTERS) for each in targets),
        _text(found, "seen", 64),
        _text(found, "typed", MAX_NAME_CHARACTERS),
        _text(found, "origin", MAX_ORIGIN_CHARACTERS),
    )


def _text(found: Mapping[str, Any], key: str, most: int) -> str:
    value = found.get(key)
    if not isinstance(value, str) or len(value) > most:
        raise NotUnderstood(f"{key}: no text of at most {most} characters.")
    return value
