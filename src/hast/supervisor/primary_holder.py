"""A primary as the supervisor holds it: the device that users have open, and the worker of the moment under it.

Each method is one step of a plan (`decisions/steps.py`); in which order, and what to undo, is decided there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hast.config.model import Resource
from hast.daemon.in_thread import in_thread
from hast.daemon.logs import context
from hast.device.export_device import ExportDevice
from hast.format.constants import Role
from hast.supervisor.adoption import Offer
from hast.supervisor.worker_pool import WorkerPool
from hast.supervisor.worker_process import WorkerError, WorkerProcess
from hast.worker.disk.flush_witness import Locker

log = logging.getLogger("hast.supervisor")

ANSWER_MARGIN_S = 1.0
USERS_LIMIT_S = 1.0
OnMessage = Callable[[WorkerProcess, dict[str, Any]], None]


class PrimaryHolder:
    """Device and worker of one resource while it is primary."""

    def __init__(self, resource: Resource, pool: WorkerPool, on_message: OnMessage) -> None:
        self.resource = resource
        self.device = ExportDevice(resource)
        self.worker: WorkerProcess | None = None
        self.serving = False
        """The device is there and a worker serves it; a death of the worker is nobody's intention."""
        self._in_use = False
        """Somebody has the device open, though it was taken away."""
        self._locker: Locker | None = None
        self._pool = pool
        self._on_message = on_message

    async def prepare(self) -> None:
        """Make what the worker inherits. Raises ExportError."""
        await self.device.prepare()

    async def start_worker(self, message: dict[str, Any]) -> None:
        """Start a worker. Raises ExportError, WorkerError."""
        self.serving = False
        await self.device.expect_worker()
        self._locker = self._kept_locker() or Locker.make()
        self.worker = WorkerProcess(self.resource.name, self._pool, self._on_message)
        told = message | self.device.start_fields() | {"locker": True}
        await self.worker.start(told, [*self.device.descriptors(), *self._locker.ends])

    def _kept_locker(self) -> Locker | None:
        """The one for all workers of this device: ours, or what a worker that was taken over brought along."""
        return self._locker or (self.worker.locker if self.worker is not None else None)

    async def adopt(self, offer: Offer) -> None:
        """Take over what an earlier hastd left. Raises ExportError, WorkerError."""
        self.device.adopt(offer.take_descriptors(), offer.fuse)
        self.worker = WorkerProcess(self.resource.name, self._pool, self._on_message)
        await self.worker.adopt(offer.spawned, offer.ready)
        self.serving = True

    async def await_ready(self, limit_s: float) -> None:
        """Wait until the worker serves. Raises WorkerError, also when it refuses the role."""
        assert self.worker is not None
        await self.worker.wait_ready(limit_s)

    async def attach(self) -> None:
        """Make the device. Raises ExportError."""
        path = await self.device.attach(*self._sizes())
        self.serving = True
        if path:
            log.info("Device %s is ready.", path, extra=self._extra())

    async def hand_over(self) -> None:
        """Give the device to a worker that replaced a dead one. Raises ExportError, WorkerError."""
        await self.device.worker_replaced(*self._sizes())
        if self.worker is None or self.worker.ended.is_set():
            raise WorkerError("The new worker process ended as soon as it was ready; see the log.")
        self.serving = True

    async def say_leaving(self, limit_s: float, within_s: float) -> None:
        """Have the peer told that this node lets go within `within_s`. Raises WorkerError."""
        if self.worker is not None:
            await self.worker.ask("leave", limit_s, within_s=within_s)

    async def withhold(self, limit_s: float) -> None:
        """Have nothing answered any more, and wait until all is on both copies. Raises WorkerError."""
        if self.worker is None or not self.worker.alive:
            return
        answer = await self.worker.ask("withhold", limit_s + ANSWER_MARGIN_S, limit_s=limit_s, in_use=self._in_use)
        if not answer.get("quiet"):
            log.warning("Users of the device still write; what they write now may be cut off.", extra=self._extra())

    async def quiesce(self) -> None:
        """Write back and take the device away while the worker serves. Raises nothing."""
        self.serving = False
        self._in_use = not await self.device.quiesce()
        if self._in_use:
            await self._name_users()

    async def _name_users(self) -> None:
        try:
            users = await in_thread(self.device.users, USERS_LIMIT_S)
        except (OSError, TimeoutError):
            users = ""
        by = f" by {users}" if users else ""
        log.warning("The device is still open%s; its users get errors at the end.", by, extra=self._extra())

    async def stop_worker(self, limit_s: float) -> None:
        """Drain the worker and end it. Raises Stuck when it outlives SIGKILL."""
        self.serving = False
        if self.worker is not None:
            await self.worker.stop(limit_s)

    async def kill_worker(self) -> None:
        """End the worker at once. Raises Stuck when it outlives SIGKILL."""
        self.serving = False
        if self.worker is not None:
            self.worker.kill()
            await self.worker.stop(0.0)

    async def close(self) -> None:
        """Give up the device and all that is kept. Raises nothing."""
        await self.device.close()
        if locker := self._kept_locker():
            locker.close()
        self._locker = None

    def interrupt(self) -> None:
        """Make a start under way fail soon: nothing is served yet."""
        if self.worker is not None and not self.serving:
            self.worker.kill()

    def _sizes(self) -> tuple[int, int, int]:
        """Of the device and its sectors, in bytes; and who serves it, by process id."""
        ready = self.worker.ready if self.worker is not None else None
        if ready is None:
            raise WorkerError("The worker process is not ready.")
        assert self.worker is not None
        return int(ready["datasize"]), int(ready.get("sectorsize") or 512), self.worker.pid

    def _extra(self) -> dict[str, str]:
        return context(self.resource.name, Role.PRIMARY)
