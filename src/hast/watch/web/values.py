"""What a node told, made safe to be put into a document: texts and lists of bounded length, finite numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_TEXT = 400


def text(found: object) -> str:
    """Whatever a node told, as one text of bounded length; nothing for null."""
    said = "" if found is None else str(found)
    return said if len(said) <= MAX_TEXT else said[: MAX_TEXT - 1] + "…"


def mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
