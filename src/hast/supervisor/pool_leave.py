"""Resources of one pool let go together: at the end of hastd, by an order for several of them, when one steps down.

Which resources make a pool is pool_resolver.py's; in which steps they wait for each other is decided in
`decisions/role_change.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from hast.format.constants import Role
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.rendezvous import Rendezvous
from hast.supervisor.worker_talk import RoleError

if TYPE_CHECKING:
    from hast.supervisor.resource_state import ResourceState

log = logging.getLogger("hast.supervisor")


class PoolLeave:
    """`states`: all resources of this hastd, as they come and go."""

    def __init__(self, states: Mapping[str, ResourceState], resolver: PoolResolver) -> None:
        self._states = states
        self._resolver = resolver
        self._active: dict[str, Rendezvous] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def rendezvous(self, names: Collection[str]) -> dict[str, Rendezvous]:
        """For those of these resources that are primary and let go with others of their pool."""
        found: dict[str, Rendezvous] = {}
        for members in await self.members(names):
            found |= dict.fromkeys(members, Rendezvous(members))
        self._active |= found
        return found

    async def members(self, names: Collection[str]) -> list[list[str]]:
        """Of each pool those of these resources that are primary and would let go together, two or more."""
        await self._resolver.refresh()
        groups = dict.fromkeys(group for name in names if (group := self._resolver.group_of(name)) is not None)
        found = [[each for each in group.resources if each in names and self._may_join(each)] for group in groups]
        return [members for members in found if len(members) > 1]

    def step_down(self, name: str) -> None:
        """This primary has to give way; the others of its pool are worth nothing without it and go with it."""
        task = asyncio.get_running_loop().create_task(self._step_down(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _step_down(self, name: str) -> None:
        await self._resolver.refresh()
        group = self._resolver.group_of(name)
        names = [each for each in (group.resources if group is not None else (name,)) if self._is_primary(each)]
        meet = await self.rendezvous(names)
        await asyncio.gather(*(self._give_way(self._states[each], meet.get(each)) for each in names))

    @staticmethod
    async def _give_way(state: ResourceState, meet: Rendezvous | None) -> None:
        try:
            await state.set_role(Role.SECONDARY, rendezvous=meet)
        except RoleError as error:
            log.error("%s", error, extra=state.log_prefix())

    def _is_primary(self, name: str) -> bool:
        return name in self._states and self._states[name].role is Role.PRIMARY

    def _may_join(self, name: str) -> bool:
        """One that is on its way already is not waited for twice."""
        return self._is_primary(name) and not (name in self._active and self._active[name].includes(name))
