"""Runs the `exec` program of a resource for its events (specification section 8.7).

Hooks of one resource run one after the other, in the order of the events; a hook that overruns its deadline is killed
with its whole process group and logged. Nothing waits for a hook but the next hook of the same resource.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Sequence

from hast.daemon import launch
from hast.daemon.logs import context

log = logging.getLogger("hast.hooks")

HOOK_DEADLINE_S = 60.0
MAX_QUEUED = 64


class HookRunner:
    """One queue and at most one running hook per resource."""

    def __init__(self, foreground: bool, deadline_s: float = HOOK_DEADLINE_S) -> None:
        self._foreground = foreground
        self._deadline_s = deadline_s
        self._queues: dict[str, deque[list[str]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def fire(self, exec_path: str | None, event: str, resource: str, arguments: Sequence[str] = ()) -> None:
        """Queue `exec_path event resource arguments…`; nothing when no program is configured."""
        if not exec_path:
            return
        waiting = self._queues.setdefault(resource, deque())
        if len(waiting) >= MAX_QUEUED:
            log.error("Hook %s %s left out: %d are waiting already.", exec_path, event, len(waiting))
            return
        waiting.append([exec_path, event, resource, *arguments])
        if resource not in self._tasks:
            self._tasks[resource] = asyncio.create_task(self._run_queue(resource))

    async def finish(self, deadline_s: float) -> None:
        """Wait for what is queued; kill what still runs after `deadline_s`."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _done, pending = await asyncio.wait(tasks, timeout=deadline_s)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=2.0)

    async def _run_queue(self, resource: str) -> None:
        waiting = self._queues[resource]
        try:
            while waiting:
                await self._run(resource, waiting.popleft())
        finally:
            self._tasks.pop(resource, None)
            if not waiting:
                self._queues.pop(resource, None)

    async def _run(self, resource: str, argv: list[str]) -> None:
        line = " ".join(argv)
        output = None if self._foreground else asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.by_shell(argv),
                stdin=None if self._foreground else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            log.error("Unable to run hook %s: %s.", line, error.strerror, extra=context(resource))
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                code = await process.wait()
        except TimeoutError:
            text = "Hook %s (pid %d) ran longer than %g s and was killed."
            log.error(text, line, process.pid, self._deadline_s, extra=context(resource))
            await self._kill(process)
            return
        except asyncio.CancelledError:
            await self._kill(process)
            raise
        if launch.why_not_run(code) is not None:
            log.error("Unable to run hook %s: %s.", line, launch.why_not_run(code), extra=context(resource))
        elif code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            log.error("Hook %s (pid %d) failed: %s.", line, process.pid, how, extra=context(resource))

    @staticmethod
    async def _kill(process: asyncio.subprocess.Process) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        try:
            async with asyncio.timeout(2.0):
                await process.wait()
        except TimeoutError:
            pass
