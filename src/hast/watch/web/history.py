"""Rates and latencies of the last ten minutes, made of what one picture has counted more than the one before. Pure.

A ring: so many points and no more. Where nobody looked, or a worker began anew, is a gap, never a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from hast.watch import rates
from hast.watch.picture import Pair, Picture, Status
from hast.watch.web.values import mapping
from hast.watch.web.view import MAX_RESOURCES
from hast.watch.words import number

WINDOW_S = 600.0
MAX_POINTS = 600
GAP_S = 15.0
"""Between two pictures; what was counted over more than that is no rate of now."""
SERIES = (
    "read_bytes_s",
    "write_bytes_s",
    "reads_s",
    "writes_s",
    "read_p99_s",
    "write_p99_s",
    "peer_write_p99_s",
    "sync_bytes_s",
)
"""The values of a resource in a point, in this order; null where it is not known."""
PERCENT = 99


class History:
    """One point a picture; the first picture of a worker makes none."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=MAX_POINTS)
        self._before: dict[str, tuple[float, tuple[str, object], Status]] = {}

    def add(self, picture: Picture, now_s: float) -> dict[str, Any] | None:
        """The point; None where no resource can be measured."""
        values = {pair.name: found for pair in picture.pairs[:MAX_RESOURCES] if (found := self._measure(pair, now_s))}
        self._before = {
            name: self._before[name] for name in self._before if any(pair.name == name for pair in picture.pairs)
        }
        while self._points and self._points[0]["t"] < now_s - WINDOW_S:
            self._points.popleft()
        if not values:
            return None
        point = {"t": round(now_s, 2), "r": values}
        self._points.append(point)
        return point

    def points(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self._points)

    def _measure(self, pair: Pair, now_s: float) -> list[float | None] | None:
        told = pair.primary
        if told is None:
            self._before.pop(pair.name, None)
            return None
        worker = ("here" if told is pair.here else "there", told.get("workerpid"))
        before = self._before.get(pair.name)
        self._before[pair.name] = (now_s, worker, told)
        if before is None or before[1] != worker or not 0.0 < now_s - before[0] <= GAP_S:
            return None
        return _values(told, before[2], now_s - before[0])


def _values(told: Status, before: Status, lasted_s: float) -> list[float | None]:
    def rate(key: str) -> float | None:
        now, then = (number(mapping(each.get("statistics")).get(key)) for each in (told, before))
        return None if now is None or then is None or now < then else round((now - then) / lasted_s, 1)

    def p99_s(operation: str, copy: str) -> float | None:
        times = [mapping(mapping(each.get("latency")).get(operation)).get(copy) for each in (told, before)]
        return percentile_s(mapping(times[0]), mapping(times[1]), PERCENT)

    return [
        *(rate(key) for key in ("read_bytes", "write_bytes", "reads", "writes")),
        p99_s("read", "local"),
        p99_s("write", "local"),
        p99_s("write", "peer"),
        number(mapping(told.get("sync")).get("rate_bytes_s")),
    ]


def percentile_s(now: Mapping[str, Any], before: Mapping[str, Any], percent: int) -> float | None:
    """Of what was added in between, from the buckets of both."""
    counts = rates.added(rates.buckets_in(before), rates.buckets_in(now))
    return None if counts is None else rates.percentile_s(counts, percent)
