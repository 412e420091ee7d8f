"""What to do with the first message on an accepted connection (section 4.1): a decision without sockets.

Beyond the reference: connection B needs a pending connection A, tokens are compared in constant time, and a resource
that no connection is meant for costs its sender nothing but a refusal.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import NamedTuple

from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION, Feature, Role
from hast.replication.handshake import PEER_IS_STOPPING


class Opening(NamedTuple):
    """The fields of message 1 or 3 that decide; `token` None where absent, `version` 0 where absent."""

    resource: str | None
    version: int = 0
    token: bytes | None = None
    features: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What the supervisor knows of the named resource. `token` is that of the pending connection A, if any."""

    known: bool
    peer_allowed: bool = False
    peer_proven: bool = True
    """It has shown the key that the configuration asks for, if it asks for one."""
    role: Role = Role.INIT
    stopping: bool = False
    """This hastd comes to its end, and takes no connection any more."""
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ignore:
    """Close without an answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with `errmsg`, and `wait` when it is worth trying again soon; then close."""

    errmsg: str
    wait: bool = False
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AcceptA:
    """Keep it beside a connection that lives; answer with version, a fresh token and the agreed features."""

    version: int
    features: Feature


@dataclass(frozen=True, slots=True)
class AcceptB:
    """The pair is complete: it replaces whatever connection the resource has."""


Decision = Ignore | Refuse | AcceptA | AcceptB


def decide(opening: Opening, view: View) -> Decision:
    """The steps of section 4.1, in their order."""
    if not opening.resource:
        return Ignore("no resource named")
    version = min(opening.version or 1, PROTOCOL_VERSION)
    if not view.known:
        return Refuse("Resource not configured.", version=version)
    if not view.peer_proven:
        return Ignore("it did not show the key that hast.conf names for this resource")
    if not view.peer_allowed:
        return Refuse("No access to the resource.", version=version)
    if view.stopping and view.role is not Role.PRIMARY:
        return Refuse(PEER_IS_STOPPING, version=version)
    if view.role is not Role.SECONDARY:
        text = f"Remote node acts as {view.role} for the resource and not as secondary."
        return Refuse(text, wait=view.role is Role.PRIMARY, version=version)
    if opening.token is None:
        return AcceptA(version, Feature(opening.features & OUR_FEATURES))
    if view.token is None or not hmac.compare_digest(opening.token, view.token):
        return Refuse("Token doesn't match.", version=version)
    return AcceptB()
