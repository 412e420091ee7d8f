"""What happened to the resources: a numbered stream for subscribers and a short history per resource. No I/O.

Every subscriber has a bounded queue; one that does not read loses its place and is told so by the end of its stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hast.supervisor.contact import ContactMemory

HISTORY_EVENTS = 32
REPLAY_EVENTS = 1024
QUEUE_EVENTS = 1024


class Subscription:
    """An ordered stream of events; `next` returns None once the subscriber has fallen behind."""

    def __init__(self, backlog: list[dict[str, Any]]) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_EVENTS + len(backlog))
        self.overrun = False
        for event in backlog:
            self._queue.put_nowait(event)

    def put(self, event: dict[str, Any]) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overrun = True

    async def next(self) -> dict[str, Any] | None:
        if self.overrun and self._queue.empty():
            return None
        return await self._queue.get()


class EventBus:
    """Publishes events as dictionaries: seq, time (seconds since the epoch), event, resource, text, level, and more."""

    def __init__(self) -> None:
        self.seq = 0
        self.written: Callable[[dict[str, Any]], None] = lambda record: None
        """Called with every record, to be kept for the next hastd."""
        self._recent: deque[dict[str, Any]] = deque(maxlen=REPLAY_EVENTS)
        self._history: dict[str, deque[dict[str, Any]]] = {}
        self._contact: dict[str, ContactMemory] = {}
        self._subscribers: set[Subscription] = set()

    def publish(self, event: str, resource: str, text: str = "", level: str = "info", **more: Any) -> dict[str, Any]:
        self.seq += 1
        record = {"seq": self.seq, "time": round(time.time(), 3), "event": event, "resource": resource}
        record |= {"text": text, "level": level, **more}
        self._remember(record)
        self.written(record)
        for subscriber in self._subscribers:
            subscriber.put(record)
        return record

    def restore(self, records: list[dict[str, Any]]) -> None:
        """What an earlier hastd published last; the numbers go on from there."""
        for record in records:
            self.seq = max(self.seq, int(record["seq"]))
            self._remember(record)

    def _remember(self, record: dict[str, Any]) -> None:
        resource = record["resource"]
        self._recent.append(record)
        self._history.setdefault(resource, deque(maxlen=HISTORY_EVENTS)).append(record)
        self._contact.setdefault(resource, ContactMemory()).heard(record)

    def history(self, resource: str) -> list[dict[str, Any]]:
        """The last events of a resource, oldest first."""
        return list(self._history.get(resource, ()))

    def contact(self, resource: str) -> ContactMemory:
        """Since when a resource is without its peer."""
        return self._contact.get(resource) or ContactMemory()

    def forget(self, resource: str) -> None:
        self._history.pop(resource, None)
        self._contact.pop(resource, None)

    def subscribe(self, since: int | None = None) -> Subscription:
        """A stream of what comes; with `since`, first those remembered whose seq is greater.

        A `since` that has not been reached is from before a restart: everything is new to that client.
        """
        if since is not None and since > self.seq:
            since = 0
        backlog = [] if since is None else [record for record in self._recent if record["seq"] > since]
        subscription = Subscription(backlog)
        self._subscribers.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscribers.discard(subscription)
