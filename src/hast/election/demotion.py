"""Demotion: why this host should not be master, as numbers added to advskew (carp.md, "States").

Host-wide reasons (a lost interface, failing sends, by hand) burden every vhid of the host; the state of the data
burdens the vhids that serve it. Performs no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hast.election.adoption import Claim, Service, claim

MAX_SKEW = 240
"""Cap of advskew plus demotion; who advertises it says that it should not be master."""
BY_HAND = "hand"


class Demotion:
    """The host-wide counter: named reasons and their amounts (FreeBSD's net.inet.carp.demotion)."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Sum of all reasons; 0 when nothing is wrong."""
        return sum(self.reasons.values())

    def set(self, reason: str, amount: int) -> bool:
        """Give this reason this amount, 0 takes it away. True when the total changed."""
        before = self.total
        if amount:
            self.reasons[reason] = amount
        else:
            self.reasons.pop(reason, None)
        return self.total != before


class CopyState(StrEnum):
    """What one resource's copy on this host is good for, best first."""

    LEADING = "leading"
    """Primary."""
    COMPLETE = "complete"
    """Connected secondary with every block."""
    LAST_PRIMARY = "last primary"
    """Not connected, and the last it knows is that it was primary: probably the newest copy."""
    UNKNOWN_NEWEST = "unknown, the newest before"
    """hastd does not answer, and this was probably the newest copy when it last did."""
    DISCONNECTED = "disconnected"
    """A secondary without its primary: complete as far as it knows."""
    IDLE = "no role"
    """No role, and it was not primary before."""
    STALE = "stale"
    """Its disk failed or missed a write; while connected it is served from the other copy."""
    REFUSED = "refused"
    """hastd could not make it primary, or had to end that."""
    UNKNOWN = "unknown"
    """hastd does not answer."""
    STALE_ALONE = "stale and alone"
    """Missed writes, and the copy that has them is not connected."""
    SPLIT_BRAIN = "split brain"
    """Both nodes wrote on their own and this one is not the primary: a person decides which copy lives."""
    OUTDATED = "outdated"
    """The other node went on without this copy."""
    INCONSISTENT = "inconsistent"
    """In the middle of a synchronisation: not even an old state."""
    FROZEN = "frozen"
    """A primary that lost both its peer and its arbiter: it may not write, and the other may be primary by now."""
    NO_PROVIDER = "no provider"
    """Its disk is missing or holds no HAST metadata."""
    NOT_CONFIGURED = "not configured"
    """hastd does not know the resource."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """What the data allow: `demotion` is added to advskew; not `eligible`: master only by hand."""

    demotion: int = 0
    eligible: bool = True
    preempt: bool = True
    """May take over from a worse master, where the configuration says `preempt`."""
    text: str = ""
    claim: Claim = Claim.NONE
    """What this host is before its carpd has decided anything."""


_VERDICTS: dict[CopyState, tuple[int, bool]] = {
    CopyState.LEADING: (0, True),
    CopyState.COMPLETE: (0, True),
    CopyState.LAST_PRIMARY: (0, True),
    CopyState.UNKNOWN_NEWEST: (0, True),
    CopyState.DISCONNECTED: (120, True),
    CopyState.IDLE: (180, True),
    CopyState.STALE: (200, True),
    CopyState.REFUSED: (MAX_SKEW, True),
    CopyState.UNKNOWN: (MAX_SKEW, True),
    CopyState.STALE_ALONE: (MAX_SKEW, False),
    CopyState.SPLIT_BRAIN: (MAX_SKEW, False),
    CopyState.OUTDATED: (MAX_SKEW, False),
    CopyState.INCONSISTENT: (MAX_SKEW, False),
    CopyState.FROZEN: (MAX_SKEW, False),
    CopyState.NO_PROVIDER: (MAX_SKEW, False),
    CopyState.NOT_CONFIGURED: (MAX_SKEW, False),
}
"""Demotion, and whether the node may become master by itself when it hears no other."""
_MAY_PREEMPT = frozenset({CopyState.LEADING, CopyState.COMPLETE})


_NEWEST = frozenset({CopyState.LAST_PRIMARY, CopyState.UNKNOWN_NEWEST})


def unheard(last: CopyState, alone: bool) -> CopyState:
    """What a copy counts as when hastd falls silent, by what it said last; `alone`: primary without its peer.

    The address of a host whose copy the other host does not have is not offered to that old copy.
    """
    newest = last in _NEWEST or (alone and last is CopyState.LEADING)
    return CopyState.UNKNOWN_NEWEST if newest else CopyState.UNKNOWN


def judge(copies: Iterable[tuple[str, CopyState]], services: Iterable[Service] = ()) -> DataReport:
    """The worst copy decides, for (resource name, state) of all resources of a vhid; `services`: who serves them."""
    demotion, eligible, preempt, texts = 0, True, True, []
    for name, state in copies:
        weight, may = _VERDICTS[state]
        demotion = max(demotion, weight)
        eligible = eligible and may
        if state not in _MAY_PREEMPT:
            preempt = False
            texts.append(f"{name} {state}")
    return DataReport(demotion, eligible, preempt, ", ".join(texts), claim(services))
