"""Disasters drawn by a seed, each repaired before the next."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim.disasters import DISASTERS, Disaster, strike
from hast.sim.scenario import Run


def random_run(
    seed: int,
    replication: Replication = Replication.FULLSYNC,
    features: Feature = OUR_FEATURES,
    strikes: int = 4,
    disasters: Sequence[Disaster] = DISASTERS,
) -> tuple[list[str], Run]:
    """`strikes` disasters out of `disasters`; returns what went wrong, and the run."""
    run = Run(seed, replication, features, arbiter=seed % 3 == 0)
    try:
        run.start(alone=seed % 4 == 0)
        run.wait(2.0)
        if not run.cluster.nodes["b"].up:
            run.cluster.nodes["b"].boot()
            run.wait_protected()
        return _strike(run, strikes, disasters), run
    except AssertionError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return [f"assertion at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {error}"], run


def _strike(run: Run, strikes: int, disasters: Sequence[Disaster]) -> list[str]:
    for _ in range(strikes):
        strike(run, run.rng.choice(disasters))
        run.end_trouble()
        if run.rng.random() < 0.5 and not run.wait_in_step():
            return [*run.clients.wrong, "the copies did not become equal"]
    return run.verdict()
