"""The short form of `make sim`: fixed seeds over all families and modes; `python -m hast.sim` runs many more."""

from __future__ import annotations

import pytest

from hast.format.constants import Replication
from hast.sim.families import DISASTERS, Disaster, disaster_run, draw
from hast.sim.run import execute


@pytest.mark.parametrize("replication", list(Replication), ids=str)
@pytest.mark.parametrize("disaster", DISASTERS, ids=lambda disaster: disaster.__name__)
def test_pair_survives(disaster: Disaster, replication: Replication) -> None:
    result = execute(disaster_run(disaster, 1, replication))
    assert not result.wrong, "\n".join([*result.log[-40:], *result.wrong])
    assert result.answered > 10


def test_same_seed_repeats_the_run() -> None:
    first, second = (execute(draw(12)) for _ in range(2))
    assert first.log == second.log
