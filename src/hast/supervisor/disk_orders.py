"""`hastctl detach`, `attach` and `replace` for one resource: the worker of a primary does it while it serves, a
secondary does without its worker meanwhile. Never touches the disk: a worker or a short-lived process does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from hast.config.model import Resource
from hast.format.constants import Role
from hast.supervisor.live_settings import LiveSettings
from hast.supervisor.role_runner import RoleRunner
from hast.supervisor.worker_process import WorkerError
from hast.supervisor.worker_talk import RoleError, ask_status
from hast.worker.disk import fresh_disk

DETACH, ATTACH, REPLACE = "detach", "attach", "replace"
LIMIT_S = 90.0


class DiskOrders:
    """For one resource; the caller holds its lock."""

    def __init__(
        self, runner: RoleRunner, settings: LiveSettings, stop_secondary: Callable[[], Awaitable[None]]
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._stop_secondary = stop_secondary

    async def run(self, order: str, role: Role, path: str) -> None:
        """Raises RoleError, Stuck."""
        self._check(order, role, path)
        if role is Role.PRIMARY:
            await self._by_worker(order, path)
        else:
            await self._as_secondary(order, path)
        self._runner.detached = order == DETACH
        if order == REPLACE:
            self._settings.use_disk(path)
            if self._runner.primary is not None:
                self._runner.primary.resource = self._settings.resource

    async def may(self, order: str, role: Role, path: str) -> None:
        """Raises RoleError with the reason why `run` would be refused now; nothing is changed."""
        self._check(order, role, path)
        if role is Role.PRIMARY:
            await self._by_worker(order, path, only_look=True)
            return
        known = await self._whole_peer(order)
        if order == REPLACE:
            await self._fresh_disk(path, known, only_look=True)

    def _check(self, order: str, role: Role, path: str) -> None:
        """Raises RoleError."""
        if role is Role.INIT:
            raise RoleError(f"Resource {self._resource.name} has role init: its disk is not in use.")
        if order == REPLACE and path == self._resource.local and not self._runner.no_disk:
            raise RoleError(f"{path} is the disk in use; take it out of service first (hastctl detach).")

    @property
    def _resource(self) -> Resource:
        return self._settings.resource

    async def _by_worker(self, order: str, path: str, only_look: bool = False) -> None:
        worker = self._runner.worker
        if worker is None or not worker.alive:
            if order == ATTACH and self._runner.detached:
                return
            raise RoleError("The worker process is not running.")
        try:
            if only_look:
                answer = await worker.ask("may-change-disk", LIMIT_S, order=order, path=path)
            else:
                answer = await worker.ask(f"{order}-disk", LIMIT_S, path=path)
        except WorkerError as error:
            raise RoleError(str(error)) from None
        if answer.get("error"):
            raise RoleError(str(answer["error"]))

    async def _as_secondary(self, order: str, path: str) -> None:
        if order == ATTACH:
            return
        known = await self._whole_peer(order)
        await self._stop_secondary()
        if order == REPLACE:
            await self._fresh_disk(path, known)

    async def _whole_peer(self, order: str) -> dict[str, Any]:
        """What the worker of a secondary knows. Raises RoleError where its disk has what the primary's lacks."""
        known = await ask_status(self._runner.worker) or {}
        if order != ATTACH and known.get("needed"):
            raise RoleError(f"Not done: {known['needed']}.")
        return known

    async def _fresh_disk(self, path: str, known: dict[str, Any], only_look: bool = False) -> None:
        sizes = [int(known.get(key) or 0) for key in ("datasize", "extentsize", "keepdirty")]
        result = await fresh_disk.run(replace(self._resource, local=path), *sizes, only_look=only_look)
        if result["error"]:
            raise RoleError(str(result["error"]))
