"""carpd's control socket: one JSON object a line in, one out; and the stream of events (docs/carpd.8.md).

Bad input closes only the conversation it came from. Knows nothing of what the commands do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_LINE_BYTES = 64 * 1024
MAX_CLIENTS = 64
MAX_EVENTS_BEHIND = 1000
REQUEST_DEADLINE_S = 60.0
SEND_DEADLINE_S = 10.0

_log = logging.getLogger("hast.carpd")

Command = Callable[[dict[str, Any]], dict[str, Any]]


class _Reader:
    """One client of the event stream."""

    def __init__(self) -> None:
        self.events: deque[dict[str, Any]] = deque()
        self.more = asyncio.Event()
        self.lost = False


class ControlServer:
    """Serves a listening Unix socket. `run(request)` answers commands, `current()` is the present state in events."""

    def __init__(self, sock: socket.socket, run: Command, current: Callable[[], list[dict[str, Any]]]) -> None:
        self._sock = sock
        self._run = run
        self._current = current
        self._readers: set[_Reader] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=self._sock, limit=MAX_LINE_BYTES)

    def publish(self, event: dict[str, Any]) -> None:
        """Give an event to every reader; one that is too far behind is closed."""
        for reader in self._readers:
            if len(reader.events) >= MAX_EVENTS_BEHIND:
                reader.lost = True
            else:
                reader.events.append(event)
            reader.more.set()

    async def close(self) -> None:
        """Let readers take what is queued, for a second at most, then close everything."""
        if self._server is not None:
            self._server.close()
        for _ in range(20):
            if not any(reader.events for reader in self._readers):
                break
            await asyncio.sleep(0.05)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MAX_CLIENTS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        except Exception:
            _log.exception("Control conversation failed")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(REQUEST_DEADLINE_S):
                    line = await reader.readline()
            except ValueError:
                await _send(writer, {"error": f"the request is longer than {MAX_LINE_BYTES} bytes"})
                return
            if not line:
                return
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            if not isinstance(request, dict) or not isinstance(request.get("command"), str):
                await _send(writer, {"error": "the request is not a JSON object with a command"})
                return
            if request["command"] == "events":
                await self._stream(reader, writer, request.get("current") is True)
                return
            await _send(writer, self._run(request))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, current: bool) -> None:
        mine = _Reader()
        self._readers.add(mine)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await _send(writer, {"error": None})
            if current:
                for event in self._current():
                    await _send(writer, event)
            while not mine.lost:
                more = asyncio.ensure_future(mine.more.wait())
                await asyncio.wait({more, gone}, return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                if gone.done():
                    return
                mine.more.clear()
                while mine.events:
                    await _send(writer, mine.events[0])
                    mine.events.popleft()
            _log.warning("A reader of events was %d events behind and was closed.", MAX_EVENTS_BEHIND)
        finally:
            gone.cancel()
            self._readers.discard(mine)


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    async with asyncio.timeout(SEND_DEADLINE_S):
        await writer.drain()
