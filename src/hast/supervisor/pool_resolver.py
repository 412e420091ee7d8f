"""Carries out what together.py decides: reads failover.conf, orders all resources of a pool or none.

failover.conf is the one beside hast.conf. It is looked at before every use and read again when it changed. Where it
cannot be used it is not known what belongs together, and nothing is resolved but by force.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hast.config.model import ConfigError
from hast.config.pool_groups import PoolGroup, groups_of
from hast.format.constants import Role
from hast.supervisor.decisions.together import decide_together, why_not_alone
from hast.supervisor.worker_talk import RoleError
from hast.worker.disk import resolve

if TYPE_CHECKING:
    from hast.config.failover_model import FailoverConfiguration
    from hast.supervisor.resource_state import ResourceState

log = logging.getLogger("hast.supervisor")

FILE_NAME = "failover.conf"
OPTIONS = {resolve.DISCARD: "discard-local", resolve.ABANDON: "abandon"}

Outcome = dict[str, Any] | RoleError


class PoolResolver:
    """`states`: all resources of this hastd, as they come and go."""

    def __init__(self, states: Mapping[str, ResourceState], config_path: Callable[[], str]) -> None:
        self._states = states
        self._config_path = config_path
        self._seen: tuple[str, int, int] | None = None
        self._configuration: FailoverConfiguration | None = None
        self._error: str | None = None
        self._told: dict[PoolGroup, str] = {}

    async def refresh(self) -> None:
        """Read failover.conf if it is another than before. Raises nothing."""
        path = str(Path(self._config_path()).with_name(FILE_NAME))
        try:
            found = os.stat(path)
        except OSError:
            self._seen = self._configuration = self._error = None
            return
        seen = (path, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._configuration = await asyncio.get_running_loop().run_in_executor(None, _load, path)
            self._error = None
        except ConfigError as error:
            self._configuration, self._error = None, str(error)
            log.error("It is not known which resources belong together: %s", error)

    def group_of(self, name: str) -> PoolGroup | None:
        """The pool's resources that `name` is one of, as far as failover.conf was readable at the last `refresh`."""
        if self._configuration is None:
            return None
        return next(
            (each for each in groups_of(self._configuration, list(self._states)) if name in each.resources), None
        )

    def held_back(self, name: str) -> str:
        """Why the worker of this resource may not follow its policy alone; empty when it may."""
        if self._error is not None:
            return f"nobody knows what it belongs to ({self._error})"
        group = self.group_of(name)
        return f"decided by the secondary for all of {group}" if group is not None else ""

    # --- by hand ----------------------------------------------------------------------------------------------------

    async def order(self, names: Collection[str], order: str, force: bool, reason: str) -> dict[str, Outcome]:
        """Give an order for these resources, all of them known; all resources of one pool or none of it."""
        await self.refresh()
        parts = self._parts(names)
        found = await asyncio.gather(*(self._order_part(group, part, order, force, reason) for group, part in parts))
        return {name: outcome for each in found for name, outcome in each.items()}

    def _parts(self, names: Collection[str]) -> list[tuple[PoolGroup | None, list[str]]]:
        parts: dict[PoolGroup | str, tuple[PoolGroup | None, list[str]]] = {}
        for name in names:
            group = self.group_of(name)
            parts.setdefault(group or name, (group, []))[1].append(name)
        return list(parts.values())

    async def _order_part(
        self, group: PoolGroup | None, names: list[str], order: str, force: bool, reason: str
    ) -> dict[str, Outcome]:
        refusal = None if force else self._refusal(group, names, order)
        if refusal is not None:
            return {name: RoleError(f"Nothing is ordered for {name}. {refusal}") for name in names}
        if order == resolve.DISCARD:
            return await self._discard(names, force, reason)
        outcomes = {}
        for name in names:
            async with self._states[name].held():
                outcomes[name] = await _outcome(self._states[name].give_order(order, reason))
        return outcomes

    async def refusals(self, names: Collection[str], order: str, force: bool) -> dict[str, str]:
        """Why the order would not be given now, for those of these resources; nothing is changed."""
        await self.refresh()
        found: dict[str, str] = {}
        for group, part in self._parts(names):
            refusal = None if force else self._refusal(group, part, order)
            if refusal is not None:
                found |= dict.fromkeys(part, f"Nothing would be ordered. {refusal}")
            elif order == resolve.DISCARD:
                refused = {name: text for name in part if (text := self._states[name].why_not_discard(force))}
                blocking = [name for name in refused if not self._states[name].connected]
                free = [name for name in part if name not in refused] if blocking else []
                found |= refused | {name: _held_up(name, blocking) for name in free}
        return found

    def _refusal(self, group: PoolGroup | None, names: list[str], order: str) -> str | None:
        if self._error is not None:
            return f"It is not known what belongs together: {self._error} Mend it, or use --force."
        if group is None:
            return None
        apart = [name for name in group.resources if not self._states[name].connected]
        return why_not_alone(group, names, apart, OPTIONS[order])

    async def _discard(self, names: list[str], force: bool, reason: str) -> dict[str, Outcome]:
        """Order all of them while none can connect, or none."""
        states = {name: self._states[name] for name in sorted(names)}
        async with AsyncExitStack() as stack:
            for state in states.values():
                await stack.enter_async_context(state.held())
            refusals = {name: text for name, state in states.items() if (text := state.why_not_discard(force))}
            outcomes: dict[str, Outcome] = {name: RoleError(text) for name, text in refusals.items()}
            blocking = [name for name in refusals if not states[name].connected]
            free = [name for name in states if name not in refusals]
            if not blocking:
                given = await asyncio.gather(
                    *(_outcome(states[name].give_order(resolve.DISCARD, reason)) for name in free)
                )
                outcomes |= dict(zip(free, given, strict=True))
                blocking = [name for name in free if isinstance(outcomes[name], RoleError)]
            if blocking:
                await self._take_back([name for name in free if _was_given(outcomes.get(name))], reason)
                outcomes |= {name: RoleError(_held_up(name, blocking)) for name in free if name not in blocking}
            return outcomes

    async def _take_back(self, names: list[str], reason: str) -> None:
        await asyncio.gather(*(_outcome(self._states[name].give_order(resolve.ABANDON, reason)) for name in names))

    # --- by policy --------------------------------------------------------------------------------------------------

    async def detected(self, name: str) -> None:
        """A split brain was found. On the secondary: is the whole pool to be resolved now?"""
        await self.refresh()
        group = self.group_of(name)
        if group is None or self._states[name].role is not Role.SECONDARY:
            return
        states = [self._states[each] for each in group.resources]
        decision = decide_together(group, [state.as_member() for state in states])
        for state in states:
            state.split_brain.explain(decision.reason)
        if not decision.discard_local:
            if self._told.get(group) != decision.reason:
                self._told[group] = decision.reason
                log.warning("Split brain: %s.", decision.reason)
            return
        outcomes = await self._discard([state.name for state in states], False, decision.reason)
        for failure in [str(each) for each in outcomes.values() if isinstance(each, RoleError)]:
            log.error("%s", failure)


async def _outcome(doing: Any) -> Outcome:
    try:
        result: dict[str, Any] = await doing
        return result
    except RoleError as error:
        return error


def _held_up(name: str, blocking: Collection[str]) -> str:
    return f"Nothing is ordered for {name}, and all of one pool or none is: see {', '.join(blocking)}."


def _was_given(outcome: Outcome | None) -> bool:
    return isinstance(outcome, dict) and not outcome.get("already")


def _load(path: str) -> FailoverConfiguration:
    from hast.config.failoverconf import load

    return load(path)
