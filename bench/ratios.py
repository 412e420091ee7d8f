"""Ratios of figures whose runs followed each other: the machine's speed drifts. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios; not a number where there is none. Raises ValueError on an unequal number."""
    found = [a / b for a, b in zip(ours, theirs, strict=True) if b]
    return statistics.median(found) if found else math.nan
