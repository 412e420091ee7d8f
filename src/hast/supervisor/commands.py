"""What the supervisor does for clients of the control socket: JSON commands (docs/control.md). Opens no sockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from hast.config.model import SYNC_AUTO
from hast.daemon.release import RELEASE
from hast.format.constants import HastError, Role
from hast.supervisor import device_users, status, verifying
from hast.supervisor.events import EventBus
from hast.supervisor.foresight import Foresight
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.rendezvous import Rendezvous
from hast.supervisor.renewal import Renewal
from hast.supervisor.report import Reports
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.worker_talk import RoleError
from hast.worker.disk import probe, resolve

ROLE_DEADLINE_S = 120.0
PROBE_LIFE_S = 5.0
MAX_ROLE_DEADLINE_S = 3600.0
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
"""Error numbers of a resource whose role change was refused, or is still going on."""
MAX_RATE_BYTES_S = 1 << 62
BY_OPERATOR = "ordered by the operator"
MAX_REASON_CHARACTERS = 200


class Commands:
    """Runs commands against the states of the resources."""

    def __init__(
        self,
        states: Mapping[str, ResourceState],
        events: EventBus,
        resolver: PoolResolver,
        leaves: PoolLeave,
        config_path: Callable[[], str],
        reload: Callable[[], Awaitable[str | None]],
        replace: Callable[[], int],
        renewal: Renewal,
    ) -> None:
        self._states = states
        self._events = events
        self._resolver = resolver
        self._leaves = leaves
        self._config_path = config_path
        self._reload = reload
        self._replace = replace
        self._renewal = renewal
        self.reports = Reports(states, self._statuses)
        self._foresight = Foresight(states, resolver, leaves, self._names)
        self._changes: set[asyncio.Task[Role]] = set()
        self._probed: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    @property
    def events(self) -> EventBus:
        return self._events

    async def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; the reply always has `error`."""
        match request["command"]:
            case "status":
                return await self._status(request)
            case "role":
                return await self._role(request)
            case "sync-rate":
                return await self._sync_rate(request)
            case "answer":
                fields = {"question": str(request.get("question")), "yes": request.get("yes") is True}
                return await self._tell_each(request, lambda state: state.tell_primary("answer", **fields))
            case "freeze":
                reason = str(request.get("reason") or "by request")
                return await self._tell_each(request, lambda state: state.tell_primary("freeze", reason=reason))
            case "thaw":
                return await self._tell_each(request, lambda state: state.tell_primary("thaw"))
            case "verify":
                repair = request.get("repair") is True
                return await self._tell_each(request, lambda state: verifying.begin(state, repair))
            case "stop-verify":
                return await self._tell_each(request, verifying.stop)
            case "detach" | "attach" as order:
                return await self._tell_each(request, lambda state: state.change_disk(order))
            case "replace":
                path = str(request.get("path") or "")
                if not path.startswith("/"):
                    return {"error": "The path of the disk does not begin with /."}
                return await self._tell_each(request, lambda state: state.change_disk("replace", path))
            case "resolve":
                try:
                    return await self._resolve(request)
                finally:
                    self._probed.clear()
            case "reload":
                return {"error": await self._reload()}
            case "upgrade":
                return {"error": None, "generation": self._replace()}
            case "version":
                return self._version()
            case "plan":
                return await self._foresight.answer(request.get("order"))
            case "report":
                return await self.reports.answer(request)
        return {"error": f"Unknown command {str(request['command'])[:64]!r}."}

    def _version(self) -> dict[str, Any]:
        from hast import __version__

        told = {"version": __version__, "release": RELEASE, "pid": os.getpid(), "config": self._config_path()}
        return {"error": None, "generation": self._renewal.generation, "upgrade": self._renewal.state} | told

    def _names(self, request: dict[str, Any]) -> list[str] | None:
        """Names meant by `resources`; `all` counts only as the first. None when they are missing or malformed."""
        names = request.get("resources")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            return None
        return list(self._states) if names[0] == "all" else list(dict.fromkeys(names))

    # --- status ---------------------------------------------------------------------------------------------------

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        names = self._names(request)
        if names is None:
            return {"error": "The request names no resources."}
        resources = await self._statuses(names, fresh=request.get("fresh") is True)
        stopping = [state for name in names if (state := self._states.get(name)) is not None and state.stopping]
        return {
            "error": None,
            "stopping": bool(stopping),
            "awaited": [text for state in stopping if (text := state.awaited)],
            "resources": resources,
        }

    async def _statuses(self, names: Collection[str], *, fresh: bool = False) -> list[dict[str, Any]]:
        """The status object of each."""
        states = {name: self._states[name] for name in names if name in self._states}
        answers = await asyncio.gather(*(state.worker_status() for state in states.values()))
        workers = dict(zip(states, answers, strict=True))
        alone = {
            name: state.resource.local
            for name, state in states.items()
            if workers[name] is None and state.no_disk is None
        }
        metadata = await self._read_metadata(alone, fresh)
        return [
            self._status_of(states[name], workers[name], metadata.get(name)) if name in states else status.unknown(name)
            for name in names
        ]

    def _status_of(
        self, state: ResourceState, worker: dict[str, Any] | None, metadata: dict[str, Any] | None
    ) -> dict[str, Any]:
        contact, history = self._events.contact(state.name), self._events.history(state.name)
        return status.build(state, worker, metadata, contact, history)

    async def _read_metadata(self, providers: dict[str, str], fresh: bool) -> dict[str, dict[str, Any]]:
        """What probes found; those of the last seconds count for pollers, because each costs a process."""
        now = asyncio.get_running_loop().time()
        self._probed = {key: found for key, found in self._probed.items() if now - found[0] < PROBE_LIFE_S}
        known = {
            name: self._probed[name, path][1]
            for name, path in providers.items()
            if not fresh and (name, path) in self._probed
        }
        read = await probe.read_metadata({name: path for name, path in providers.items() if name not in known})
        self._probed |= {(name, providers[name]): (now, values) for name, values in read.items()}
        return known | read

    # --- role -----------------------------------------------------------------------------------------------------

    async def _role(self, request: dict[str, Any]) -> dict[str, Any]:
        names = self._names(request)
        if names is None:
            return {"error": "The request names no resources."}
        try:
            role = Role(str(request.get("role")))
        except ValueError:
            return {"error": f"Unknown role {str(request.get('role'))[:64]!r}."}
        force = request.get("force") is True
        known = [name for name in names if name in self._states]
        wait = bool(request.get("wait", True))
        held: dict[str, str] = {}
        meet: dict[str, Rendezvous] = {}
        if role is not Role.PRIMARY:
            if not force:
                wait_s = device_users.WAIT_S if wait else 0.0
                held = await device_users.refusals(self._states, self._resolver, known, wait_s)
            known = [name for name in known if name in self._states and name not in held]
            meet = await self._leaves.rendezvous(known)
        tasks = {name: self._start_change(self._states[name], role, force, meet.get(name)) for name in known}
        before = {name: str(self._states[name].role) for name in tasks}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=_seconds(request.get("timeout_s")) if wait else 0.05)
        results: list[dict[str, Any]] = []
        for name in names:
            if name in tasks:
                results.append(self._role_result(name, role, tasks[name], before[name], wait))
            elif name in held:
                results.append({"name": name, "error": held[name], "code": EX_UNAVAILABLE})
            else:
                results.append(status.unknown(name))
        if role is Role.SECONDARY and wait:
            await self._add_warnings(results)
        return {"error": None, "resources": results}

    async def _add_warnings(self, results: list[dict[str, Any]]) -> None:
        """A secondary is one without a worker too; say so when its provider will not do once the primary comes."""
        waiting = [entry for entry in results if entry["error"] is None and entry["name"] in self._states]
        alone = {
            entry["name"]: self._states[entry["name"]].resource.local
            for entry in waiting
            if self._states[entry["name"]].worker is None
        }
        found = await probe.read_metadata(alone)
        for entry in waiting:
            trouble = found.get(entry["name"], {}).get("error")
            if trouble:
                entry["warnings"] = [trouble]

    def _start_change(
        self, state: ResourceState, role: Role, force: bool, meet: Rendezvous | None
    ) -> asyncio.Task[Role]:
        task = asyncio.get_running_loop().create_task(state.set_role(role, force, meet))
        self._changes.add(task)
        task.add_done_callback(self._change_done)
        return task

    def _change_done(self, task: asyncio.Task[Role]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()

    def _role_result(
        self, name: str, role: Role, task: asyncio.Task[Role], before: str, waited: bool
    ) -> dict[str, Any]:
        state = self._states.get(name)
        if not task.done():
            if not waited:
                return {"name": name, "error": None, "previous": before, "pending": True}
            doing = state.transition if state is not None else None
            text = f"Still waiting for role {role} ({doing or 'queued behind another change'}); hastd goes on with it."
            return {"name": name, "error": text, "code": EX_TEMPFAIL}
        try:
            previous = task.result()
        except RoleError as error:
            return {"name": name, "error": str(error), "code": EX_UNAVAILABLE}
        except asyncio.CancelledError:
            return {"name": name, "error": "hastd is stopping.", "code": EX_UNAVAILABLE}
        result: dict[str, Any] = {"name": name, "error": None, "previous": str(previous)}
        if state is not None and role is Role.PRIMARY and state.device is not None:
            result["device"] = state.device.device_path
        return result

    # --- live changes -----------------------------------------------------------------------------------------------

    async def _sync_rate(self, request: dict[str, Any]) -> dict[str, Any]:
        told = request.get("bytes_s")
        rate = SYNC_AUTO
        if told != "auto":
            if not isinstance(told, int) or isinstance(told, bool) or not 0 <= told <= MAX_RATE_BYTES_S:
                return {"error": "bytes_s is not a number of bytes per second, or auto."}
            rate = told
        return await self._tell_each(request, lambda state: state.settings.set_sync_rate(rate))

    async def _resolve(self, request: dict[str, Any]) -> dict[str, Any]:
        names, order = self._names(request), str(request.get("order"))
        if names is None:
            return {"error": "The request names no resources."}
        if order not in (resolve.DISCARD, resolve.ABANDON):
            return {"error": f"Unknown order {order[:64]!r}: use discard or abandon."}
        known = [name for name in names if name in self._states]
        reason = str(request.get("reason") or BY_OPERATOR)[:MAX_REASON_CHARACTERS]
        outcomes = await self._resolver.order(known, order, request.get("force") is True, reason)
        return {"error": None, "resources": [_outcome(name, outcomes.get(name)) for name in names]}

    async def _tell_each(
        self, request: dict[str, Any], tell: Callable[[ResourceState], Awaitable[None]]
    ) -> dict[str, Any]:
        names = self._names(request)
        if names is None:
            return {"error": "The request names no resources."}
        results = []
        for name in names:
            state = self._states.get(name)
            if state is None:
                results.append(status.unknown(name))
                continue
            try:
                await tell(state)
                results.append({"name": name, "error": None})
            except RoleError as error:
                results.append({"name": name, "error": str(error), "code": int(HastError.INVALID)})
        return {"error": None, "resources": results}


def _outcome(name: str, outcome: dict[str, Any] | RoleError | None) -> dict[str, Any]:
    if outcome is None:
        return status.unknown(name)
    if isinstance(outcome, RoleError):
        return {"name": name, "error": str(outcome), "code": EX_UNAVAILABLE}
    return {"name": name} | outcome


def _seconds(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return min(float(value), MAX_ROLE_DEADLINE_S)
    return ROLE_DEADLINE_S
