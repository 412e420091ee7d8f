"""The words of the CARP state machine: states, inputs, the table of steps, effects, settings, counts. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from math import inf
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
    """The state became `state`; `reason` is for the log and the events. Not `settled`: only for the log."""

    state: State
    reason: str
    settled: bool = True


class Settled(NamedTuple):
    """The state, so far kept to itself, is to be acted on from now on."""

    state: State
    reason: str


class Note(NamedTuple):
    """One line for the log."""

    text: str
    level: str = "info"


Effect: TypeAlias = Advertise | SetAddresses | Announce | StateChanged | Settled | Note


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of one vhid. `label` is VHID@INTERFACE, for texts and demotion reasons."""

    label: str
    advbase: int
    advskew: int
    preempt: bool = False
    data_required: bool = False
    """The vhid serves HAST resources: wait for the first `data` report."""
    was_master: bool = False
    """An earlier carpd of this host held the addresses until it was killed."""


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


@dataclass(slots=True)
class Hand:
    """What was ordered by hand: `master` holds against better masters, `backup` does not preempt."""

    order: State | None = None
    deposes: int = 0
    deposed_s: float = -inf


@dataclass(slots=True)
class Wait:
    """A backup's timer has run out, but it may not be master yet; `text` says why."""

    text: str = ""
    reason: str = ""


TABLE: dict[tuple[State, Input], str] = {
    (State.INIT, Input.LINK_UP): "_listen",
    (State.BACKUP, Input.LINK_DOWN): "_leave",
    (State.BACKUP, Input.BETTER): "_follow",
    (State.BACKUP, Input.EQUAL): "_follow",
    (State.BACKUP, Input.WORSE): "_consider_preempting",
    (State.BACKUP, Input.LEAVING): "_succeed",
    (State.BACKUP, Input.TIMER): "_try_master",
    (State.BACKUP, Input.HAND_MASTER): "_seize",
    (State.BACKUP, Input.HAND_BACKUP): "_stay_backup",
    (State.BACKUP, Input.HAND_AUTO): "_back_to_automatic",
    (State.BACKUP, Input.STOP): "_leave",
    (State.MASTER, Input.LINK_DOWN): "_leave",
    (State.MASTER, Input.BETTER): "_yield",
    (State.MASTER, Input.EQUAL): "_yield_to_lower_address",
    (State.MASTER, Input.WORSE): "_defend",
    (State.MASTER, Input.LEAVING): "_defend",
    (State.MASTER, Input.TIMER): "_advertise",
    (State.MASTER, Input.HAND_MASTER): "_seize",
    (State.MASTER, Input.HAND_BACKUP): "_hand_over",
    (State.MASTER, Input.HAND_AUTO): "_back_to_automatic",
    (State.MASTER, Input.STOP): "_say_goodbye_and_leave",
}
"""The step for each state and input; a pair that is not listed changes nothing."""
