"""The words of the CARP state machine: states, inputs, effects, settings, counts. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class State(StrEnum):
    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"


class Input(StrEnum):
    """Everything that can happen to a vhid; advertisements are ranked against ourselves first."""

    LINK_UP = "link up"
    LINK_DOWN = "link down"
    BETTER = "advertisement of a better master"
    EQUAL = "advertisement of an equal master"
    WORSE = "advertisement of a worse master"
    LEAVING = "advertisement of a master that leaves or will time out"
    TIMER = "timer"
    HAND_MASTER = "made master by hand"
    HAND_BACKUP = "made backup by hand"
    HAND_AUTO = "back to automatic"
    STOP = "stop"


class Advertise(NamedTuple):
    """Send this advertisement, once per address family; then call `sent`."""

    advbase: int
    advskew: int


class SetAddresses(NamedTuple):
    """Add the addresses to the interface, or remove them."""

    present: bool


class Announce(NamedTuple):
    """Gratuitous ARP and unsolicited neighbour advertisements for all addresses."""


class StateChanged(NamedTuple):
    """The state became `state`; `reason` is for the log and the events."""

    state: State
    reason: str


class Note(NamedTuple):
    """One line for the log."""

    text: str
    level: str = "info"


Effect: TypeAlias = Advertise | SetAddresses | Announce | StateChanged | Note


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of one vhid. `label` is VHID@INTERFACE, for texts and demotion reasons."""

    label: str
    advbase: int
    advskew: int
    preempt: bool = False
    data_required: bool = False
    """The vhid serves HAST resources: wait for the first `data` report."""


@dataclass(slots=True)
class Counts:
    """What was seen since start, for status."""

    sent: int = 0
    send_errors: int = 0
    received: int = 0
    bad_auth: int = 0
    replayed: int = 0
    reflected: int = 0
    became_master: int = 0


@dataclass(slots=True)
class Heard:
    """The master that was heard last, or the better one of two."""

    source: Address
    interval_s: float
    at_s: float
