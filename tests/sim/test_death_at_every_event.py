"""A worker, a hastd, or both of a node die after every single event of a busy while: nothing is lost, requests are
answered once, and the pair is whole again."""

from __future__ import annotations

import pytest

from hast.format.constants import Replication
from hast.sim.disasters.service import VICTIMS, death_after
from hast.sim.run import execute
from hast.sim.schedule import Schedule, Step

EVENTS = 80
"""About 50 ms of the load below: every operation of either disk, every message, request and timer."""
BEGIN = (
    Step(0.0, "work", {"gap_s": 0.006, "batch": 4, "flushes": 0.1, "spread": 60}),
    Step(0.0, "until", {"what": "protected", "most_s": 5.0}),
)
AGAIN = (
    Step(0.1, "network", {"up": False}),
    Step(0.3, "network", {"up": True}),
    Step(0.0, "until", {"what": "copying", "most_s": 3.0}),
)


@pytest.mark.parametrize("copying", [False, True], ids=["in step", "copying"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_pair_survives_a_death_after_every_event(victim: str, copying: bool) -> None:
    begin = (*BEGIN, *AGAIN) if copying else BEGIN
    modes = list(Replication)
    for count in range(EVENTS):
        mode = modes[count % len(modes)]
        result = execute(Schedule(count, mode, (*begin, *death_after(count, victim))))
        assert not result.wrong, f"{mode}, {count} events: {result.wrong[0]}"
        assert "restart hastd" in result.steps
