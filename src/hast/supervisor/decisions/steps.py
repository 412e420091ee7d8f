"""The steps from which role changes and restarts are made, what each is told, and what it answers.

A plan is a generator: it yields one `Step` at a time, is sent its `Answer`, and returns an `Ending`. `role_runner.py`
carries steps out; a test or a simulator may do so in its place, and may stop between any two. A plan remembers nothing
that outlives it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum

from hast.format.constants import Role


class Do(StrEnum):
    """What a step does. A thing that is not there counts as ended, closed or given back."""

    ASK_WORKER = "ask the worker of the secondary about its copy"
    ASK_PEER = "ask the peer, while it is connected or said that it goes, whether it is primary"
    WAIT_FOR_PEER = "wait until the peer lets go, or the time is over"
    ASK_ARBITER = "ask the arbiter and the fence program for leave to be primary"
    OVERRULE_ARBITER = "let held writes go on by hand"
    GIVE_BACK_LEASE = "tell the arbiter that nothing is acknowledged any more"
    DROP_PEER = "end the connections of the secondary and its worker"
    TAKE_ROLE = "be in this role from now on, for peers and for status"
    PREPARE_DEVICE = "make the sockets and descriptors that a primary's worker inherits"
    START_WORKER = "start a worker as primary"
    RESUME_WORKER = "start a worker in place of one that died"
    AWAIT_READY = "wait until the worker has judged its disk and heard its peer"
    ATTACH_DEVICE = "make the device over the worker that serves"
    HAND_OVER_DEVICE = "give the device that is there to the worker that serves now"
    ADOPT_WORKER = "take over the worker and the device that an earlier hastd left"
    REGAIN_LEASE = "ask the arbiter anew for the lease that nobody renewed"
    DETACH_DEVICE = "take away a device that does not survive its worker"
    SAY_LEAVING = "tell the peer that this node lets go, and within which time"
    MEET = "wait until all resources of the pool that let go together have come so far"
    WITHHOLD = "answer no write any more, and wait until all that came is on both copies"
    QUIESCE_DEVICE = "write back what the kernel holds and take the device away while the worker serves"
    STOP_WORKER = "drain the worker of the primary and end it"
    KILL_WORKER = "end the worker of the primary at once"
    CLOSE_DEVICE = "take away device and sockets; who has the device open gets errors"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. It is answered within `limit_s` (seconds) or a little later, whatever happens."""

    do: Do
    limit_s: float
    role: Role | None = None
    """For TAKE_ROLE."""
    force: bool = False
    """For ASK_ARBITER and START_WORKER: by hand."""
    within_s: float = 0.0
    """For SAY_LEAVING."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a step went."""

    now_s: float
    """When it ended, by the clock of the facts."""
    failure: str | None = None
    """Why it was not done, one line for the operator."""
    stuck: bool = False
    """A killed worker does not die; it may hold its disk."""
    give_up: str | None = None
    """Why the role wanted is not wanted any more: a later request, or the end of hastd."""
    peer_is_primary: bool = False
    """To ASK_PEER: it says so, or is letting go (`departure.py`)."""
    inconsistent: bool = False
    """To ASK_WORKER: a synchronization into the copy is under way."""
    stale: bool = False
    """To ASK_WORKER: the copy missed acknowledged writes."""
    peer_until_s: float | None = None
    """To ASK_PEER: by when a peer that is letting go will have done so."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a resource is not in the role that was wanted; each text is one line."""

    reason: str
    """For who asked."""
    remember: str | None = None
    """For status, until the next role."""
    publish: bool = False
    """Subscribers hear of it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The result of a plan: the role that is true now, and why it is not the one wanted."""

    role: Role
    refusal: Refusal | None = None


Plan = Generator[Step, Answer, Ending]
Part = Generator[Step, Answer, Refusal | None]
"""A stretch of a plan; what it returns ends the plan."""
