"""Chance, and the words in which a disaster is written."""

from __future__ import annotations

import random
from collections.abc import Callable

from hast.sim.disk import SECTOR_BYTES
from hast.sim.schedule import Argument, Step
from hast.sim.small import DATASIZE_BYTES

SECTORS = DATASIZE_BYTES // SECTOR_BYTES
Disaster = Callable[["Draw"], list[Step]]


class Draw(random.Random):
    """Chance, and the steps it is turned into."""

    def step(self, kind: str, **arguments: Argument) -> Step:
        """At once."""
        return Step(0.0, kind, arguments)

    def later(self, most_s: float, kind: str, **arguments: Argument) -> Step:
        """Some time within `most_s`."""
        return Step(round(self.random() * most_s, 4), kind, arguments)

    def one(self, *values: Argument) -> Argument:
        return values[int(self.random() * len(values))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def keep(self) -> float:
        """How much of a cache survives a power cut."""
        return float(self.one(0.0, 0.0, 0.5, 0.9))

    def node(self) -> str:
        return str(self.one("primary", "secondary"))

    def habits(self) -> Step:
        """Clients of another kind."""
        kind = self.random()
        if kind < 0.25:
            return self.step("work", gap_s=0.006, batch=4)
        if kind < 0.5:
            return self.step("work", gap_s=0.03)
        if kind < 0.7:
            return self.step("work", gap_s=0.1, batch=2, flushes=0.0, fua=0.0)
        if kind < 0.85:
            return self.step("work", gap_s=0.05, batch=2, flushes=0.3, fua=0.3, reads=0.1)
        return self.step("work", gap_s=0.02, spread=24, reads=0.1)

    def protected(self) -> Step:
        """Once both copies are whole."""
        return self.step("until", what="protected", most_s=5.0)

    def aim(self) -> list[Step]:
        """The moment of the failure: any, or right after something."""
        if self.chance(0.4):
            return [self.later(0.3, "wait", seconds=0.0)]
        what = self.one("acknowledged", "acknowledged", "acknowledged", "flushed", "primary stores", "secondary stores")
        return [self.step("until", what=what, most_s=0.5)]

    def hush(self) -> list[Step]:
        """Clients that fall silent at the failure heal nothing by writing on."""
        return [self.step("rest")] if self.chance(0.5) else []
