"""Starts worker processes, and keeps a few ready so that a role change does not wait for an interpreter.

Every process is started with one end of a SOCK_SEQPACKET pair, and knows nothing until its start message comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hast.daemon.privileges import Identity
from hast.worker import messages

log = logging.getLogger("hast.supervisor")

REFILL_DELAY_S = 1.0
"""New standbys are started this long after one was taken, and not while roles change: they would compete with what the
change needs, on a busy host for longer than its helper processes have to start …"""
REFILL_LATEST_S = 20.0
"""… but at the latest after so long: another worker may die while a role change waits for the peer."""


class Process(Protocol):
    """What is asked of a worker's process. `returncode` is None while it runs, or where it is not known."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> object: ...


class Foundling:
    """A process that an earlier hastd started: its end is seen by `pidfd`, its exit code mostly is not."""

    returncode: int | None = None

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    async def wait(self) -> None:
        """Until it has ended; its descriptors are closed by then."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        self._reap()

    def _reap(self) -> None:
        """A hastd that replaced itself is still the parent, and then the exit code is known after all."""
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)


@dataclass(slots=True)
class Spawned:
    """A started process and our end of its socket.

    Signals go through a pidfd: Popen.kill may reap the process itself, and then its exit code is lost to asyncio.
    """

    process: Process
    sock: socket.socket
    pidfd: int

    @property
    def usable(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        """SIGKILL; nothing when it has ended or `close` was called."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Give up the socket and the pidfd."""
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class WorkerPool:
    """At most `size` waiting processes; 0 starts each process when it is asked for."""

    def __init__(self, size: int, user: Identity | None = None) -> None:
        self.size = size
        self.user = user
        """Whom the processes are to become; None: they stay what hastd is."""
        self._waiting: list[Spawned] = []
        self._refill: asyncio.TimerHandle | None = None
        self._refill_latest_s = 0.0
        self._changes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def fill_later(self, delay_s: float = REFILL_DELAY_S) -> None:
        """Start what is missing after a while."""
        if self._refill is None and self.size > 0:
            loop = asyncio.get_running_loop()
            self._refill_latest_s = loop.time() + REFILL_LATEST_S
            self._refill = loop.call_later(delay_s, self._start_fill)

    def fill_soon(self) -> None:
        """Start what is missing now: a worker was replaced, and its users wait for nothing any more. The next that dies
        should find a standby: without, its users wait for a process to start."""
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        self.fill_later(0.0)

    @contextlib.contextmanager
    def no_refill(self) -> Iterator[None]:
        """While a role changes or a worker is replaced."""
        self._changes += 1
        try:
            yield
        finally:
            self._changes -= 1

    def _start_fill(self) -> None:
        loop = asyncio.get_running_loop()
        if self._changes and loop.time() < self._refill_latest_s:
            self._refill = loop.call_later(REFILL_DELAY_S, self._start_fill)
            return
        self._refill = None
        task = loop.create_task(self._fill())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self) -> None:
        self._waiting = [each for each in self._waiting if self._keep(each)]
        while len(self._waiting) < self.size:
            try:
                self._waiting.append(await self._spawn())
            except OSError as error:
                log.warning("Unable to start a standby process: %s.", error.strerror)
                return

    @staticmethod
    def _keep(spawned: Spawned) -> bool:
        if not spawned.usable:
            spawned.close()
        return spawned.usable

    async def take(self) -> Spawned:
        """A process that waits for its start message. Raises OSError."""
        self.fill_later()
        while self._waiting:
            spawned = self._waiting.pop(0)
            if self._keep(spawned):
                return spawned
        return await self._spawn()

    async def close(self) -> None:
        """End the waiting processes: they see the end of their sockets."""
        self.size = 0
        if self._refill is not None:
            self._refill.cancel()
        for task in self._tasks:
            task.cancel()
        waiting, self._waiting = self._waiting, []
        for spawned in waiting:
            spawned.sock.close()
        for spawned in waiting:
            try:
                await asyncio.wait_for(spawned.process.wait(), 1.0)
            except TimeoutError:
                spawned.kill()
            spawned.close()

    @staticmethod
    async def _spawn() -> Spawned:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.MAX_MESSAGE_BYTES * 2)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "hast.supervisor.standby",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            pidfd = -1
        return Spawned(process, ours, pidfd)
