"""What becomes of a primary whose worker died: another worker under the same device, after which delay, or the end.

The role is kept for crashes and for a worker's own wish, because what stands on the device only sees a pause (section
8.4). A worker that says that the role cannot be held is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hast.format.constants import Role
from hast.supervisor.decisions.role_change import DEVICE_LIMIT_S, STEP_LIMIT_S
from hast.supervisor.decisions.steps import Do, Ending, Plan, Refusal, Step

FIRST_DELAY_S = 0.02
SECOND_DELAY_S = 0.5
QUICK_RESTARTS = 5
MAX_DELAY_S = 30.0
STABLE_AFTER_S = 60.0
MAX_DEATHS = 8
SHORT_LIFE_S = 0.5
"""A worker that served for less counts for the crash loop; kill -9 by hand now and then is none."""
CRASH_LOOP = f"Its worker died more than {MAX_DEATHS} times within {STABLE_AFTER_S:g} s and is not started again"
HELD = f"{CRASH_LOOP}; users of the device wait. See the log, and order the role again."
FAILED = f"{CRASH_LOOP}; see the log."
EXIT_CODES = (1, 70, 75)
"""Exit codes after which a primary is started again: a crash (1, 70) or its own wish (75). Signals count as crashes."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended. `exit_code` is a negative signal number when it was killed, None when that is not known."""

    exit_code: int | None
    refused: str | None = None
    """Why it cannot hold the role, if it said so."""


@dataclass(slots=True)
class Backoff:
    """Delay before the next restart. One that served for a while is replaced at once. After those that did not it is
    short for the first few within STABLE_AFTER_S, then doubles, and is None after MAX_DEATHS of them: what kills this
    worker will kill the next one."""

    times: list[float] = field(default_factory=list)

    def next_delay_s(self, now_s: float, served_s: float = 0.0) -> float | None:
        """`served_s`: how long the dead one had served."""
        self.times = [when_s for when_s in self.times if now_s - when_s < STABLE_AFTER_S]
        if served_s >= SHORT_LIFE_S:
            return FIRST_DELAY_S
        self.times.append(now_s)
        count = len(self.times)
        if count > MAX_DEATHS:
            return None
        if count == 1:
            return FIRST_DELAY_S
        doublings = min(max(count - QUICK_RESTARTS, 0), 10)
        return float(min(SECOND_DELAY_S * 2**doublings, MAX_DELAY_S))


def may_restart(death: Death) -> bool:
    """Whether a primary whose worker ended like this keeps its role."""
    code = death.exit_code
    return death.refused is None and (code is None or code < 0 or code in EXIT_CODES)


def leaves_nothing(ended: bool, asleep: bool) -> bool:
    """Whether nothing that the dead worker was given can reach its disk any more. Before that nobody else is given what
    it left unanswered: an old write would land after a newer one. `ended`: its process is gone, or runs nothing of its
    own. `asleep`: threads of it sleep in the disk."""
    return ended and not asleep


def replace_worker(ready_limit_s: float, device_survives: bool) -> Plan:
    """Another worker under the device. Ends as primary; a refusal says why no worker serves yet.

    `ready_limit_s`: what the worker may take. `device_survives`: the next worker carries out what was in flight.
    """
    begin = [] if device_survives else [Do.DETACH_DEVICE, Do.PREPARE_DEVICE]
    for do in (*begin, Do.RESUME_WORKER, Do.AWAIT_READY, Do.HAND_OVER_DEVICE):
        limit_s = ready_limit_s if do is Do.AWAIT_READY else STEP_LIMIT_S
        answer = yield Step(do, limit_s)
        served = do is Do.HAND_OVER_DEVICE and answer.failure is None
        reason = answer.failure if answer.give_up is None or served else answer.give_up
        if reason is not None:
            yield Step(Do.KILL_WORKER, STEP_LIMIT_S)
            return Ending(Role.PRIMARY, Refusal(reason, reason))
    return Ending(Role.PRIMARY)


def give_up(reason: str, arbitrated: bool) -> Plan:
    """The role cannot be held: init, with everything gone."""
    yield Step(Do.KILL_WORKER, STEP_LIMIT_S)
    yield Step(Do.CLOSE_DEVICE, DEVICE_LIMIT_S)
    if arbitrated:
        yield Step(Do.GIVE_BACK_LEASE, STEP_LIMIT_S)
    yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, Role.INIT)
    return Ending(Role.INIT, Refusal(reason, f"No longer primary: {reason}"))
