"""Virtual time and chance. Each thing that needs chance has a stream of its own, so that one more draw in one place
shifts nothing elsewhere; a seed repeats a run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

Event = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class World:
    """An event queue over virtual seconds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.log: list[str] = []
        self._queue: list[Event] = []
        self._order = 0

    def stream(self, name: str) -> random.Random:
        """A source of chance that only its owner draws from."""
        return random.Random(f"{self.seed} {name}")

    def after(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._order, call, arguments))

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:9.4f} {text}")

    def run_until(self, when_s: float) -> None:
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= when_s:
            self.now, _order, call, arguments = pop(queue)
            call(*arguments)
        self.now = when_s

    def run_events(self, count: int) -> None:
        """So many things happen, each at its time."""
        for _ in range(count):
            self.now, _order, call, arguments = heapq.heappop(self._queue)
            call(*arguments)

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    def run_till(self, condition: Callable[[], bool], most_s: float) -> bool:
        """Stop right after the event that makes `condition` true; False when it stays false for so long."""
        limit_s = self.now + most_s
        queue, pop = self._queue, heapq.heappop
        while not condition():
            if not queue or queue[0][0] > limit_s:
                self.now = limit_s
                return False
            self.now, _order, call, arguments = pop(queue)
            call(*arguments)
        return True
