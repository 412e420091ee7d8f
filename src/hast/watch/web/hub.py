"""Looks at both nodes once for everybody who has the page open, and only while somebody has.

One task asks hastd for the picture every few seconds, or sooner after an event. Each browser has a queue of bounded
length, and one that does not take what is sent is let go: it comes again by itself and is told everything anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from hast.watch.picture import Picture
from hast.watch.web.history import SERIES, WINDOW_S, History
from hast.watch.web.known_names import KnownNames
from hast.watch.web.timeline import Timeline
from hast.watch.web.view import document

LOOK_S = 2.0
CALM_LOOK_S = 5.0
"""While nothing is wrong or under way; an event ends that at once."""
AFTER_EVENT_S = 1.05
"""Since the end of the last look: its picture is kept for a second by its source."""
LINGER_S = 30.0
"""The last viewer may reload the page without a gap in the plots."""
EVENTS_AGAIN_S = 2.0
MAX_VIEWERS = 16
MAX_WAITING = 8
"""Messages for one viewer."""

log = logging.getLogger("hast.monitor")


class Observed(Protocol):
    """watch/source.py, or what a test has in its place. `events` raises any Exception when hastd ends."""

    async def picture(self) -> Picture: ...
    def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]: ...


class TooManyViewers(Exception):
    """Nobody else can look now."""


Message = tuple[str, str]
"""The kind, and JSON."""


class Hub:
    """`clock` is the time of day."""

    def __init__(self, source: Observed, clock: Callable[[], float] = time.time) -> None:
        self.history = History()
        self.timeline = Timeline()
        self._source = source
        self.names = KnownNames()
        self._clock = clock
        self._viewers: set[asyncio.Queue[Message | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._happened = asyncio.Event()
        self._good: tuple[float, Picture] | None = None
        self._is_stale = False
        self._seen_seq = 0
        self._last: dict[str, Any] | None = None
        self._look_s = LOOK_S

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator[AsyncIterator[Message]]:
        """What one browser is sent, `hello` first. Raises TooManyViewers."""
        if len(self._viewers) >= MAX_VIEWERS:
            raise TooManyViewers
        queue: asyncio.Queue[Message | None] = asyncio.Queue(MAX_WAITING)
        self._viewers.add(queue)
        if self._last is not None:
            queue.put_nowait(self._hello())
        self._begin()
        try:
            yield _messages(queue)
        finally:
            self._viewers.discard(queue)

    @property
    def is_looking(self) -> bool:
        return self._task is not None and not self._task.done()

    async def close(self) -> None:
        """Let go of everybody."""
        for queue in list(self._viewers):
            _end(queue)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _begin(self) -> None:
        if not self.is_looking:
            self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def _look_on(self) -> None:
        """Until nobody has looked for LINGER_S."""
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._listen())
        needed_at_s = loop.time()
        try:
            while self._viewers or loop.time() - needed_at_s < LINGER_S:
                if self._viewers:
                    needed_at_s = loop.time()
                began_s = loop.time()
                try:
                    await self._look()
                except Exception:
                    log.exception("The answer of hastd cannot be shown.")
                await self._wait(began_s + self._look_s, loop.time() + AFTER_EVENT_S)
        finally:
            listening.cancel()
            self._last = None

    async def _wait(self, usual_s: float, soonest_s: float) -> None:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(usual_s):
                await self._happened.wait()
        await asyncio.sleep(max(0.0, soonest_s - loop.time()))
        self._happened.clear()

    async def _look(self) -> None:
        picture = self.names.put_into(await self._source.picture())
        now_s = self._clock()
        error = picture.here.error
        self._is_stale = bool(error)
        point = None
        if not error:
            self._good = (now_s, picture)
            self.timeline.add_picture(picture)
            point = self.history.add(picture, now_s)
            view = document(picture, now_s)
        elif self._good is not None:
            view = document(self._good[1], now_s, self._good[0], error)
        else:
            view = document(picture, now_s)
        self._look_s = until_next_look_s(view)
        told, is_first = self.timeline.version, self._last is None
        changed = is_first or (self._last or {}).get("told") != told
        self._last = {"view": view, "told": told}
        if is_first:
            self._send(self._hello())
        else:
            self._send(_message("tick", view=view, point=point, timeline=self.timeline.entries() if changed else None))

    def _hello(self) -> Message:
        assert self._last is not None
        kept = {"series": SERIES, "window_s": WINDOW_S, "points": self.history.points()}
        return _message("hello", view=self._last["view"], history=kept, timeline=self.timeline.entries())

    def _send(self, message: Message) -> None:
        for queue in list(self._viewers):
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._viewers.discard(queue)
                _end(queue)

    async def _listen(self) -> None:
        """The events of hastd here, for as long as it is looked at. A look tells why hastd does not answer."""
        while True:
            try:
                async for event in self._source.events(since=self._seen_seq):
                    self._heard(event)
            except Exception as error:
                log.debug("No events: %s", error)
            if self._good is not None and not self._is_stale:
                self._happened.set()
            await asyncio.sleep(EVENTS_AGAIN_S)

    def _heard(self, event: dict[str, Any]) -> None:
        seq = event.get("seq")
        self._seen_seq = seq if isinstance(seq, int) else self._seen_seq
        self.timeline.add_event(event, self._good[1].here.name if self._good is not None else "")
        self._happened.set()


def until_next_look_s(view: dict[str, Any]) -> float:
    """What is shown decides how soon it is looked at again."""
    moves = any((node["failover"] or {}).get("phase") == "running" for node in view["nodes"])
    moves |= any(side and side["transition"] for each in view["resources"] for side in (each["here"], each["there"]))
    return CALM_LOOK_S if view["level"] == "ok" and not moves else LOOK_S


async def _messages(queue: asyncio.Queue[Message | None]) -> AsyncIterator[Message]:
    while (message := await queue.get()) is not None:
        yield message


def _end(queue: asyncio.Queue[Message | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


def _message(kind: str, **fields: Any) -> Message:
    return kind, json.dumps(fields, separators=(",", ":"), allow_nan=False)
