"""Many runs on all cores, one for each seed, and what they came to. A failing run is told at once, with the command
that repeats it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hast.format.constants import Replication
from hast.sim.families import Family, draw
from hast.sim.run import execute

CHUNK = 8
PR_SET_PDEATHSIG = 1


class Outcome(NamedTuple):
    """One run, as it is sent from one process to another."""

    seed: int
    what: str
    wrong: list[str]
    simulated_s: float
    answered: int
    steps: list[str]
    disasters: list[str]
    states: set[str]


class Job(NamedTuple):
    seed: int
    family: Family | None = None
    replication: Replication | None = None


def run_job(job: Job) -> Outcome:
    schedule = draw(*job)
    result = execute(schedule)
    names = schedule.note.split(", ")
    family = job.family or ("chaos" if not schedule.strict else "plain")
    what = f"{family}{'' if schedule.extensions else ' without extensions'}, {schedule.replication}, {schedule.note}"
    return Outcome(
        job.seed, what, result.wrong, result.simulated_s, result.answered, result.steps, names, result.states
    )


@dataclass
class Totals:
    """What all runs so far came to."""

    runs: int = 0
    answered: int = 0
    simulated_s: float = 0.0
    failed: list[Outcome] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    disasters: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.answered += outcome.answered
        self.simulated_s += outcome.simulated_s
        self.steps.update(outcome.steps)
        self.disasters.update(outcome.disasters)
        self.states.update(outcome.states)
        if outcome.wrong:
            self.failed.append(outcome)

    def summary(self, seconds: float) -> str:
        """Many lines."""
        return "\n".join(
            (
                f"disasters: {_listed(self.disasters)}",
                f"actions: {_listed(self.steps)}",
                f"states reached: {_listed(self.states)}",
                f"{self.runs} runs, {len(self.failed)} failed; {self.simulated_s / 3600:.2f} simulated hours, "
                f"{self.answered} operations; {seconds:.0f} s, {self.runs / max(seconds, 0.001):.1f} runs a second",
            )
        )


def campaign(
    jobs: Sequence[Job],
    processes: int,
    tell: Callable[[Outcome], None],
    stop_after: int = 0,
    totals: Totals | None = None,
) -> Totals:
    """Run them all, on so many processes; `tell` hears of every failing run. `stop_after` so many failures, if set.
    `totals`: those of earlier runs, which these are added to."""
    totals = Totals() if totals is None else totals
    for outcome in _outcomes(jobs, processes):
        totals.add(outcome)
        if outcome.wrong:
            tell(outcome)
            if stop_after and len(totals.failed) >= stop_after:
                break
    return totals


def as_helper(maker: int) -> None:
    """What every helping process does first: it ends with the one that made it, and says nothing about it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != maker:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def timed(work: Callable[[], Totals]) -> tuple[Totals, float]:
    began_s = time.monotonic()
    return work(), time.monotonic() - began_s


def _outcomes(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    if processes <= 1:
        yield from map(run_job, jobs)
        return
    with multiprocessing.get_context("fork").Pool(processes, as_helper, (os.getpid(),)) as pool:
        yield from pool.imap_unordered(run_job, jobs, CHUNK)


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def runs(first: int, seeds: int) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """The runs of `make sim`, in its order: each with its name, and a call that carries it out and returns what went
    wrong."""
    for seed in range(first, first + seeds):
        yield f"seed {seed}", lambda seed=seed: run_job(Job(seed)).wrong  # type: ignore[misc]
