"""`Actions` that another process carries out (`action_server.py`): for a hast-devd that is a user without rights."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from hast.config.devd_model import DevdConfiguration, Rule
from hast.config.model import ConfigError
from hast.failover.devd.channel import KEPT_GENERATIONS, Channel, rules_from_json
from hast.failover.devd.events import Event
from hast.failover.devd.runner import Newer
from hast.failover.devd.sources import CONNECT_S, MAX_LINE_BYTES, Stream

NOT_RUN = 127
RULES_S = 30.0
_log = logging.getLogger("hast.devd")


class RemoteActions:
    """`lost` is set when the other half is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.lost = asyncio.Event()
        self._channel = Channel(sock, self._received, self._gone)
        self._numbers = iter(range(1, 1 << 62))
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._known: deque[tuple[int, tuple[Rule, ...]]] = deque(maxlen=KEPT_GENERATIONS)
        """Rules as they were sent, with the generation."""
        self._first: asyncio.Future[DevdConfiguration] = asyncio.get_running_loop().create_future()
        self._take: Callable[[Event], None] = lambda _event: None
        self._follow: Callable[[DevdConfiguration], None] = lambda _configuration: None

    async def configuration(self) -> DevdConfiguration:
        """The rules, as the other half read them. Raises ConfigError, TimeoutError."""
        async with asyncio.timeout(RULES_S):
            return await self._first

    async def begin(self, take: Callable[[Event], None], follow: Callable[[DevdConfiguration], None]) -> None:
        self._take, self._follow = take, follow

    async def execute(self, rule: Rule, number: int, event: Event, newer: Newer) -> int:
        mine = next(self._numbers)
        newer.listen(lambda: self._channel.send({"newer": mine}))
        try:
            request = {"run": [*self._place(rule), number], "id": mine, "event": dict(event.variables)}
            message, _descriptors = await self._ask(mine, request)
        except OSError:
            return NOT_RUN
        finally:
            newer.listen(None)
        return int(message["code"])

    def _place(self, wanted: Rule) -> tuple[int, int]:
        """Generation and number of a rule. Raises OSError."""
        for generation, rules in self._known:
            for place, rule in enumerate(rules):
                if rule is wanted:
                    return generation, place
        raise OSError(0, "the rule is too old")

    async def open(self, source: str, since: int | None) -> Stream:
        mine = next(self._numbers)
        async with asyncio.timeout(2 * CONNECT_S):
            message, descriptors = await self._ask(mine, {"open": source, "since": since, "id": mine})
        if not descriptors:
            raise OSError(0, str(message.get("error") or "not opened"))
        sock = socket.socket(fileno=descriptors[0])
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)
        return reader, writer

    def told(self, event: Event, moves: bool) -> None:
        self._channel.send({"told": {"system": event.variables.get("system", "")}, "moves": moves})

    async def leave(self) -> None:
        mine = next(self._numbers)
        try:
            await self._ask(mine, {"leave": mine})
        except OSError as error:
            _log.error("the service was not moved away: %s", error.strerror)

    def reload(self) -> None:
        self._channel.send({"reload": True})

    async def end(self) -> None:
        """The other half sees that this one is gone."""

    async def _ask(self, number: int, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Raises OSError."""
        if self.lost.is_set():
            raise OSError(0, "who runs the actions is gone")
        answer: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._channel.send(message)
            return await answer
        finally:
            self._answers.pop(number, None)

    def _received(self, message: dict[str, Any], descriptors: list[int]) -> None:
        number = next((message[key] for key in ("done", "opened", "left") if key in message), None)
        if number is not None:
            answer = self._answers.get(number)
            if answer is not None and not answer.done():
                answer.set_result((message, descriptors))
                return
        elif "rules" in message:
            self._learn(message)
        elif "event" in message:
            self._take(Event(message["event"]))
        elif "error" in message and not self._first.done():
            error = ConfigError(message["error"])
            error.exit_code = int(message["exit"])
            self._first.set_exception(error)
        for descriptor in descriptors:
            os.close(descriptor)

    def _learn(self, message: dict[str, Any]) -> None:
        configuration = DevdConfiguration(message["path"], rules_from_json(message["rules"]))
        self._known.append((message["generation"], configuration.rules))
        if self._first.done():
            self._follow(configuration)
        else:
            self._first.set_result(configuration)

    def _gone(self) -> None:
        self.lost.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(OSError(0, "who runs the actions is gone"))
        if not self._first.done():
            self._first.set_exception(OSError(0, "who runs the actions is gone"))
