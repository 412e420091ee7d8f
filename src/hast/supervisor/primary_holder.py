"""A primary as the supervisor holds it: the device that users have open, and the worker of the moment under it.

Starts both, replaces the worker under the device, ends both; each step has a deadline and an undo. Roles, hooks and
events are `resource_state.py`'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hast.config.model import Resource
from hast.daemon.logs import context
from hast.device.export_device import ExportDevice
from hast.format.constants import Role
from hast.supervisor.worker_pool import WorkerPool
from hast.supervisor.worker_process import Stuck, WorkerError, WorkerProcess

log = logging.getLogger("hast.supervisor")

READY_DEADLINE_S = 30.0
"""For a worker to be ready, on top of twice `timeout` and `wait-for-peer`, which it may spend on the peer."""
STOP_MARGIN_S = 5.0
FIRST_RESTART_DELAY_S = 0.02
SECOND_RESTART_DELAY_S = 0.5
QUICK_RESTARTS = 5
MAX_RESTART_DELAY_S = 30.0
STABLE_AFTER_S = 60.0
RESTART_EXIT_CODES = (1, 70, 75)
"""Exit codes after which a primary is started again: a crash (1, 70) or its own wish (75). Signals count as crashes."""

OnMessage = Callable[[WorkerProcess, dict[str, Any]], None]


@dataclass(slots=True)
class Backoff:
    """Delay before the next restart: short for the first few within STABLE_AFTER_S, then doubling."""

    times: list[float] = field(default_factory=list)

    def next_delay_s(self, now: float) -> float:
        self.times = [when for when in self.times if now - when < STABLE_AFTER_S]
        self.times.append(now)
        count = len(self.times)
        if count == 1:
            return FIRST_RESTART_DELAY_S
        doublings = min(max(count - QUICK_RESTARTS, 0), 10)
        return float(min(SECOND_RESTART_DELAY_S * 2**doublings, MAX_RESTART_DELAY_S))


def may_restart(dead: WorkerProcess) -> bool:
    """Whether a primary whose worker ended like this keeps its role (section 8.4, crashes included)."""
    code = dead.exit_code
    return dead.refused is None and (code is None or code < 0 or code in RESTART_EXIT_CODES)


class PrimaryHolder:
    """Device and worker of one resource while it is primary."""

    def __init__(self, resource: Resource, pool: WorkerPool, on_message: OnMessage) -> None:
        self.resource = resource
        self._pool = pool
        self.device = ExportDevice(resource)
        self.worker: WorkerProcess | None = None
        self.serving = False
        """The device is there and a worker serves it."""
        self._on_message = on_message

    async def start(self, message: dict[str, Any], force: bool) -> None:
        """Bring up worker and device. Raises WorkerError, ExportError; call `discard` then."""
        await self.device.prepare()
        ready = await self._start_worker(message | {"force": force, "resume": False})
        path = await self.device.attach(int(ready["datasize"]), int(ready.get("sectorsize") or 512))
        self.serving = True
        if path:
            log.info("Device %s is ready.", path, extra=self._extra())

    async def replace_worker(self, message: dict[str, Any]) -> None:
        """Start another worker under the device after the last one died. Raises WorkerError, ExportError."""
        self.serving = False
        if not self.device.survives_worker:
            await self.device.drop_attachment()
            await self.device.prepare()
        ready = await self._start_worker(message | {"force": False, "resume": True})
        await self.device.worker_replaced(int(ready["datasize"]), int(ready.get("sectorsize") or 512))
        self.serving = True

    async def _start_worker(self, message: dict[str, Any]) -> dict[str, Any]:
        worker = WorkerProcess(self.resource.name, self._pool, self._on_message)
        self.worker = worker
        await worker.start(message | self.device.start_fields(), self.device.descriptors())
        return await worker.wait_ready(READY_DEADLINE_S + 2.0 * self.resource.timeout_s + self.resource.wait_for_peer_s)

    def interrupt(self) -> None:
        """Make a `start` under way fail soon: nothing is served yet."""
        if self.worker is not None and not self.serving:
            self.worker.kill()

    async def stop(self) -> None:
        """Write back and detach, drain the worker, close the device. Raises Stuck when the worker outlives SIGKILL."""
        if self.serving and not await self.device.quiesce():
            log.warning("The device was still open; its users get errors from now on.", extra=self._extra())
        self.serving = False
        try:
            if self.worker is not None:
                await self.worker.stop(self.resource.timeout_s + STOP_MARGIN_S)
        finally:
            await self.device.close()

    async def discard(self) -> None:
        """Undo a start that failed, or a role that cannot be held. Raises nothing."""
        self.serving = False
        try:
            await self.end_worker()
        finally:
            await self.device.close()

    async def end_worker(self) -> None:
        """Make sure that the worker is gone, as far as a signal can. Raises nothing."""
        if self.worker is None:
            return
        self.worker.kill()
        try:
            await self.worker.stop(0.0)
        except (Stuck, WorkerError) as error:
            log.error("%s", error, extra=self._extra())

    def _extra(self) -> dict[str, str]:
        return context(self.resource.name, Role.PRIMARY)
