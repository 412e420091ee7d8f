"""Asks the hastd of this node, over the socket that only answers: the picture of both nodes, and the events.

For asyncio. Whoever asks often shares one answer; nothing here waits longer than ANSWER_S.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from hast.config.host import this_host
from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.daemon.logs import in_words
from hast.daemon.paths import observe_socket
from hast.format import control, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES
from hast.watch.picture import Picture, read, unknown

ANSWER_S = 8.0
"""hastd asks the other node meanwhile, which takes a few seconds where that is silent."""
KEEP_S = 1.0
CONNECT_S = 2.0
MAX_EVENT_BYTES = 1024 * 1024


class NoAnswer(Exception):
    """hastd did not answer; `str()` is one line."""


class Source:
    """Of one hastd. `keep_s`: how old a picture may be."""

    def __init__(self, path: str | None = None, keep_s: float = KEEP_S) -> None:
        self._path = path or str(observe_socket())
        self._keep_s = keep_s
        self._last: tuple[float, Picture] | None = None
        self._asking = asyncio.Lock()

    async def picture(self) -> Picture:
        """Of both nodes; one that says why where hastd does not answer."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if self._last is None or loop.time() - self._last[0] >= self._keep_s:
                try:
                    picture = read(await self.ask({"command": "report", "peer": True}))
                except NoAnswer as error:
                    picture = unknown(this_host().name, str(error))
                self._last = (loop.time(), picture)
            return self._last[1]

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question. Raises NoAnswer, also for an answer that is one error."""
        try:
            with await self._connect() as sock:
                await send_frame(sock, control.json_request(json.dumps(request)), CONNECT_S)
                reply, _body = await receive_frame(sock, MAX_CONTROL_BODY_BYTES, ANSWER_S)
            answer = json.loads(reply.nv.get("json", nv.NvType.STRING) or "null")
        except (OSError, TimeoutError, ConversationError, ValueError) as error:
            raise self._no_answer(error) from None
        if not isinstance(answer, dict) or answer.get("error"):
            said = answer.get("error") if isinstance(answer, dict) else "no object"
            raise NoAnswer(f"hastd at {self._path} answers: {said}")
        return answer

    async def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """The event stream of docs/control.md, its first line left out, until hastd ends. Raises NoAnswer then."""
        async with aclosing(self.stream(since)) as lines:
            async for line in lines:
                if "event" in line:
                    yield line

    async def stream(self, since: int | None = None) -> AsyncGenerator[dict[str, Any], None]:
        """As `events`, with the first line, which has no `event`."""
        request = {"command": "events"} | ({} if since is None else {"since": since})
        try:
            sock = await self._connect()
            await send_frame(sock, control.json_request(json.dumps(request)), CONNECT_S)
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_EVENT_BYTES)
        except (OSError, TimeoutError, ConversationError) as error:
            raise self._no_answer(error) from None
        try:
            while line := await reader.readline():
                event = json.loads(line)
                if isinstance(event, dict) and event.get("error"):
                    raise NoAnswer(f"hastd at {self._path} answers: {event['error']}")
                if isinstance(event, dict):
                    yield event
        except (OSError, ValueError) as error:
            raise self._no_answer(error) from None
        finally:
            writer.close()
        raise NoAnswer(f"hastd at {self._path} ended the stream of events.")

    async def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, self._path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _no_answer(self, error: Exception) -> NoAnswer:
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return NoAnswer(f"hastd does not answer on {self._path}; is it running?")
        return NoAnswer(f"hastd does not answer on {self._path}: {in_words(error) or 'no answer in time'}.")
