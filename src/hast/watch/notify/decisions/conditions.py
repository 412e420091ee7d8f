"""What a status object of hastd (docs/control.md) says of each lasting condition: it holds, it does not, or neither.

Neither: what is seen is on its way, and proves nothing; a copy that is being made, a role that changes. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hast.config.notify_model import Topic

PEER_DISK = "peer-disk-failed"
"""A second condition under DISK_FAILED: the other node's disk."""
_DISK_EVENTS = ("detach", "attach", "replace", "disk-failed", "disk-hung")


@dataclass(frozen=True, slots=True)
class Reading:
    """`key` tells conditions of one topic apart. `since_s` is None where the status does not tell."""

    key: str
    topic: Topic
    holds: bool | None
    text: str = ""
    since_s: float | None = None


def readings(entry: dict[str, Any]) -> Iterator[Reading]:
    """Of one resource."""
    if entry.get("transition") or entry.get("stopping"):
        return
    role = str(entry.get("role"))
    yield _degraded(entry, role)
    yield _split_brain(entry)
    yield _disk(entry)
    frozen = _problem(entry, "frozen")
    yield Reading(Topic.FROZEN, Topic.FROZEN, bool(frozen), frozen)
    slow = _problem(entry, "slow-disk")
    yield Reading(Topic.SLOW_DISK, Topic.SLOW_DISK, bool(slow), slow)
    if role == "primary":
        differ = _problem(entry, "copies-differ")
        yield Reading(Topic.COPIES_DIFFER, Topic.COPIES_DIFFER, bool(differ), differ)
    if role != "primary":
        yield Reading(Topic.ARBITER_LOST, Topic.ARBITER_LOST, False, "This node is not primary.")
        yield Reading(PEER_DISK, Topic.DISK_FAILED, False, "This node is not primary.")
    elif entry.get("status") == "complete":
        yield Reading(PEER_DISK, Topic.DISK_FAILED, False, "The other node's copy is complete.")


def _degraded(entry: dict[str, Any], role: str) -> Reading:
    missed = entry.get("not_connected")
    missed = missed if isinstance(missed, dict) else {}
    since = missed.get("since")
    since_s = float(since) if isinstance(since, (int, float)) else None
    status = entry.get("status")
    holds: bool | None
    if entry.get("remoteaddr") == "none":
        holds, good = False, "There is to be no other copy."
    elif role == "primary":
        holds = {"degraded": True, "complete": False}.get(str(status))
        good = "Both copies are complete."
    elif role == "secondary":
        behind = bool(entry.get("inconsistent") or entry.get("stale"))
        holds = True if missed else None if behind or not entry.get("connected") else False
        good = "The other node is connected."
    else:
        holds, good = False, f"The role is {role}."
    reason = missed.get("reason") or _first_problem(entry) or "the other node is not connected"
    bad = "There is no second copy" if role == "primary" else "The other node is missing"
    text = f"{bad}: {str(reason).rstrip('.')}." if holds else good
    return Reading(Topic.DEGRADED, Topic.DEGRADED, holds, text, since_s)


def _split_brain(entry: dict[str, Any]) -> Reading:
    known = entry.get("split_brain")
    if not isinstance(known, dict):
        return Reading(Topic.SPLIT_BRAIN, Topic.SPLIT_BRAIN, False, "It is resolved, or no longer known here.")
    size = known.get("differing_bytes")
    differing = f" At most {size} bytes differ." if isinstance(size, int) else ""
    text = f"Both nodes have writes that the other lacks.{differing}"
    return Reading(Topic.SPLIT_BRAIN, Topic.SPLIT_BRAIN, True, text)


def _disk(entry: dict[str, Any]) -> Reading:
    """A disk that was taken out of service by hand has not failed."""
    history = entry.get("history")
    events = [str(each.get("event")) for each in history or () if isinstance(each, dict)]
    last = next((name for name in reversed(events) if name in _DISK_EVENTS), "")
    text = _problem(entry, "disk") or _problem(entry, "provider")
    holds = bool(text) and last != "detach"
    return Reading(Topic.DISK_FAILED, Topic.DISK_FAILED, holds, text or "The local disk is in service.")


def _problem(entry: dict[str, Any], kind: str) -> str:
    return next((str(each.get("text")) for each in _problems(entry) if each.get("kind") == kind), "")


def _first_problem(entry: dict[str, Any]) -> str:
    return next((str(each.get("text")) for each in _problems(entry)), "")


def _problems(entry: dict[str, Any]) -> list[dict[str, Any]]:
    found = entry.get("problems")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
