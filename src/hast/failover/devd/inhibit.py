"""Holds up a shutdown of the machine while this host serves (election/leaving.py, `hold`), by systemd-logind.

The inhibitor is a `systemd-inhibit` that lives as long as a pipe of ours is open, so that it ends with us however we
end; that a shutdown begins is read from `busctl monitor`. Without logind there is a line in the log, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from hast.election.leaving import Hold, Resource, hold
from hast.failover.hastd import Hastd, HastdError
from hast.failover.jobs import RUNNING
from hast.failover.successor import lacking

LOOK_S = 10.0
"""How often hastd is asked without an event of its."""
ASK_S = 5.0
AGAIN_S = 60.0
"""After a failure of logind it is left alone for so long."""
END_S = 2.0
REFUSED_S = 0.5
"""An inhibitor that logind refuses has ended by then."""
SESSIONS = Path("/run/systemd/sessions")
INHIBIT = "systemd-inhibit"
MONITOR = "busctl"
MATCH = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'"
WHY = {
    Hold.DELAY: "the service of this host is handed over",
    Hold.BLOCK: "this host has the only good copy of its data: without it there is no service, or one with old data",
}
_log = logging.getLogger("hast.devd")


class Inhibitor:
    """`leave` moves the service away; it is called when a shutdown begins, and the shutdown waits for it."""

    def __init__(self, hastd: str, leave: Callable[[], Awaitable[object]]) -> None:
        self._hastd = Hastd(hastd)
        self._leave = leave
        self._wake = asyncio.Event()
        self._changing = asyncio.Lock()
        self._held = Hold.NONE
        self._holder: asyncio.subprocess.Process | None = None

    def wake(self) -> None:
        """Look again soon: something changed at hastd."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        if not RUNNING.is_dir() or shutil.which(INHIBIT) is None or shutil.which(MONITOR) is None:
            _log.debug("no systemd-logind here: a shutdown is not held up")
            await asyncio.Event().wait()
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                self._wake.clear()
                async with self._changing:
                    good = await self._look()
                if not good:
                    await asyncio.sleep(AGAIN_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_S)
        finally:
            watching.cancel()
            await asyncio.gather(watching, self._release(), return_exceptions=True)

    async def _look(self) -> bool:
        wanted = hold(await asyncio.to_thread(self._resources), somebody_there())
        if wanted is self._held and (self._holder is None or self._holder.returncode is None):
            return True
        before = self._holder
        self._holder = await self._hold(wanted) if wanted is not Hold.NONE else None
        await _end(before)
        self._held = wanted
        return wanted is Hold.NONE or self._holder is not None

    def _resources(self) -> Sequence[Resource]:
        try:
            entries = self._hastd.roles(ASK_S)
        except HastdError:
            return ()
        return [Resource(name, each.get("role") == "primary", lacking(each)) for name, each in entries.items()]

    async def _hold(self, mode: Hold) -> asyncio.subprocess.Process | None:
        command = [INHIBIT, "--what=shutdown", "--who=HAST", f"--why={WHY[mode]}", f"--mode={mode}"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                "cat",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            _log.debug("%s: %s", INHIBIT, error.strerror)
            return None
        try:
            await asyncio.wait_for(process.wait(), REFUSED_S)
        except TimeoutError:
            _log.info("a shutdown of this host is held up (%s): %s", mode, WHY[mode])
            return process
        except asyncio.CancelledError:
            await _end(process)
            raise
        assert process.stderr is not None
        _log.debug("%s: %s", INHIBIT, (await process.stderr.read()).decode(errors="replace").strip())
        return None

    async def _release(self) -> None:
        holder, self._holder, self._held = self._holder, None, Hold.NONE
        await _end(holder)

    async def _watch(self) -> None:
        """Follow logind's word that a shutdown begins; a monitor that ends is started again."""
        while True:
            monitor = None
            try:
                monitor = await asyncio.create_subprocess_exec(
                    *(MONITOR, "--system", "monitor", "--json=short", f"--match={MATCH}"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
                assert monitor.stdout is not None
                async for line in monitor.stdout:
                    if b'"PrepareForShutdown"' in line and b"[true]" in line:
                        await self._prepare()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(monitor.wait(), END_S)
            except (OSError, ValueError) as error:
                _log.debug("%s: %s", MONITOR, error)
            finally:
                if monitor is not None and monitor.returncode is None:
                    monitor.kill()
                    await monitor.wait()
            await asyncio.sleep(AGAIN_S)

    async def _prepare(self) -> None:
        async with self._changing:
            if self._held is not Hold.NONE:
                _log.info("this host is about to stop: its service is handed over first")
                await self._leave()
                await self._release()


def somebody_there() -> bool:
    """Whether a person is logged in, as logind's files of sessions say."""
    try:
        sessions = [path.read_text() for path in SESSIONS.iterdir() if path.suffix != ".ref"]
    except OSError:
        return False
    return any("\nCLASS=user\n" in f"\n{session}\n" for session in sessions)


async def _end(process: asyncio.subprocess.Process | None) -> None:
    """Close the pipe; what does not end by that is killed."""
    if process is None or process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        process.kill()
        await process.wait()
