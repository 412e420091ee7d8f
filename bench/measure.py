"""Every job on every contestant, in turns: what is compared ran one after the other."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contestants import Contestant
from bench.jobs import Job, run
from bench.processes import cpu_s


@dataclass(slots=True)
class Series:
    """Of one job on one contestant, a figure for each round. `cpu_us`: processor time of all its processes for one
    operation; 0 where nothing was done."""

    value: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


Figures = dict[str, dict[str, Series]]
"""By contestant, by job."""


def contest(makers: Sequence[Callable[[Path], Contestant]], jobs: Sequence[Job], rounds: int, seconds: int) -> Figures:
    """Start them side by side, each in a directory of its own, measure, and end them. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-") as directory, contextlib.ExitStack() as running:
        contestants = []
        for number, make in enumerate(makers):
            contestants.append(make(Path(directory) / str(number)))
            running.callback(contestants[-1].close)
        return measure(contestants, jobs, rounds, seconds)


def measure(contestants: Sequence[Contestant], jobs: Sequence[Job], rounds: int, seconds: int) -> Figures:
    """Who comes first changes from round to round. Raises LabError."""
    figures: Figures = {contestant.name: {job.name: Series() for job in jobs} for contestant in contestants}
    for number in range(rounds):
        for job in jobs:
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                _one(contestant, job, seconds, figures[contestant.name][job.name], f"round {number + 1}")
    return figures


def _one(contestant: Contestant, job: Job, seconds: int, series: Series, heading: str) -> None:
    before_s = cpu_s(contestant.pids)
    outcome = run(job, contestant.uri, seconds)
    used_s = cpu_s(contestant.pids) - before_s
    series.value.append(outcome.value)
    series.p50_us.append(outcome.p50_us)
    series.p99_us.append(outcome.p99_us)
    series.cpu_us.append(1e6 * used_s / outcome.operations if outcome.operations else 0.0)
    print(
        f"{heading}  {job.name:<20} {contestant.name:<12} {outcome.value:>9.0f} {job.unit:<6}"
        f" p50 {outcome.p50_us:>7.0f} p99 {outcome.p99_us:>8.0f} us  cpu {series.cpu_us[-1]:>6.1f} us",
        flush=True,
    )


def as_json(figures: Figures) -> dict[str, Any]:
    """For a file."""
    return {name: {job: asdict(series) for job, series in jobs.items()} for name, jobs in figures.items()}
