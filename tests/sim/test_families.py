"""The short form of `make sim`: fixed seeds over all families and modes, in parts that run side by side."""

from __future__ import annotations

import pytest

from hast.format.constants import Replication
from hast.sim.campaign import Job, run_job
from hast.sim.families import DISASTERS, Disaster, disaster_run, draw
from hast.sim.run import execute

PARTS = 24
RUNS_OF_A_PART = 21


@pytest.mark.parametrize("part", range(PARTS))
def test_pair_survives_what_these_seeds_bring(part: int) -> None:
    seeds = range(part * RUNS_OF_A_PART, (part + 1) * RUNS_OF_A_PART)
    outcomes = [run_job(Job(seed)) for seed in seeds]
    failed = [f"seed {outcome.seed} ({outcome.what}): {outcome.wrong[0]}" for outcome in outcomes if outcome.wrong]
    assert not failed, "repeat with `python -m hast.sim --seed N`:\n" + "\n".join(failed)


@pytest.mark.parametrize("replication", list(Replication), ids=str)
@pytest.mark.parametrize("disaster", DISASTERS, ids=lambda disaster: disaster.__name__)
def test_pair_survives(disaster: Disaster, replication: Replication) -> None:
    result = execute(disaster_run(disaster, 1, replication))
    assert not result.wrong, "\n".join([*result.log[-40:], *result.wrong])
    assert result.answered > 5


def test_same_seed_repeats_the_run() -> None:
    first, second = (execute(draw(12)) for _ in range(2))
    assert first.log == second.log
