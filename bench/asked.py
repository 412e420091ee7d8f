"""What was asked of the pair's speed, and what a record shows of it. No I/O.

A row's measure is None where the record lacks what it needs; a row that misses says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.ratios import ratio
from bench.verdict import LEAST, LEAST_PAIRS, compare

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """`limit` is the least, or with `at_most` the most; `measure` raises LookupError where the record lacks it.
    `beside`: the same figure on another interpreter, shown and not judged."""

    words: str
    limit: float
    measure: Callable[[Record], float]
    at_most: bool = False
    unit: str = ""
    places: int = 2
    in_words: str = ""
    beside: Callable[[Record], float] | None = None

    @property
    def asked(self) -> str:
        return self.in_words or f"{'≤' if self.at_most else '≥'} {self.limit:g}{self.unit}"

    def judge(self, record: Record) -> tuple[str, str]:
        """The measured figure, and `met` or `missed`; a stroke and `not measured`."""
        value = _measured(self.measure, record)
        if math.isnan(value):
            return "-", "not measured"
        met = value <= self.limit if self.at_most else value >= self.limit
        return self._shown(value), "met" if met else "**missed**"

    def aside(self, record: Record) -> str:
        """What stands beside it; empty where nothing does."""
        if self.beside is None:
            return ""
        value = _measured(self.beside, record)
        return "-" if math.isnan(value) else self._shown(value)

    def _shown(self, value: float) -> str:
        return f"{value:.{self.places}f}{self.unit}"


def _measured(measure: Callable[[Record], float], record: Record) -> float:
    try:
        return measure(record)
    except LookupError:
        return math.nan


def series(record: Record, section: str, contestant: str, job: str, figure: str = "value") -> list[float]:
    """A figure of each round. Raises KeyError."""
    found: list[float] = record["sections"][section][contestant][job][figure]
    return found


def _against(other: str, job: str) -> Callable[[Record, str], float]:
    return lambda record, ours: ratio(series(record, "main", ours, job), series(record, "main", other, job))


def _processor(record: Record, ours: str) -> float:
    return statistics.median(series(record, "main", ours, "4k randwrite QD32", "cpu_us"))


def _of(
    build: str, words: str, limit: float, measure: Callable[[Record, str], float], at_most: bool = False, unit: str = ""
) -> Wish:
    """Of one of our builds: on Debian's interpreter it is judged, on the checkout's it is shown."""
    judged, beside = BUILDS[build]
    return Wish(
        f"{words}, {build}",
        limit,
        lambda record: measure(record, judged),
        at_most,
        unit,
        places=1 if unit else 2,
        beside=lambda record: measure(record, beside),
    )


def _mode(mode: str, section: str = "modes") -> Callable[[Record], float]:
    """How many times as fast as fullsync; exactly 1 where that may be noise."""

    def measure(record: Record) -> float:
        full, other = (series(record, section, each, "4k randwrite QD1") for each in ("fullsync", mode))
        if len(full) < LEAST_PAIRS:
            raise LookupError("too few rounds to tell")
        verdict = compare(full, other)
        return verdict.ratio if verdict.moved else 1.0

    return measure


def _event(name: str, figure: str, over: str = "", scale: float = 1.0) -> Callable[[Record], float]:
    """The median of a figure, or of the rounds' ratios to another one."""

    def measure(record: Record) -> float:
        figures = record["events"][name]
        return scale * (ratio(figures[figure], figures[over]) if over else statistics.median(figures[figure]))

    return measure


COMPILED, PLAIN = "compiled", "plain Python"
BUILDS = {COMPILED: ("debian-compiled", "compiled"), PLAIN: ("debian", "hast")}
INTERPRETERS = (
    "What is asked of a build is judged on Debian's own python3, which users of the package run; beside it stands what "
    "the same build does on the checkout's interpreter."
)
FASTER = "measurably faster"
MEANWHILE = ("loaded_p99_us", "idle_p99_us")
STALL = ("longest_us", "", 1e-3)
JOINS = "longest wait of a client while a new disk of 8 TiB joins"
WISHES = (
    _of(COMPILED, "4k random writes, depth 32 / floor", 0.70, _against("floor", "4k randwrite QD32")),
    _of(PLAIN, "4k random writes, depth 32 / floor", 0.58, _against("floor", "4k randwrite QD32")),
    _of(COMPILED, "4k random writes, depth 32 / one copy", 0.50, _against("single", "4k randwrite QD32")),
    _of(COMPILED, "processor time of both nodes for such a write", 16, _processor, True, " µs"),
    _of(COMPILED, "4k random writes, depth 1 / floor", 0.75, _against("floor", "4k randwrite QD1")),
    _of(COMPILED, "4k random reads, depth 32 / one copy", 1.5, _against("single", "4k randread QD32")),
    _of(COMPILED, "128 KiB writes, depth 8 / one copy", 0.60, _against("single", "128k write QD8")),
    _of(COMPILED, "1 MiB writes, depth 8 / one copy", 0.60, _against("single", "1m write QD8")),
    Wish("memsync at depth 1, 1 ms round trip / fullsync", 1 + LEAST, _mode("memsync"), in_words=FASTER),
    Wish("the same on disks that take 1 ms", 1 + LEAST, _mode("memsync", "slow disks"), in_words=FASTER),
    Wish("async at depth 1, 1 ms round trip / fullsync", 1 + LEAST, _mode("async"), in_words=FASTER),
    Wish("a copy to a new disk / sequential writes, flushed alike", 0.8, _event("resync", "alone", "durable")),
    Wish("the same with 1 ms round trip", 0.8, _event("resync with 1 ms", "alone", "durable")),
    Wish("a copy to a new disk / sequential writes never flushed", 0.8, _event("resync", "alone", "sequential")),
    Wish("p99 of a client at depth 1 during a copy / before it", 2, _event("resync", *MEANWHILE), at_most=True),
    Wish(JOINS, 20, _event("join past the cache", *STALL), True, " ms", 0),
    Wish(f"{JOINS}, in files through the cache", 20, _event("join", *STALL), True, " ms", 0),
    Wish("wake-ups a second of an idle worker", 2, _event("idle", "worker"), at_most=True, places=1),
)
