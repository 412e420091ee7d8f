"""How a new hastd takes over what one that died left running, and what it does with a role whose worker is gone.

A worker that serves goes on serving: nothing is asked before it is taken over, and nothing is told to its peer. Its
lease was nobody's meanwhile, so it is asked for anew (S11); until it is there a primary without its peer holds writes.
What cannot be taken over is ended. A secondary whose worker died with hastd is a secondary that waits for its primary;
a primary whose worker did is none any more, since its device died with both.
"""

from __future__ import annotations

from hast.format.constants import Role
from hast.supervisor.decisions.role_change import DEVICE_LIMIT_S, STEP_LIMIT_S
from hast.supervisor.decisions.steps import Do, Ending, Plan, Refusal, Step


def adopt(role: Role, arbitrated: bool) -> Plan:
    """Take over a worker in this role."""
    yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, role)
    answer = yield Step(Do.ADOPT_WORKER, STEP_LIMIT_S)
    if answer.failure is not None:
        for do in (Do.KILL_WORKER, Do.CLOSE_DEVICE) if role is Role.PRIMARY else (Do.DROP_PEER,):
            yield Step(do, DEVICE_LIMIT_S if do is Do.CLOSE_DEVICE else STEP_LIMIT_S)
        yield Step(Do.TAKE_ROLE, STEP_LIMIT_S, Role.INIT)
        text = f"What an earlier hastd left cannot be taken over: {answer.failure}"
        return Ending(Role.INIT, Refusal(text, text))
    if role is Role.PRIMARY and arbitrated:
        yield Step(Do.REGAIN_LEASE, STEP_LIMIT_S)
    return Ending(role)


def role_without_worker(recorded: Role) -> Role:
    """What a resource is whose worker did not outlive the hastd that recorded this role."""
    return Role.SECONDARY if recorded is Role.SECONDARY else Role.INIT
