"""When a flush that the primary asks for starts: once every change that came before it is over. Later ones do not wait
for it, nor it for them.
"""

from __future__ import annotations

from collections import deque

from hast.replication.types import Request


class FlushOrder:
    """Changes and flushes of one secondary, in the order in which they came. `Request.mode` of a change is its own."""

    def __init__(self) -> None:
        self._generation = 0
        """Flushes that came so far."""
        self._changes: dict[int, int] = {}
        """Generation → changes of it under way."""
        self.waiting: deque[tuple[int, Request]] = deque()

    def changes_begin(self, batch: list[Request]) -> None:
        """These came."""
        generation = self._generation
        for request in batch:
            request.mode = generation
        self._changes[generation] = self._changes.get(generation, 0) + len(batch)

    def changes_ended(self, batch: list[Request]) -> None:
        """The disk has these, or has failed them."""
        changes = self._changes
        for request in batch:
            generation = request.mode
            left = changes[generation] - 1
            if left:
                changes[generation] = left
            else:
                del changes[generation]

    def add(self, flush: Request) -> None:
        """This flush came."""
        self._generation += 1
        self.waiting.append((self._generation, flush))

    def due(self) -> list[Request]:
        """Flushes that start now."""
        due: list[Request] = []
        while self.waiting:
            generation, flush = self.waiting[0]
            if any(earlier < generation for earlier in self._changes):
                break
            self.waiting.popleft()
            due.append(flush)
        return due
