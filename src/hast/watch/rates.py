"""Rates and latencies of the last seconds, from two pictures of the same pair. Pure.

Counters begin again with each worker: where one did, or a figure is missing, nothing is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hast.watch.picture import Pair, Picture, Status

OPERATIONS = ("read", "write")
COPIES = ("local", "peer")


@dataclass(frozen=True, slots=True)
class Rate:
    """Of one operation, as clients of the primary see it. None: not known."""

    per_s: float | None = None
    bytes_s: float | None = None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds."""

    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one resource. `latency` by operation and copy; what was not measured meanwhile is left out."""

    read: Rate = field(default_factory=Rate)
    write: Rate = field(default_factory=Rate)
    latency: Mapping[tuple[str, str], Percentiles] = field(default_factory=dict)


NONE = Rates()


def between(earlier: Picture, later: Picture) -> dict[str, Rates]:
    """By name, of the resources that both pictures have with the same worker of their primary."""
    before = {pair.name: pair for pair in earlier.pairs}
    found = {}
    for pair in later.pairs:
        former = before.get(pair.name)
        if former is not None:
            found[pair.name] = _of(earlier, former, later, pair)
    return found


def _of(earlier: Picture, former: Pair, later: Picture, present: Pair) -> Rates:
    one, two = former.primary, present.primary
    if one is None or two is None or one.get("workerpid") != two.get("workerpid") or not two.get("workerpid"):
        return NONE
    interval_s = _clock(later, present, two) - _clock(earlier, former, one)
    if interval_s <= 0:
        return NONE
    latency = {}
    for operation in (*OPERATIONS, "flush"):
        for copy in COPIES:
            found = _percentiles(_buckets(one, operation, copy), _buckets(two, operation, copy))
            if found is not None:
                latency[operation, copy] = found
    return Rates(_rate(one, two, "read", interval_s), _rate(one, two, "write", interval_s), latency)


def _clock(picture: Picture, pair: Pair, side: Status) -> float:
    """That of the node which told it."""
    return picture.here.time_s if side is pair.here or pair.other is None else pair.other.time_s


def _rate(one: Status, two: Status, operation: str, interval_s: float) -> Rate:
    return Rate(
        _per_s(one, two, f"{operation}s", interval_s),
        _per_s(one, two, f"{operation}_bytes", interval_s),
    )


def _per_s(one: Status, two: Status, key: str, interval_s: float) -> float | None:
    before, after = ((side.get("statistics") or {}).get(key) for side in (one, two))
    if not isinstance(before, int) or not isinstance(after, int) or after < before:
        return None
    return (after - before) / interval_s


def _buckets(side: Status, operation: str, copy: str) -> Sequence[Any]:
    return buckets_in(((side.get("latency") or {}).get(operation) or {}).get(copy) or {})


def buckets_in(told: Mapping[str, Any]) -> Sequence[Any]:
    """Of one histogram of `latency` (docs/control.md), without what is none."""
    found = told.get("buckets")
    return [each for each in found if _is_bucket(each)] if isinstance(found, list) else ()


def _is_bucket(found: Any) -> bool:
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], int):
        return False
    return found[0] is None or isinstance(found[0], float)


def _percentiles(before: Sequence[Any], after: Sequence[Any]) -> Percentiles | None:
    """Of what came between; the last bound stands for what is beyond all."""
    counts = added(before, after)
    if counts is None:
        return None
    last_s = max((bound for bound, _count in counts if bound is not None), default=0.0)
    p50_s, p99_s = percentile_s(counts, 50), percentile_s(counts, 99)
    return Percentiles(last_s if p50_s is None else p50_s, last_s if p99_s is None else p99_s)


def added(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[float | None, int]] | None:
    """Upper bounds and what came between two tellings of `buckets`; None where nothing did, or counting began anew."""
    earlier = dict(before)
    counts = [(bound, count - earlier.get(bound, 0)) for bound, count in after]
    if sum(count for _bound, count in counts) <= 0 or any(count < 0 for _bound, count in counts):
        return None
    return counts


def percentile_s(counts: Sequence[tuple[float | None, int]], percent: int) -> float | None:
    """The upper bound of its bucket stands for a sample; None for what is beyond all bounds."""
    total = sum(count for _bound, count in counts)
    left = total - total * (100 - percent) // 100
    for bound, count in counts:
        left -= count
        if left <= 0:
            return bound
    return None
