"""`hastctl verify` for one resource: the worker of a primary decides and compares. Reads no disk."""

from __future__ import annotations

from hast.format.constants import Role
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.worker_talk import RoleError, ask_status

NO_WORKER = "The worker process is not running; it is being restarted."


async def begin(state: ResourceState, repair: bool) -> None:
    """Raises RoleError."""
    _check(state)
    await state.tell_primary("verify", repair=repair)


async def stop(state: ResourceState) -> None:
    """Nothing where none is under way. Raises RoleError."""
    _check(state)
    await state.tell_primary("stop-verify")


async def why_not(state: ResourceState) -> str:
    """Why `begin` would be refused now, as far as the worker's status tells; empty when it would not."""
    try:
        _check(state)
    except RoleError as error:
        return str(error)
    known = await ask_status(state.worker) or {}
    under_way = known.get("verify")
    if under_way and under_way.get("outcome") is None:
        return "Not done: a verification is under way."
    if known.get("status") != "complete":
        return "Not done: the other node is not connected."
    return "" if known.get("in_step") else "Not done: the copies are not equal yet."


def steps(repair: bool) -> list[str]:
    """For `--plan`."""
    wanted = [
        "read every block of both copies and compare, clients going on, no faster than sync-rate allows",
        "name what differs or cannot be read; keep that for status and metrics",
    ]
    if repair:
        wanted.insert(1, "write what differs to the other node as it is on this one, where its own is lost")
    return wanted


def _check(state: ResourceState) -> None:
    if state.role is not Role.PRIMARY:
        raise RoleError(f"Resource {state.name} is not primary here: verify where it is.")
    if state.worker is None or not state.worker.alive:
        raise RoleError(NO_WORKER)
