"""Whether the other host could serve in this one's place, by what hastd says of its resources. Does no I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any


def lacking(entry: Mapping[str, Any]) -> str:
    """Why the other copy of a primary could not serve in its place, by its status object; empty when it could.

    What this host's own copy lacks is no matter: a primary whose disk failed is served from the other one already.
    """
    if entry.get("role") != "primary":
        return ""
    if entry.get("remoteaddr") == "none":
        return "there is no second node"
    if not entry.get("connected"):
        missed = entry.get("not_connected") or {}
        since = missed.get("since")
        when = f" since {time.strftime('%H:%M:%S', time.localtime(since))}" if isinstance(since, (int, float)) else ""
        return (
            f"the other node is not connected{when}{': ' if missed.get('reason') else ''}{missed.get('reason') or ''}"
        )
    if entry.get("peer_whole"):
        return ""
    if entry.get("status") == "synchronizing":
        return f"the other copy is being made, {entry.get('dirty') or 0} bytes to go"
    return "the other copy does not have everything"


def has_lost_disk(entry: Mapping[str, Any]) -> bool:
    """Whether this host's own disk failed: as a secondary it may not be connectable, and so not tell who is primary."""
    return bool(entry.get("stale")) or any(each.get("kind") == "disk" for each in entry.get("problems") or ())


def can_take_over(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the other host could serve all of these, which are primary here; of nothing at all it could not."""
    served = list(entries)
    return bool(served) and all(entry.get("role") == "primary" and not lacking(entry) for entry in served)
