"""The command `plan` of the control socket: what an order would do, in order, and what would be refused.

The same places decide as when the order is given; nothing is told to anybody, stopped, started or written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hast.format.constants import HastError, Role
from hast.format.geometry import human_size
from hast.supervisor import device_users, status, verifying
from hast.supervisor.decisions.role_change import INCONSISTENT, STALE
from hast.supervisor.disk_orders import ATTACH, DETACH, REPLACE
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.worker_talk import RoleError
from hast.worker.disk import probe, resolve

EX_UNAVAILABLE = 69
FOREIGN = "Only role, resolve, verify, detach, attach and replace have a plan."

Names = Callable[[dict[str, Any]], list[str] | None]


class Foresight:
    """`names`: of the resources a request means, None where it says none."""

    def __init__(
        self, states: Mapping[str, ResourceState], resolver: PoolResolver, leaves: PoolLeave, names: Names
    ) -> None:
        self._states = states
        self._resolver = resolver
        self._leaves = leaves
        self._names = names

    async def answer(self, order: Any) -> dict[str, Any]:
        """The reply to `{"command": "plan", "order": ...}`: per resource `steps`, and `error` where it is refused."""
        if not isinstance(order, dict):
            return {"error": "The request holds no order."}
        names = self._names(order)
        if names is None:
            return {"error": "The request names no resources."}
        known = [name for name in names if name in self._states]
        force = order.get("force") is True
        match order.get("command"):
            case "role":
                try:
                    role = Role(str(order.get("role")))
                except ValueError:
                    return {"error": f"Unknown role {str(order.get('role'))[:64]!r}."}
                found = await self._role(known, role, force)
            case "resolve":
                kind = str(order.get("order"))
                if kind not in (resolve.DISCARD, resolve.ABANDON):
                    return {"error": f"Unknown order {kind[:64]!r}: use discard or abandon."}
                found = await self._resolve(known, kind, force)
            case "verify":
                repair = order.get("repair") is True
                found = {name: await self._verify(self._states[name], repair) for name in known}
            case "detach" | "attach" | "replace" as kind:
                path = str(order.get("path") or "")
                if kind == REPLACE and not path.startswith("/"):
                    return {"error": "The path of the disk does not begin with /."}
                found = {name: await self._disk(self._states[name], kind, path) for name in known}
            case _:
                return {"error": FOREIGN}
        return {"error": None, "resources": [found.get(name) or status.unknown(name) for name in names]}

    # --- roles ------------------------------------------------------------------------------------------------------

    async def _role(self, names: list[str], role: Role, force: bool) -> dict[str, dict[str, Any]]:
        held: dict[str, str] = {}
        together: set[str] = set()
        if role is not Role.PRIMARY:
            if not force:
                held = await device_users.refusals(self._states, self._resolver, names, 0.0)
            free = [name for name in names if name not in held]
            together = {name for members in await self._leaves.members(free) for name in members}
        found = {}
        for name in names:
            if name in held:
                found[name] = _entry(name, [f"wait for its users, at most {device_users.WAIT_S:g} s"], held[name])
            else:
                found[name] = await self._role_of(self._states[name], role, force, name in together)
        return found

    async def _role_of(self, state: ResourceState, role: Role, force: bool, together: bool) -> dict[str, Any]:
        if role is Role.PRIMARY is not state.role and state.worker is None:
            refusal = await _unfit(state, force)
            if refusal:
                return _entry(state.name, [], refusal)
        told = await state.foresee_role(role, force, together)
        steps = list(told.steps)
        if not steps and told.refusal is None:
            steps = [f"nothing: it is {role} already"]
        return _entry(state.name, steps, told.refusal)

    # --- a split brain ----------------------------------------------------------------------------------------------

    async def _resolve(self, names: list[str], kind: str, force: bool) -> dict[str, dict[str, Any]]:
        refusals = await self._resolver.refusals(names, kind, force)
        found = {}
        for name in names:
            state = self._states[name]
            refusal = refusals.get(name)
            found[name] = _entry(name, [] if refusal else _resolve_steps(state, kind), refusal)
        return found

    async def _verify(self, state: ResourceState, repair: bool) -> dict[str, Any]:
        refusal = await verifying.why_not(state)
        if refusal:
            return _entry(state.name, [], refusal, int(HastError.INVALID))
        return _entry(state.name, verifying.steps(repair))

    # --- disks ------------------------------------------------------------------------------------------------------

    async def _disk(self, state: ResourceState, kind: str, path: str) -> dict[str, Any]:
        try:
            await state.may_change_disk(kind, path)
        except RoleError as error:
            return _entry(state.name, [], str(error), int(HastError.INVALID))
        return _entry(state.name, _DISK_STEPS[kind, state.role is Role.PRIMARY](state, path))


def _entry(name: str, steps: list[str], error: str | None = None, code: int = EX_UNAVAILABLE) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "error": error, "steps": steps}
    return entry | {"code": code} if error else entry


async def _unfit(state: ResourceState, force: bool) -> str:
    """What the new worker would say of the disk; empty where it is fit to be served, as far as the disk alone tells."""
    found = (await probe.read_metadata({state.name: state.resource.local})).get(state.name, {})
    if found.get("error"):
        return str(found["error"])
    if force:
        return ""
    return INCONSISTENT if found.get("inconsistent") else STALE if found.get("stale") else ""


def _resolve_steps(state: ResourceState, kind: str) -> list[str]:
    local = state.resource.local
    if kind == resolve.ABANDON:
        return [f"take the order to discard off the metadata of {local}"]
    changes = (state.split_brain.report or {}).get("local")
    what = f" ({human_size(changes['bytes'])})" if isinstance(changes, dict) else ""
    return [
        "end what tries to connect",
        f"save the map of what this node changed{what}",
        f"note in the metadata of {local} that these changes are given up",
        "at the next connection: receive what differs from the other node, whose data are kept",
    ]


def _detach_primary(state: ResourceState, _path: str) -> list[str]:
    return [
        "make the other node's copy the one to trust, durably on both nodes",
        f"flush {state.resource.local} and close it",
        "serve from the other node's copy, the device open all the time; without the other node clients get errors",
    ]


def _detach_secondary(state: ResourceState, _path: str) -> list[str]:
    return ["end the connection: the primary goes on alone", f"close {state.resource.local} and use it no more"]


def _attach_primary(state: ResourceState, _path: str) -> list[str]:
    return [f"open {state.resource.local}", "copy what it lacks from the other node"]


def _attach_secondary(state: ResourceState, _path: str) -> list[str]:
    return [f"use {state.resource.local} at the primary's next connection, and receive what it lacks"]


def _replace_primary(state: ResourceState, path: str) -> list[str]:
    before = [*_detach_primary(state, path)] if not state.no_disk else []
    return [*before, f"overwrite the metadata of {path}", f"copy everything from the other node to {path}"]


def _replace_secondary(_state: ResourceState, path: str) -> list[str]:
    return [
        "end the connection: the primary goes on alone",
        f"overwrite the metadata of {path}",
        "at the primary's next connection: receive everything",
    ]


_DISK_STEPS: dict[tuple[str, bool], Callable[[ResourceState, str], list[str]]] = {
    (DETACH, True): _detach_primary,
    (DETACH, False): _detach_secondary,
    (ATTACH, True): _attach_primary,
    (ATTACH, False): _attach_secondary,
    (REPLACE, True): _replace_primary,
    (REPLACE, False): _replace_secondary,
}
"""By order and whether the resource is primary."""
