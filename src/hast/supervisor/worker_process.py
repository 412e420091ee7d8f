"""One worker process as the supervisor sees it: start, ask, stop, and how it ended. Decides nothing about roles.

Every wait has a deadline; a worker that does not stop is killed, and one that does not die is reported as `Stuck`. The
process comes from `worker_pool.py`; HAST_WORKER_MODULE replaces the worker's module in tests.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from hast.daemon.logs import in_words
from hast.supervisor.worker_pool import Spawned, WorkerPool
from hast.worker import messages
from hast.worker.disk.flush_witness import Locker
from hast.worker.worker_record import forget_worker, record_worker, start_time

log = logging.getLogger("hast.supervisor")

KILL_DEADLINE_S = 5.0
ADOPT_DEADLINE_S = 5.0
MAX_PENDING_REQUESTS = 64
WATCH_INTERVAL_S = float(os.environ.get("HAST_WATCH_INTERVAL_S", "10"))
NO_ANSWER = "The local disk does not answer."
WATCH_MISSES = 3
"""A worker that leaves this many status requests in a row unanswered hangs, and is killed."""


class WorkerError(Exception):
    """A worker did not do what was asked; `str()` is one line for the operator."""


class Stuck(WorkerError):
    """A killed worker has not ended: it sleeps in the kernel, most likely on its disk."""


class WorkerProcess:
    """A started worker. `on_message(worker, message)` gets what it says; `ended` is set when the process is reaped, or
    when only threads are left of it that sleep in its disk (`lingers`): those can begin nothing any more."""

    def __init__(
        self, name: str, pool: WorkerPool, on_message: Callable[[WorkerProcess, dict[str, Any]], None]
    ) -> None:
        self.name = name
        self._pool = pool
        self.ready: dict[str, Any] | None = None
        self.refused: str | None = None
        self.served_s = 0.0
        """How long it has served, once it has ended; 0 when it never did."""
        self._ready_s = math.inf
        self.stopping = False
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()
        self.lingers: str | None = None
        """Why its process is still there although it has ended: its disk does not answer."""
        self._left_code: int | None = None
        self._on_message = on_message
        self.locker: Locker | None = None
        """Of a worker that was taken over."""
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 1
        self._spawned: Spawned | None = None
        self._sock: socket.socket | None = None
        self._reaper: asyncio.Task[None] | None = None

    async def start(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Start the process and send it its `start` message. Raises WorkerError."""
        for last_attempt in (False, True):
            try:
                spawned = await self._pool.take()
            except OSError as error:
                raise WorkerError(f"Unable to start a worker process: {error.strerror}.") from None
            try:
                messages.send(spawned.sock, message | {"user": self._pool.user}, descriptors)
                break
            except (OSError, ValueError) as error:
                spawned.kill()
                spawned.close()
                if last_attempt or isinstance(error, ValueError):
                    raise WorkerError(f"Unable to hand the resource to its worker: {in_words(error)}.") from None
        record_worker(self.name, spawned.process.pid)
        self._hold(spawned)

    async def adopt(self, spawned: Spawned, ready: dict[str, Any]) -> None:
        """Take over a worker that waits for a supervisor. Raises WorkerError; then it waits on, or has ended."""
        self.ready = ready
        self._ready_s = -math.inf
        self._hold(spawned)
        await self.ask("adopt", ADOPT_DEADLINE_S)

    def _hold(self, spawned: Spawned) -> None:
        self._spawned = spawned
        self._reaper = asyncio.create_task(self._reap(spawned))
        asyncio.get_running_loop().add_reader(spawned.sock, self._readable, spawned.sock)
        self._sock = spawned.sock

    @property
    def pid(self) -> int:
        return self._spawned.process.pid if self._spawned is not None else 0

    @property
    def alive(self) -> bool:
        return self._spawned is not None and not self.ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """Exit code; negative signal number when killed; None while it runs, and of one that was taken over."""
        if self._left_code is not None:
            return self._left_code
        return self._spawned.process.returncode if self._spawned is not None and self.ended.is_set() else None

    def how_it_ended(self) -> str:
        """For a log line: `exit code 1` or `signal 9 (Killed)`."""
        code = self.exit_code
        if code is None:
            return "an earlier hastd started it: why is not known" if self.ended.is_set() else "still running"
        if code < 0:
            return f"signal {-code} ({signal.strsignal(-code) or 'unknown'})"
        return f"exit code {code}"

    async def wait_ready(self, deadline_s: float) -> dict[str, Any]:
        """Wait for `ready`. Raises WorkerError with the reason when the worker refuses, ends or takes too long."""
        try:
            async with asyncio.timeout(deadline_s):
                while self.ready is None:
                    if self.refused is not None:
                        raise WorkerError(self.refused)
                    if self.ended.is_set():
                        raise WorkerError(f"The worker process ended early ({self.how_it_ended()}); see the log.")
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise WorkerError(f"The worker process was not ready after {deadline_s:g} s.") from None
        return self.ready

    async def ask(
        self, do: str, deadline_s: float, *, descriptors: Sequence[int] = (), **fields: Any
    ) -> dict[str, Any]:
        """Send a request, return the reply. Raises WorkerError when it cannot be had in time."""
        if self._sock is None or len(self._replies) >= MAX_PENDING_REQUESTS:
            raise WorkerError("The worker process does not answer.")
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            messages.send(self._sock, {"do": do, "id": number, **fields}, descriptors)
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError:
            raise WorkerError(f"The worker process did not answer within {deadline_s:g} s.") from None
        except (OSError, ValueError) as error:
            raise WorkerError(f"The worker process cannot be asked: {in_words(error)}.") from None
        finally:
            self._replies.pop(number, None)

    async def watch(self) -> None:
        """Until the process ends: kill it when its loop hangs, so that it is replaced. A slow disk does not hang it."""
        misses = 0
        while not await self._ended_within(WATCH_INTERVAL_S):
            try:
                await self.ask("status", WATCH_INTERVAL_S)
                misses = 0
            except WorkerError:
                misses += 1
                if self._is_over():
                    self._has_left(-signal.SIGKILL, NO_ANSWER)
                    return
            if misses >= WATCH_MISSES and not self.stopping and self._spawned is not None:
                hung_s = 2 * misses * WATCH_INTERVAL_S
                log.error("Worker %d has not answered for %g s, killing it.", self.pid, hung_s, extra=self._extra())
                self._spawned.kill()
                if not await self._dead_within(KILL_DEADLINE_S):
                    log.error("%s", self._stuck(), extra=self._extra())
                return

    async def stop(self, deadline_s: float, leaving: bool = True) -> None:
        """Ask for an orderly end, kill after `deadline_s`, and wait until it is gone. `leaving`: its peer is told that
        this node gives the role up. Raises Stuck."""
        if not self.alive:
            return
        self.stopping = True
        try:
            if self._sock is not None:
                messages.send(self._sock, {"do": "stop", "id": 0, "deadline_s": deadline_s, "leaving": leaving})
        except OSError:
            self.kill()
        if await self._ended_within(deadline_s + 1.0):
            return
        if deadline_s > 0:
            log.warning("Worker %d did not stop within %g s, killing it.", self.pid, deadline_s, extra=self._extra())
        self.kill()
        if not await self._dead_within(KILL_DEADLINE_S):
            raise Stuck(self._stuck())

    async def give_way(self, deadline_s: float) -> None:
        """Have it end at once, for another worker to take its place; killed after `deadline_s`. Raises Stuck."""
        try:
            if self._sock is not None:
                messages.send(self._sock, {"do": "give-way"})
        except OSError:
            pass
        if await self._ended_within(deadline_s):
            return
        if self._spawned is not None:
            self._spawned.kill()
        if not await self._dead_within(KILL_DEADLINE_S):
            raise Stuck(self._stuck())

    def kill(self) -> None:
        """SIGKILL, without waiting."""
        self.stopping = True
        if self._spawned is not None:
            self._spawned.kill()

    def _stuck(self) -> str:
        return f"Worker process {self.pid} does not die: it is stuck in the kernel, see its disk."

    def _extra(self) -> dict[str, str]:
        return {"hast_prefix": f"[{self.name}] "}

    async def _ended_within(self, deadline_s: float) -> bool:
        try:
            async with asyncio.timeout(deadline_s):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    async def _dead_within(self, deadline_s: float) -> bool:
        """Of one that was killed: it has ended, or only its disk keeps what is left of it."""
        if await self._ended_within(deadline_s):
            return True
        if not self._is_over():
            return False
        self._has_left(-signal.SIGKILL, NO_ANSWER)
        return True

    def _is_over(self) -> bool:
        """It runs nothing of its own any more."""
        return self.alive and start_time(self.pid) is None

    def _has_left(self, code: int, reason: str) -> None:
        """It runs no more, but its process is not gone."""
        self.lingers, self._left_code = reason, code
        log.error("Worker %d has ended but for what sleeps in its disk. %s", self.pid, reason, extra=self._extra())
        self._conclude()

    async def _reap(self, spawned: Spawned) -> None:
        await spawned.process.wait()
        forget_worker(self.name, spawned.process.pid)
        while self._sock is not None and self._receive_one(self._sock):
            pass
        if self.lingers is not None:
            log.info("Worker %d is gone: its disk has answered.", self.pid, extra=self._extra())
            self.lingers = None
        spawned.close()
        if not self.ended.is_set():
            self._conclude()

    def _conclude(self) -> None:
        """The end: nobody waits for it any more."""
        self.served_s = max(0.0, asyncio.get_running_loop().time() - self._ready_s)
        self._close_socket()
        self.ended.set()
        self.changed.set()
        for future in self._replies.values():
            if not future.done():
                future.set_exception(OSError("it has ended"))
        self._on_message(self, {"say": "ended"})

    def _readable(self, sock: socket.socket) -> None:
        self._receive_one(sock)

    def _receive_one(self, sock: socket.socket) -> bool:
        """Take one message; False when there is none. At the end of the stream the socket is closed."""
        try:
            message, descriptors = messages.receive(sock)
        except BlockingIOError:
            return False
        except ValueError as error:
            log.error("Bad message from worker %d: %s; killing it.", self.pid, error, extra=self._extra())
            self._close_socket()
            if self._spawned is not None:
                self._spawned.kill()
            return False
        except OSError:
            message, descriptors = None, []
        if message is not None and message.get("say") == "locker" and len(descriptors) == 2:
            self.locker = Locker(descriptors)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        if message is None:
            self._close_socket()
            return False
        self._dispatch(message)
        return True

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "reply" in message:
            future = self._replies.get(message["reply"]) if isinstance(message["reply"], int) else None
            if future is not None and not future.done():
                future.set_result(message)
            return
        say = message.get("say")
        if say == "ready":
            self.ready = message
            self._ready_s = asyncio.get_running_loop().time()
        elif say == "refused":
            self.refused = str(message.get("text") or "The worker refused the role.")
        elif say == "left":
            self._has_left(int(message.get("exit") or 0), str(message.get("reason") or "Its disk does not answer."))
            return
        self.changed.set()
        self._on_message(self, message)

    def _close_socket(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
