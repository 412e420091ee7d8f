"""Split brain of resources that belong together (config/pool_groups.py): one direction for all, or none. Pure.

Each worker meets the other node by itself, so none of them may decide alone. By hand all have to be named; by policy
the supervisor decides when all have met the other node, and orders all or none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from hast.config.model import SplitBrainPolicy
from hast.config.pool_groups import PoolGroup
from hast.format.constants import Role
from hast.replication.splitbrain import Changes, Decision, decide


class Member(NamedTuple):
    """One resource of a group. `report`: of its split brain (docs/control.md), None while none is known."""

    name: str
    role: Role
    connected: bool
    policy: SplitBrainPolicy
    report: dict[str, Any] | None


def why_not_alone(group: PoolGroup, named: Collection[str], apart: Collection[str], option: str) -> str | None:
    """Why an order for `named` resources of the group cannot be given, and what to do; None when it can.

    `apart`: those of the group that are not connected now. `option`: of hastctl resolve, as the operator typed it.
    """
    missing = [name for name in group.resources if name in apart and name not in named]
    if not missing:
        return None
    wanted = [name for name in group.resources if name in apart or name in named]
    return (
        f"It belongs to {group}, and copies of one pool are resolved in one direction or not at all: "
        f"hastctl resolve --{option} {' '.join(wanted)}. --force does it for a part."
    )


def decide_together(group: PoolGroup, members: Sequence[Member]) -> Decision:
    """Whether the policies give up this node's changes of all members. `reason` is one clause, for the operator."""
    obstacle = _obstacle(members)
    if obstacle:
        return Decision(False, f"{group}: {obstacle}; none is resolved by a policy")
    decisions = {member.name: _decision(member) for member in members}
    losing = [name for name, decision in decisions.items() if decision.discard_local]
    if 0 < len(losing) < len(members):
        each = "; ".join(f"{name}: {decision.reason}" for name, decision in decisions.items())
        return Decision(False, f"{group}: the policies do not agree, so none is resolved ({each})")
    return Decision(bool(losing), f"{group}: {next(iter(decisions.values())).reason}")


def _obstacle(members: Sequence[Member]) -> str:
    for member in members:
        if member.role is not Role.SECONDARY:
            return f"{member.name} is {member.role} here"
    for member in members:
        if member.connected:
            return f"{member.name} is connected already"
    for member in members:
        if member.report is None:
            return f"{member.name} has not met the other node yet"
    return ""


def _decision(member: Member) -> Decision:
    report = member.report or {}
    local, primary = _changes(report.get("local")), _changes(report.get("peer"))
    if local is None:
        return Decision(False, f"policy {member.policy}: it is not known how much was changed")
    return decide(member.policy, local, primary)


def _changes(side: Any) -> Changes | None:
    if not isinstance(side, dict) or not isinstance(side.get("extents"), int):
        return None
    since_s = side.get("since")
    return Changes(side["extents"], since_s if isinstance(since_s, int) else 0)
