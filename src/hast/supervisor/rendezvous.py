"""Where resources of one pool that let go together wait for each other. Decides nothing; bounded by who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


class Rendezvous:
    """Of the named resources. Each comes to the same places in the same order; one that has ended is not waited for."""

    def __init__(self, names: Collection[str]) -> None:
        self._reached = dict.fromkeys(names, 0)
        self._moved = asyncio.Event()

    async def meet(self, name: str) -> None:
        """Come to the next place, and wait until everybody is there."""
        if name not in self._reached:
            return
        place = self._reached[name] + 1
        self._reached[name] = place
        self._wake()
        while any(reached < place for reached in self._reached.values()):
            await self._moved.wait()

    def includes(self, name: str) -> bool:
        """Whether it is still waited for."""
        return name in self._reached

    def leave(self, name: str) -> None:
        """This one comes to no place any more."""
        self._reached.pop(name, None)
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
