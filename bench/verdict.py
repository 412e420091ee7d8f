"""Whether a figure moved beyond the noise, from pairs of runs that followed each other. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

SURE = 0.05
"""The chance below which pairs as one-sided as these are not taken for noise."""
LEAST = 0.02
"""A ratio nearer to 1 than this says nothing about a program."""
LEAST_PAIRS = 6
"""Fewer, and even pairs that all lean to one side may be noise."""


class Verdict(NamedTuple):
    """`ratio`: median of after/before; `chance`: of ratios that lean at least as far to one side by noise alone."""

    ratio: float
    chance: float

    @property
    def moved(self) -> bool:
        return self.chance <= SURE and abs(self.ratio - 1) >= LEAST


def compare(before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Of as many positive figures each, of which those in the same place were taken one after the other.

    Exact test of signs and sizes: were there no difference, each pair might as well have come the other way round.
    At least LEAST_PAIRS are needed for any verdict. Raises ValueError on an unequal number.
    """
    logs = [math.log(b / a) for a, b in zip(before, after, strict=True) if a > 0 and b > 0]
    if not logs:
        return Verdict(math.nan, 1.0)
    seen = abs(sum(logs)) - 1e-12
    sums = [abs(sum(sign * log for sign, log in zip(signs, logs, strict=True))) for signs in _signs(len(logs))]
    chance = sum(each >= seen for each in sums) / len(sums)
    return Verdict(math.exp(statistics.median(logs)), chance)


def _signs(count: int) -> list[tuple[int, ...]]:
    return list(product((1, -1), repeat=count))
