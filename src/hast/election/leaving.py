"""How a host leaves: what it serves is handed over before a daemon that the service needs ends. Performs no I/O.

One rule for every way in which a host is stopped on purpose (a person, systemd in any order, one daemon alone):

    nothing is served here             nothing is done
    daemons only begin anew            the service stays: what the new one finds, it adopts (adoption.py)
    the other copy is whole            the address goes first, so that the other host begins at once; then services,
                                       exports, pools, devices, roles; then the other host is waited for
    else                               the same in order, except the address: to whom? It is said aloud first

`leave` is a generator that yields one `Step` at a time and is sent whether it succeeded. It may be killed between any
two steps and run again: it looks at the facts only, and takes nothing down that is down.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Program(StrEnum):
    """The daemons that a service needs, named as their units."""

    HASTD = "hastd"
    DEVD = "hast-devd"
    CARPD = "carpd"


class Job(StrEnum):
    """What the service manager is about to do to a daemon."""

    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of this host. `lacking`: why the other copy could not serve in its place; empty when it could."""

    name: str
    primary: bool
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class Vhid:
    """One virtual host."""

    label: str
    master: bool
    data: bool = True
    """It serves resources of hastd; another is no business of a hand-over."""
    adoptable: bool = False
    """A carpd that begins anew finds by the roles that it is master."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How things stand on this host."""

    resources: Sequence[Resource] = ()
    vhids: Sequence[Vhid] = ()
    hastd: bool = True
    """hastd answers."""
    carpd: bool = True
    """carpd answers."""
    begun: bool = False
    """The last fail-over run made this host master, or did not end: something may be up without a role."""
    ending: Program | None = None
    """The daemon that ends; None when a person asks."""
    jobs: Mapping[Program, Job] = field(default_factory=dict)


class Way(StrEnum):
    """What is to be done."""

    NOTHING = "nothing is served here"
    KEEP = "the service stays where it is"
    HAND_OVER = "handed over"
    END_ALONE = "ended without a successor"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reasons`: why there is no successor, one line each."""

    way: Way
    reasons: tuple[str, ...] = ()


def decide(facts: Facts) -> Decision:
    """The rule at the top of this module."""
    served = [resource for resource in facts.resources if resource.primary]
    if not served and not facts.begun and not any(vhid.master and vhid.data for vhid in facts.vhids):
        return Decision(Way.NOTHING)
    if _comes_back(facts):
        return Decision(Way.KEEP)
    reasons = [f"{resource.name}: {resource.lacking}" for resource in served if resource.lacking]
    if not facts.hastd:
        reasons.append("hastd does not answer: nothing is known of the other copy")
    if not facts.carpd:
        reasons.append("carpd does not answer: no other host is told to take over")
    return Decision(Way.END_ALONE if reasons else Way.HAND_OVER, tuple(reasons))


def _comes_back(facts: Facts) -> bool:
    """Whether daemons are only started anew, and find what they need for going on: hastd leaves its workers running."""
    if facts.ending is None or facts.jobs.get(facts.ending) is not Job.RESTART:
        return False
    if Job.STOP in facts.jobs.values():
        return False
    if facts.jobs.get(Program.CARPD) is not Job.RESTART:
        return True
    away = not facts.hastd and facts.jobs.get(Program.HASTD) is Job.RESTART
    return facts.carpd and (away or all(vhid.adoptable for vhid in facts.vhids if vhid.master))


class Action(StrEnum):
    """What one step does."""

    KEEP_ADDRESS = "keep address"
    """Tell carpd that the end which comes is none: no goodbye, the address stays."""
    WARN = "warn"
    """Say aloud that there is no successor, and why."""
    GIVE_ADDRESS = "give address"
    """Tell carpd to leave the address to the other host, and not to take it back meanwhile."""
    TAKE_DOWN = "take down"
    """Services, exports, pools, devices, roles; succeeded when nothing is primary here any more."""
    AWAIT_SUCCESSOR = "await successor"
    """Wait until the other host is primary."""


@dataclass(frozen=True, slots=True)
class Step:
    action: Action
    reasons: tuple[str, ...] = ()


class Outcome(StrEnum):
    """How it ended."""

    NOTHING = "nothing is served here"
    KEPT = "the service stays where it is"
    HANDED_OVER = "handed over"
    ALONE = "stopped in order, and no other host has taken over"
    HELD = "not everything could be taken down"


Leave = Generator[Step, bool, Outcome]


def leave(facts: Facts) -> Leave:
    """The steps of the decision for `facts`."""
    decision = decide(facts)
    match decision.way:
        case Way.NOTHING:
            return Outcome.NOTHING
        case Way.KEEP:
            if facts.ending is Program.CARPD and not (yield Step(Action.KEEP_ADDRESS)):
                return (yield from _hand_over())
            return Outcome.KEPT
        case Way.HAND_OVER:
            return (yield from _hand_over())
    yield Step(Action.WARN, decision.reasons)
    return Outcome.ALONE if (yield Step(Action.TAKE_DOWN)) else Outcome.HELD


def _hand_over() -> Leave:
    given = yield Step(Action.GIVE_ADDRESS)
    if not (yield Step(Action.TAKE_DOWN)):
        return Outcome.HELD
    if given and (yield Step(Action.AWAIT_SUCCESSOR)):
        return Outcome.HANDED_OVER
    yield Step(Action.WARN, ("no other host has taken over yet",))
    return Outcome.ALONE


class Hold(StrEnum):
    """How a shutdown of the machine is held up while this host serves: modes of systemd-logind's inhibitors."""

    NONE = "none"
    DELAY = "delay"
    """It waits for the hand-over."""
    BLOCK = "block"
    """It is refused until a person asks again and says that it is meant."""


def hold(resources: Sequence[Resource], somebody_there: bool) -> Hold:
    """`somebody_there`: a person is logged in, who can be refused and answer; a machine alone has to obey."""
    served = [resource for resource in resources if resource.primary]
    if not served:
        return Hold.NONE
    return Hold.BLOCK if somebody_there and any(resource.lacking for resource in served) else Hold.DELAY
