"""Whether this node's copy may become primary (S7, S10): a decision with its reason, without I/O."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from hast.format.constants import Role
from hast.replication.types import Lead, Metadata


class PeerState(StrEnum):
    """What the first connection attempt of a new primary found."""

    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    PRIMARY = "primary"
    SPLIT_BRAIN = "split-brain"
    REFUSED = "refused"
    NONE = "none"
    """`remote none`: there is no peer to ask."""


class Verdict(NamedTuple):
    """`allowed`, and if not, why and what to do."""

    allowed: bool
    reason: str = ""


_YES = Verdict(True)


def as_led(metadata: Metadata, lead: Lead) -> Metadata:
    """What a disk says of its copy, with what it could not be told."""
    return replace(metadata, stale=True) if lead is Lead.PEERS else metadata


def may_use_copy(metadata: Metadata, force: bool, resume: bool) -> Verdict:
    """Before anything else: is the copy on this disk fit to be served? `resume`: it was being served a moment ago."""
    if force or resume:
        return _YES
    if metadata.inconsistent:
        return Verdict(
            False,
            "the local copy is inconsistent: a synchronization into it did not finish. "
            "Let it finish with the peer as primary, or use --force to serve mixed data",
        )
    if metadata.stale:
        return Verdict(
            False,
            "the local copy is stale: the disk missed acknowledged writes that only the peer has. "
            "Make the peer primary, or use --force to go back to the older data",
        )
    return _YES


def may_be_behind(metadata: Metadata) -> bool:
    """Whether the other node may have gone on without this one, which then cannot know it: it was secondary last."""
    return metadata.resuid != 0 and metadata.prevrole == Role.SECONDARY


def may_serve(peer: PeerState, force: bool, resume: bool) -> Verdict:
    """After the first attempt to reach the peer: may clients be let in?"""
    if force or resume:
        return _YES
    if peer is PeerState.PRIMARY:
        return Verdict(
            False,
            "the peer is primary. Make it secondary first, or use --force if you know that it is dead or cut off",
        )
    if peer is PeerState.SPLIT_BRAIN:
        return Verdict(
            False,
            "split-brain: both nodes hold writes that the other lacks. Run hastctl resolve --discard-local on the "
            "node whose writes are to be lost, or use --force to serve this copy unconnected",
        )
    return _YES
