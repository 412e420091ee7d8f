"""Keeps a primary served after its worker died: runs what `decisions/restart.py` says, or has the role given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hast.config.model import CrashLoop
from hast.daemon.logs import context
from hast.format.constants import Role
from hast.supervisor.announcer import Announcer
from hast.supervisor.decisions import restart
from hast.supervisor.decisions.role_change import ready_limit_s
from hast.supervisor.decisions.steps import Ending, Refusal
from hast.supervisor.live_settings import LiveSettings
from hast.supervisor.role_runner import RoleRunner
from hast.supervisor.worker_process import WorkerProcess

NO_DISK_POLL_S = 0.2
log = logging.getLogger("hast.supervisor")


class Revival:
    """For one resource. `lock` serialises it with role changes, which come first: it ends when the role has changed."""

    def __init__(
        self,
        runner: RoleRunner,
        settings: LiveSettings,
        announce: Announcer,
        lock: asyncio.Lock,
        *,
        tried: Callable[[Refusal | None], None],
        given_up: Callable[[Ending], None],
    ) -> None:
        self.held = False
        """No worker is started any more until the role is ordered again."""
        self.restarts = 0
        """Workers replaced since hastd started."""
        self._runner = runner
        self._settings = settings
        self._announce = announce
        self._lock = lock
        self._tried = tried
        self._given_up = given_up
        self._backoff = restart.Backoff()

    async def run(self, dead: WorkerProcess) -> None:
        """Replace this worker, and those that die in its place, until one serves or the role is given up."""
        while restart.may_restart(restart.Death(dead.exit_code, dead.refused)):
            await self._await_end(dead)
            delay_s = self._backoff.next_delay_s(asyncio.get_running_loop().time(), dead.served_s)
            if delay_s is None:
                await self._end_crash_loop(dead)
                return
            log.warning("Restarting the worker in %g s.", delay_s, extra=self._extra())
            await asyncio.sleep(delay_s)
            async with self._lock:
                if not self._is_concerned(dead) or await self._replace():
                    return
                assert self._runner.worker is not None
                dead = self._runner.worker
        async with self._lock:
            if self._is_concerned(dead):
                await self._give_up(dead.refused or f"The worker process ended ({dead.how_it_ended()}); see the log.")

    async def _await_end(self, dead: WorkerProcess) -> None:
        """Of all that it began, and until there is a disk: no worker can do without it; that is no crash loop."""
        while self._is_concerned(dead):
            if self._runner.no_disk is None and restart.leaves_nothing(dead.ended.is_set(), dead.lingers is not None):
                return
            await asyncio.sleep(NO_DISK_POLL_S)

    async def retry(self) -> bool:
        """Ordered by hand after a crash loop: begin anew. False when no worker serves. The caller holds the lock."""
        self.held = False
        self._backoff = restart.Backoff()
        return await self._replace()

    async def _end_crash_loop(self, dead: WorkerProcess) -> None:
        async with self._lock:
            if not self._is_concerned(dead):
                return
            if self._settings.resource.crash_loop is CrashLoop.FAIL:
                await self._give_up(restart.FAILED)
                return
            self.held = True
            refusal = Refusal(restart.HELD, restart.HELD, publish=True)
            self._tried(refusal)
            self._announce.refused(Role.PRIMARY, refusal)

    def _is_concerned(self, dead: WorkerProcess) -> bool:
        return self._runner.primary is not None and self._runner.primary.worker is dead

    async def _replace(self) -> bool:
        device, resource = self._runner.device, self._settings.resource
        limit_s = ready_limit_s(resource.timeout_s, resource.wait_for_peer_s)
        plan = restart.replace_worker(limit_s, device is None or device.survives_worker)
        ending = await self._runner.run(plan, may_give_up=True)
        self.restarts += ending.refusal is None
        self._tried(ending.refusal)
        if ending.refusal is not None:
            log.error("Restart failed: %s", ending.refusal.reason, extra=self._extra())
            return False
        if self._runner.arbiter is not None:
            self._runner.arbiter.worker_replaced()
        self._announce.restarted(Role.PRIMARY)
        self._runner.prepare_standbys()
        await self._settings.apply_sync_rate()
        return True

    async def _give_up(self, reason: str) -> None:
        ending = await self._runner.run(restart.give_up(reason, self._runner.arbiter is not None))
        log.error("%s", reason, extra=self._extra())
        self._given_up(ending)

    def _extra(self) -> dict[str, str]:
        return context(self._settings.resource.name, Role.PRIMARY)
