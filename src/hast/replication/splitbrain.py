"""Split brain: what each node changed while they were apart, and whose changes may be given up. Sans-I/O.

The decision is the secondary's, made in the handshake. Only its own changes can be given up by a policy: the primary
serves clients, and no policy takes data away under a mounted file system. A policy that names the primary as loser
therefore leaves it to the operator, as does one that lacks the facts.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple

from hast.config.model import SplitBrainPolicy
from hast.format.geometry import human_size


class Changes(NamedTuple):
    """What one node changed since the copies were last in step. `since_s`: seconds since 1970, 0 where not known."""

    extents: int
    since_s: int = 0


class Decision(NamedTuple):
    """`discard_local`: the secondary's changes are given up. `reason` is one clause, for the operator."""

    discard_local: bool
    reason: str


class Loser(Enum):
    """Whom a policy names."""

    SECONDARY = auto()
    PRIMARY = auto()
    NOBODY = auto()


Finding = tuple[Loser, str]


def _zero_changes(local: Changes, primary: Changes | None) -> Finding:
    if local.extents == 0:
        return Loser.SECONDARY, "this secondary has changed nothing"
    if primary is not None and primary.extents == 0:
        return Loser.PRIMARY, "the primary has changed nothing"
    return Loser.NOBODY, "both nodes have changes"


def _least_changes(local: Changes, primary: Changes | None) -> Finding:
    if primary is None:
        return Loser.NOBODY, "the primary does not tell how much it changed"
    if local.extents == primary.extents:
        return Loser.NOBODY, f"both nodes changed {local.extents} extents"
    text = f"the secondary changed {local.extents} extents, the primary {primary.extents}"
    return (Loser.SECONDARY if local.extents < primary.extents else Loser.PRIMARY), text


def _by_age(local: Changes, primary: Changes | None, younger_loses: bool) -> Finding:
    if primary is None or not primary.since_s or not local.since_s:
        return Loser.NOBODY, "it is not known since when each node went on alone"
    if local.since_s == primary.since_s:
        return Loser.NOBODY, "both nodes went on alone in the same second"
    younger = local.since_s > primary.since_s
    text = f"the secondary went on alone {'after' if younger else 'before'} the primary did"
    return (Loser.SECONDARY if younger is younger_loses else Loser.PRIMARY), text


RULES: dict[SplitBrainPolicy, Callable[[Changes, Changes | None], Finding]] = {
    SplitBrainPolicy.MANUAL: lambda _local, _primary: (Loser.NOBODY, "it is left to the operator"),
    SplitBrainPolicy.DISCARD_ZERO_CHANGES: _zero_changes,
    SplitBrainPolicy.DISCARD_LEAST_CHANGES: _least_changes,
    SplitBrainPolicy.DISCARD_YOUNGER_PRIMARY: lambda local, primary: _by_age(local, primary, True),
    SplitBrainPolicy.DISCARD_OLDER_PRIMARY: lambda local, primary: _by_age(local, primary, False),
}


def decide(policy: SplitBrainPolicy, local: Changes, primary: Changes | None) -> Decision:
    """What the secondary does by itself. `primary` is None when the primary does not tell (a FreeBSD node)."""
    loser, text = RULES[policy](local, primary)
    reason = f"policy {policy}: {text}"
    if loser is Loser.PRIMARY:
        reason += "; a primary's changes are never given up by themselves"
    return Decision(loser is Loser.SECONDARY, reason)


def amount(changes: Changes, extentsize_bytes: int) -> str:
    """`12 extents (24MB)`."""
    size = human_size(changes.extents * extentsize_bytes)
    return f"{changes.extents} extent{'' if changes.extents == 1 else 's'} ({size})"


def summary(local: Changes, peer: Changes | None, extentsize_bytes: int) -> str:
    """The sentence of the event."""
    theirs = f"the other {amount(peer, extentsize_bytes)}" if peer is not None else "the other does not tell how much"
    return (
        "Split-brain detected: both nodes hold writes that the other lacks; "
        f"this node changed {amount(local, extentsize_bytes)}, {theirs}."
    )


def report(
    local: Changes, peer: Changes | None, differing: int | None, extentsize_bytes: int, reason: str
) -> dict[str, Any]:
    """The object of docs/control.md. `differing`: extents that differ at most, where both maps are known."""
    if differing is None and peer is not None:
        differing = local.extents + peer.extents
    return {
        "local": _side(local, extentsize_bytes),
        "peer": None if peer is None else _side(peer, extentsize_bytes),
        "differing_extents": differing,
        "differing_bytes": None if differing is None else differing * extentsize_bytes,
        "extentsize": extentsize_bytes,
        "reason": reason,
    }


def _side(changes: Changes, extentsize_bytes: int) -> dict[str, int | None]:
    return {
        "extents": changes.extents,
        "bytes": changes.extents * extentsize_bytes,
        "since": changes.since_s or None,
    }
