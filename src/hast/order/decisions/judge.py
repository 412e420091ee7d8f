"""Whether an order is carried out now, by the plans that were made anew of what both nodes tell. Pure.

The token was looked at before. What is not on the closed list, has no plan, has another plan than was seen, or a plan
of which something is not true, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hast.order.decisions.request import Request
from hast.watch.web.decisions.actions import ACTIONS, can_be_ordered, to_type, words_of

CHANGED = "What has to be true has changed since the plan was shown: look at it again."


@dataclass(frozen=True, slots=True)
class Refused:
    """`str(text)` is for who ordered."""

    text: str


@dataclass(frozen=True, slots=True)
class Order:
    """`words`: the command line, the program first."""

    action: str
    words: tuple[str, ...]
    limit_s: float


def judge(request: Request, plans: Sequence[Mapping[str, Any]]) -> Order | Refused:
    """`plans` are those of now."""
    if request.action not in ACTIONS:
        return Refused("This cannot be ordered from the page.")
    if not can_be_ordered(request.action, request.targets):
        return Refused("No name that can be ordered from the page.")
    plan = next((each for each in plans if _is_of(each, request)), None)
    if plan is None or plan["fingerprint"] != request.seen:
        return Refused(CHANGED)
    if not plan["ready"]:
        lacking = [str(each["text"]) for each in plan["checks"] if not each["ok"]]
        return Refused(f"It is not possible now: {'; '.join(lacking).rstrip('.')}.")
    if request.typed != to_type(request.action, request.targets):
        return Refused(f"{to_type(request.action, request.targets)} has to be typed for this.")
    action = ACTIONS[request.action]
    return Order(request.action, tuple(words_of(request.action, request.targets)), action.limit_s)


def _is_of(plan: Mapping[str, Any], request: Request) -> bool:
    order = plan.get("order")
    return isinstance(order, Mapping) and (order["action"], tuple(order["targets"])) == (
        request.action,
        request.targets,
    )
