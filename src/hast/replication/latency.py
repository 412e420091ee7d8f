"""How long reads, writes and flushes take on each copy: histograms since the worker began, for status and metrics.

Reads no clock. What is counted are samples, one operation of a kind at a time, and each flush, of which one at a time
is under way anyway; so a batch stays a batch. The peer's times are those seen from here: the network is in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hast.replication.types import Request

SAMPLE_EVERY_S = 0.005
BUCKETS = 128
FINE = 4
"""Buckets are a quarter of a power of two of microseconds wide."""
FIRST_BITS, LAST_BITS = 4, 24
"""Bounds that are shown: 16 µs to 16.8 s."""
LOCAL, PEER = "local", "peer"
READ, WRITE, FLUSH = "read", "write", "flush"


class Histogram:
    """Of times; nothing is kept of a single one."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self._buckets = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        us = max(0, int(seconds * 1e6))
        bits = us.bit_length()
        quarter = us >> (bits - 3) & 3 if bits >= 3 else 0
        self._buckets[min(FINE * bits + quarter, BUCKETS - 1)] += 1
        self.count += 1
        self.sum_s += max(0.0, seconds)

    def percentile_s(self, percent: int) -> float:
        """No more than a quarter too high; 0 when nothing was added."""
        left = self.count - self.count * (100 - percent) // 100
        for bucket, count in enumerate(self._buckets):
            left -= count
            if count and left <= 0:
                bits, quarter = divmod(bucket, FINE)
                return ((5 + quarter) << bits >> 3) / 1e6 if bits >= 3 else (1 << bits) / 1e6
        return 0.0

    def shown(self) -> list[tuple[float | None, int]]:
        """(upper bound in seconds, times below it and not below the one before); None is infinity."""
        by_bits = [sum(self._buckets[start : start + FINE]) for start in range(0, BUCKETS, FINE)]
        lowest = sum(by_bits[: FIRST_BITS + 1])
        middle = by_bits[FIRST_BITS + 1 : LAST_BITS + 1]
        bounds = [(1 << bits) / 1e6 for bits in range(FIRST_BITS, LAST_BITS + 1)]
        return [*zip(bounds, [lowest, *middle], strict=True), (None, sum(by_bits[LAST_BITS + 1 :]))]


class Latency:
    """Of one worker. What was never measured is not shown."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], Histogram] = {}

    def add(self, operation: str, copy: str, seconds: float) -> None:
        """`operation` is READ, WRITE or FLUSH, `copy` LOCAL or PEER."""
        histogram = self._times.get((operation, copy))
        if histogram is None:
            histogram = self._times[operation, copy] = Histogram()
        histogram.add(seconds)

    def status(self) -> dict[str, dict[str, object]]:
        """`latency` of the status object (docs/control.md)."""
        shown: dict[str, dict[str, object]] = {}
        for (operation, copy), times in self._times.items():
            shown.setdefault(operation, {})[copy] = {
                "count": times.count,
                "sum_s": round(times.sum_s, 6),
                "p50_s": times.percentile_s(50),
                "p99_s": times.percentile_s(99),
                "buckets": times.shown(),
            }
        return shown


class Sample:
    """The one request whose time is taken at the moment, if any."""

    def __init__(self) -> None:
        self.at_s = 0.0
        """From when on the next one may be taken; none while one is under way."""
        self.request: Request | None = None
        """Until the local disk has carried it out."""
        self.seq = 0
        """Until the peer has."""
        self._began_s = 0.0

    def begin(self, now: float, request: Request | None, seq: int = 0) -> None:
        """It went to the local disk (`request`) or to the peer (`seq`) just now."""
        self.request, self.seq = request, seq
        self._began_s = now
        self.at_s = float("inf")

    def ended(self, batch: Sequence[Request], now: float) -> float | None:
        """The local disk has carried these out; how long it took if the sample is among them, and is good."""
        request = self.request
        if request is None or request not in batch:
            return None
        seconds = self.end(now)
        return None if request.local_error else seconds

    def end(self, now: float) -> float:
        """It is over, or given up; how long it took."""
        self.request, self.seq = None, 0
        self.at_s = now + SAMPLE_EVERY_S
        return now - self._began_s
