"""Colours of the live view; the words say the same."""

from __future__ import annotations

from hast.watch.catalogue import Level

HEAD = "bold"
QUIET = "dim"
KEY = "bold cyan"
GOOD = "green"
WARNING = "yellow"
BAD = "bold red"
STYLES = {
    Level.OK: "bold green",
    Level.WARNING: "bold yellow",
    Level.CRITICAL: "reverse bold red",
    Level.UNKNOWN: "bold magenta",
}
_WORDS = {
    "MASTER": GOOD,
    "primary": GOOD,
    "complete": GOOD,
    "synchronizing": WARNING,
    "degraded": WARNING,
    "split-brain": BAD,
    "changing": WARNING,
    "?": WARNING,
}
_PARTS = (("failed", BAD), ("running", WARNING), ("freeze", BAD), ("step down", BAD), ("not asked", QUIET))


def state_style(text: str) -> str:
    """For a cell that begins with a word for a state, or holds one."""
    first = text.partition(" ")[0].rstrip(":,")
    return _WORDS.get(first) or next((style for word, style in _PARTS if word in text), "")
