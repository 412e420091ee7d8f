"""Who holds the devices that an order would take away. Asked before anything is told or changed.

Whoever orders may take a device from its users only by saying so; what steps down by itself (a lease, a reload, the end
of hastd) cannot ask. Resources of one pool are refused together: half a pool is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from hast.daemon.in_thread import in_thread
from hast.format.constants import Role
from hast.supervisor.pool_resolver import PoolResolver

if TYPE_CHECKING:
    from hast.supervisor.resource_state import ResourceState

WAIT_S = 5.0
"""For users to let go: what unmounts or exports is often not quite done."""
LOOK_S = 0.25
LOOK_LIMIT_S = 3.0


async def refusals(
    states: Mapping[str, ResourceState], resolver: PoolResolver, names: Collection[str], wait_s: float
) -> dict[str, str]:
    """Of the primaries among `names` those that may not let go now, with the reason; waits `wait_s` for their users."""
    primaries = [name for name in names if states[name].role is Role.PRIMARY]
    held = await _held(states, primaries)
    until_s = asyncio.get_running_loop().time() + wait_s
    while held and asyncio.get_running_loop().time() < until_s:
        await asyncio.sleep(LOOK_S)
        held = await _held(states, held)
    if not held:
        return {}
    await resolver.refresh()
    found: dict[str, str] = {}
    for name in primaries:
        group = resolver.group_of(name)
        together = (name, *(group.resources if group is not None else ()))
        users = next((f"{each} is open by {held[each]}" for each in together if each in held), None)
        if users is not None:
            found[name] = f"The device of {users}. Stop that first, or use --force: its users then get errors."
    return found


async def _held(states: Mapping[str, ResourceState], names: Collection[str]) -> dict[str, str]:
    there = [name for name in names if name in states]
    users = await asyncio.gather(*(_users(states[name]) for name in there))
    return {name: text for name, text in zip(there, users, strict=True) if text}


async def _users(state: ResourceState) -> str:
    device = state.device
    if device is None:
        return ""
    try:
        return await in_thread(device.users, LOOK_LIMIT_S)
    except (OSError, TimeoutError):
        return ""
