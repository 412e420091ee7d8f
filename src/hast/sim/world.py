"""Virtual time and chance: everything that happens is drawn from one seeded generator, so a seed repeats a run."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable


class World:
    """An event queue over virtual seconds."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.log: list[str] = []

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay_s, next(self._order), call))

    def soon(self, call: Callable[[], None], most_s: float = 0.004) -> None:
        """Some time within `most_s`."""
        self.after(self.rng.random() * most_s, call)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:9.4f} {text}")

    def run_until(self, when_s: float) -> None:
        while self._queue and self._queue[0][0] <= when_s:
            self.now, _order, call = heapq.heappop(self._queue)
            call()
        self.now = when_s
