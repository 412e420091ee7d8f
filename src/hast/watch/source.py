"""Asks the hastd of this node, over the socket that only answers: the picture of both nodes, and the events.

For asyncio. Whoever asks often shares one answer; nothing here waits longer than ANSWER_S.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from hast.config.host import this_host
from hast.daemon import asking
from hast.daemon.conversation import ConversationError
from hast.daemon.logs import in_words
from hast.daemon.paths import observe_socket
from hast.watch.picture import Picture, read, unknown

ANSWER_S = 8.0
"""hastd asks the other node meanwhile, which takes a few seconds where that is silent."""
KEEP_S = 1.0
CONNECT_S = 2.0


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
            answer = await asking.ask(self._path, request, CONNECT_S, ANSWER_S)
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
            async with aclosing(asking.stream(self._path, request, CONNECT_S)) as lines:
                async for line in lines:
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("error"):
                        raise NoAnswer(f"hastd at {self._path} answers: {event['error']}")
                    if isinstance(event, dict):
                        yield event
        except (OSError, TimeoutError, ConversationError, ValueError) as error:
            raise self._no_answer(error) from None
        raise NoAnswer(f"hastd at {self._path} ended the stream of events.")

    def _no_answer(self, error: Exception) -> NoAnswer:
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return NoAnswer(f"hastd does not answer on {self._path}; is it running?")
        return NoAnswer(f"hastd does not answer on {self._path}: {in_words(error) or 'no answer in time'}.")
