"""What a change of role would do, said before it is done: goes through the same plan and carries nothing out.

Questions that change nothing are really asked; the arbiter is not, because to ask it is to take its lease. Every other
step counts as done, so what is shown is the way on which nothing fails; where a wait decides, both ends are told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hast.supervisor.decisions.steps import Answer, Do, Plan, Step

ASKED = frozenset({Do.ASK_WORKER, Do.ASK_PEER})
Ask = Callable[[Step], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`steps` in order, one line each; `refusal`: why the role would not be had, None where it would."""

    steps: tuple[str, ...]
    refusal: str | None = None


async def foresee(plan: Plan, ask: Ask, now_s: float) -> Foreseen:
    """Run the plan to its end. `ask` answers the steps of ASKED and changes nothing."""
    lines: list[str] = []
    waited = False
    try:
        step = next(plan)
        while True:
            if step.do in ASKED and not (waited and step.do is Do.ASK_PEER):
                answer = await ask(step)
            else:
                answer = Answer(now_s)
            if not (waited and step.do in (Do.ASK_PEER, Do.WAIT_FOR_PEER)):
                lines.append(_words(step, answer))
            waited = waited or step.do is Do.WAIT_FOR_PEER
            step = plan.send(answer)
    except StopIteration as end:
        refusal = end.value.refusal
    return Foreseen(tuple(lines), refusal.reason if refusal is not None else None)


def _words(step: Step, answer: Answer) -> str:
    match step.do:
        case Do.TAKE_ROLE:
            return f"be {step.role} from now on, for peers and for status"
        case Do.ASK_PEER:
            said = "it is primary" if answer.peer_is_primary else "nothing stands against it"
            return f"{step.do}: {said}"
        case Do.ASK_WORKER:
            bad = [word for word, is_so in (("inconsistent", answer.inconsistent), ("stale", answer.stale)) if is_so]
            return f"{step.do}: {' and '.join(bad) or 'nothing stands against it'}"
        case Do.WAIT_FOR_PEER:
            return f"{step.do}; refused if it is still primary then"
        case Do.ASK_ARBITER:
            return f"{step.do}; refused, with nothing changed, if it says no"
    return f"{step.do}, at most {step.limit_s:g} s"
