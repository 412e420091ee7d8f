"""Every job on every contestant, in turns: what is compared ran one after the other."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contestant import Contestant, Maker
from bench.jobs import FILL, Job, Outcome, run
from bench.processes import counting_system_calls, cpu_s

COUNT_S = 1
"""Length of a run in which system calls are counted."""


@dataclass(slots=True)
class Series:
    """Of one job on one contestant, a figure for each round. `cpu_us`: processor time of all its processes for one
    operation; 0 where nothing was done. `system_calls` for one operation, counted in a run of its own."""

    value: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    p999_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    system_calls: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome, used_s: float) -> None:
        self.value.append(outcome.value)
        self.p50_us.append(outcome.p50_us)
        self.p99_us.append(outcome.p99_us)
        self.p999_us.append(outcome.p999_us)
        self.cpu_us.append(1e6 * used_s / outcome.operations if outcome.operations else 0.0)


Figures = dict[str, dict[str, Series]]
"""By contestant, by job."""


def contest(
    makers: Sequence[Maker],
    jobs: Sequence[Job],
    rounds: int,
    seconds: int,
    thorough: bool = False,
) -> Figures:
    """Start them side by side, each in a directory of its own, measure, and end them. `thorough`: every block was
    written before, and system calls are counted, too. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-") as directory, contextlib.ExitStack() as running:
        contestants = []
        for number, make in enumerate(makers):
            contestants.append(make(Path(directory) / str(number)))
            running.callback(contestants[-1].close)
        if thorough:
            for contestant in contestants:
                run(FILL, contestant.uris, 0)
        figures = measure(contestants, jobs, rounds, seconds)
        if thorough:
            count(contestants, jobs, figures)
        return figures


def count(contestants: Sequence[Contestant], jobs: Sequence[Job], figures: Figures) -> None:
    """A short run more of each, for the system calls. Raises LabError."""
    for job in jobs:
        for contestant in contestants:
            with counting_system_calls(contestant.pids) as counted:
                outcome = run(job, contestant.uris, COUNT_S)
            if counted.value is not None and outcome.operations:
                figures[contestant.name][job.name].system_calls.append(counted.value / outcome.operations)


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
    outcome = run(job, contestant.uris, seconds)
    used_s = cpu_s(contestant.pids) - before_s
    series.add(outcome, used_s)
    print(
        f"{heading}  {job.name:<24} {contestant.name:<16} {outcome.value:>9.0f} {job.unit:<6}"
        f" p50 {outcome.p50_us:>7.0f} p99 {outcome.p99_us:>8.0f} us  cpu {series.cpu_us[-1]:>6.1f} us",
        flush=True,
    )


def as_json(figures: Figures) -> dict[str, Any]:
    """For a file."""
    return {name: {job: _rounded(series) for job, series in jobs.items()} for name, jobs in figures.items()}


def _rounded(series: Series) -> dict[str, list[float]]:
    return {name: rounded(values) for name, values in asdict(series).items()}


def rounded(values: Sequence[float]) -> list[float]:
    """As many places as anybody reads."""
    return [round(value, 2) for value in values]
