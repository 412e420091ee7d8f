"""How a node stands, by the status objects of hastd: what a monitor answers, how good a master it would make. No I/O.

All resources of one clone change their role together; the worst of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

Status = Mapping[str, Any]


class Ocf(IntEnum):
    """Exit codes of a resource agent."""

    SUCCESS = 0
    GENERIC = 1
    ARGS = 2
    UNIMPLEMENTED = 3
    INSTALLED = 5
    CONFIGURED = 6
    NOT_RUNNING = 7
    RUNNING_PROMOTED = 8
    FAILED_PROMOTED = 9


NEVER = "-INFINITY"
PRIMARY = 10000
"""It serves, and its own copy is good; moving it is for a reason only."""
PRIMARY_ALONE = 9500
"""More than IN_STEP: while the link breaks the peer's score is one monitor old, and still that of a copy in step."""
IN_STEP = 9000
"""A secondary that has every write."""
PRIMARY_WITHOUT_DISK = 5000
"""It serves from the peer's disk alone: the peer would be the better one."""
AHEAD = 500
"""Not connected, and it has writes that the other lacks."""
UNKNOWN_PEER = 100
"""Not connected, with a copy that was good when the other was seen last."""


def answer(entries: Sequence[Status]) -> tuple[Ocf, str]:
    """Of a monitor, with one line where it is a failure."""
    unknown = [str(each.get("name")) for each in entries if each.get("error")]
    if unknown:
        return Ocf.CONFIGURED, f"not in hast.conf: {' '.join(unknown)}"
    roles = {str(each.get("role")) for each in entries}
    if roles == {"init"}:
        return Ocf.NOT_RUNNING, ""
    if roles == {"secondary"}:
        return Ocf.SUCCESS, ""
    if roles != {"primary"}:
        told = ", ".join(f"{each.get('name')} {each.get('role')}" for each in entries)
        return Ocf.FAILED_PROMOTED if "primary" in roles else Ocf.GENERIC, f"roles differ: {told}"
    dead = [str(each.get("name")) for each in entries if not each.get("workerpid")]
    if dead:
        return Ocf.FAILED_PROMOTED, f"without a worker: {' '.join(dead)}"
    return Ocf.RUNNING_PROMOTED, ""


def score(entries: Sequence[Status], outdated: frozenset[str]) -> int | None:
    """How good a master this node would make: the least of its resources. None: it must never be promoted.

    `outdated`: resources of which the cluster noted that the other node went on without this one.
    """
    scores = [_score(each, str(each.get("name")) in outdated) for each in entries]
    known = [each for each in scores if each is not None]
    return min(known) if known and len(known) == len(scores) else None


def _score(entry: Status, outdated: bool) -> int | None:
    if entry.get("error"):
        return None
    if entry.get("role") == "primary":
        return _of_primary(entry)
    kinds = {str(each.get("kind")) for each in entry.get("problems") or () if isinstance(each, Mapping)}
    if entry.get("inconsistent") or entry.get("stale") or entry.get("split_brain") or entry.get("discard_ordered"):
        return None
    if kinds & {"provider", "disk", "configuration"}:
        return None
    if entry.get("connected"):
        return IN_STEP if entry.get("status") == "complete" else None
    if outdated:
        return None
    local, remote = entry.get("localcnt"), entry.get("remotecnt")
    ahead = isinstance(local, int) and isinstance(remote, int) and local > remote
    return AHEAD if ahead else UNKNOWN_PEER


def _of_primary(entry: Status) -> int:
    """A primary is one already: it is never said that it must not be."""
    failed = any(each.get("kind") == "disk" for each in entry.get("problems") or () if isinstance(each, Mapping))
    if failed and entry.get("peer_whole"):
        return PRIMARY_WITHOUT_DISK
    return PRIMARY if entry.get("status") == "complete" else PRIMARY_ALONE


def whole_again(entries: Sequence[Status]) -> list[str]:
    """Resources of which a primary knows that the other node has every write."""
    return [
        str(each.get("name"))
        for each in entries
        if each.get("role") == "primary" and each.get("status") == "complete" and each.get("peer_whole")
    ]
