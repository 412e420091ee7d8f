"""The settings of a resource while hastd runs: what is configured, what is in effect, and changes without a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from hast.config.model import Resource
from hast.supervisor.worker_process import WorkerProcess
from hast.supervisor.worker_talk import RoleError, order
from hast.worker import messages

log = logging.getLogger("hast.supervisor")


class LiveSettings:
    """`resource` is in effect; it lags behind the configuration only in what a primary takes at its next promotion."""

    def __init__(
        self, resource: Resource, worker: Callable[[], WorkerProcess | None], prefix: Callable[[], dict[str, str]]
    ) -> None:
        self.resource = resource
        self._configured = resource
        self._worker = worker
        self._prefix = prefix
        self._sync_rate_bytes_s: int | None = None

    def take_configured(self) -> None:
        """A promotion begins: everything configured counts."""
        self.resource = self._configured

    def use_disk(self, path: str) -> None:
        """The disk was replaced while in use."""
        self.resource = replace(self.resource, local=path)
        self._configured = replace(self._configured, local=path)

    @property
    def sync_rate_bytes_s(self) -> int:
        """The limit in effect; 0 is none."""
        return self.resource.sync_rate_bytes_s if self._sync_rate_bytes_s is None else self._sync_rate_bytes_s

    async def set_sync_rate(self, bytes_s: int) -> None:
        """Limit synchronisation from now on, over worker restarts too. Raises RoleError."""
        self._sync_rate_bytes_s = bytes_s
        await order(self._worker(), "sync-rate", bytes_s=bytes_s)

    def limited(self, bytes_s: int) -> None:
        """The worker was told of this limit at run time by an earlier hastd."""
        self._sync_rate_bytes_s = bytes_s

    async def apply_sync_rate(self) -> None:
        """Tell a new worker of a limit that was set at run time. Raises nothing."""
        if self._sync_rate_bytes_s is None:
            return
        try:
            await self.set_sync_rate(self._sync_rate_bytes_s)
        except RoleError as error:
            log.warning("Sync rate not applied: %s", error, extra=self._prefix())

    async def change(self, new: Resource, keep_arbiter: bool) -> None:
        """Apply a changed configuration (section 8.6). `keep_arbiter`: a promotion with the present one stands."""
        present = self.resource
        if new.sync_rate_bytes_s != present.sync_rate_bytes_s:
            self._sync_rate_bytes_s = None
        self._configured = new
        if keep_arbiter and (new.arbiter, new.fence_path) != (present.arbiter, present.fence_path):
            log.warning("The changed arbiter counts from the next promotion on.", extra=self._prefix())
            new = replace(new, arbiter=present.arbiter, fence_path=present.fence_path)
        self.resource = new
        try:
            await order(self._worker(), "reload", resource=messages.resource_to_json(new))
        except RoleError as error:
            log.error("Change of the configuration not applied: %s", error, extra=self._prefix())
