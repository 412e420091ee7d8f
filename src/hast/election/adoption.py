"""Adoption: what a host that starts carpd makes of the roles that hastd has already. Performs no I/O.

A pair may serve before carpd runs: roles were given by hand, or carpd was restarted. Its state must follow the roles
then, not the roles its first state. So as long as a host has not decided, nobody acts on its state (carp.py: settled).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Service(StrEnum):
    """Who serves a resource, as far as the hastd of this host knows."""

    HERE = "here"
    """Primary here with the other node as its secondary: nobody else serves it."""
    HERE_ALONE = "here alone"
    """Primary here, and nothing is known of the other node."""
    THERE = "there"
    """Secondary here with the other node as its primary."""
    NOT_KNOWN = "not known"
    """No role, no connection, a change of the role under way, or a primary that may not write."""


class Claim(StrEnum):
    """What a host that starts is, judged by the resources of a vhid."""

    SERVES = "serves"
    """Everything is served here and nowhere else: it becomes master at once, whoever is."""
    MAY_SERVE = "may serve"
    """Something is served here, but the other node may serve too: it keeps its roles while no other master is heard."""
    FOLLOWS = "follows"
    """Something is served by the other node and nothing here: it waits for the other's carpd."""
    NONE = "none"
    """Nothing is served as far as it knows: it takes part in the election, and its roles follow."""


def claim(services: Iterable[Service]) -> Claim:
    """Judge all resources of a vhid together."""
    found = set(services)
    if found == {Service.HERE}:
        return Claim.SERVES
    if found & {Service.HERE, Service.HERE_ALONE}:
        return Claim.MAY_SERVE
    return Claim.FOLLOWS if Service.THERE in found else Claim.NONE


class Start(StrEnum):
    """What becomes of a state that nobody acts on yet."""

    ADOPT = "adopt"
    """Become master now."""
    SETTLE = "settle"
    """Roles follow the state from now on."""
    KEEP = "keep"
    """Not decided: roles stay as they are."""


def at_start(claim: Claim, link: bool, other_heard: bool, backup_by_hand: bool, was_master: bool) -> tuple[Start, str]:
    """The decision for a host that is not master and has not decided, and why.

    `other_heard`: another master was heard; `was_master`: an earlier carpd of this host held the address until it died.
    """
    if claim in (Claim.NONE, Claim.FOLLOWS):
        return Start.SETTLE, "the data are not served here"
    if not link:
        if was_master:
            return Start.SETTLE, "link down"
        return Start.KEEP, "the data are served here, and there is no link yet"
    if backup_by_hand:
        return Start.SETTLE, "ordered by hand"
    if claim is Claim.SERVES:
        return Start.ADOPT, "the data are served here already"
    if other_heard:
        return Start.SETTLE, "another master is heard"
    return Start.KEEP, "the data are served here, and no other master is heard yet"
