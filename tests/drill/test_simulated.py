"""What double failures cost, by the simulator: the known costs of known settings."""

from __future__ import annotations

import pytest

from hast.drill.simulated import DOUBLES, cost, run_campaign
from hast.format.constants import Replication

BY_NAME = {double.name: double for double in DOUBLES}
SEEDS = 6


@pytest.mark.parametrize("name", ["link_then_primary", "secondary_then_primary"])
def test_an_old_copy_serves_without_an_arbiter_and_not_with_one(name: str) -> None:
    without = cost(BY_NAME[name], Replication.FULLSYNC, False, SEEDS)
    assert (without.served, without.lossy) == (SEEDS, SEEDS)
    with_one = cost(BY_NAME[name], Replication.FULLSYNC, True, SEEDS)
    assert (with_one.served, with_one.lossy) == (0, 0)


def test_the_loss_of_the_primary_alone_costs_nothing_in_fullsync() -> None:
    found = cost(BY_NAME["primary"], Replication.FULLSYNC, False, SEEDS)
    assert (found.served, found.lossy, found.doubtful) == (SEEDS, 0, 0)


def test_in_async_mode_it_may_cost_what_was_not_flushed() -> None:
    found = cost(BY_NAME["primary"], Replication.ASYNC, False, 20)
    assert found.lossy == 0 < found.doubtful


def test_a_power_cut_of_both_takes_only_what_was_not_flushed() -> None:
    found = cost(BY_NAME["both"], Replication.FULLSYNC, False, SEEDS)
    assert (found.served, found.lossy) == (SEEDS, 0)


def test_a_copy_in_the_middle_of_a_resynchronisation_is_not_served() -> None:
    assert cost(BY_NAME["resync_then_primary"], Replication.FULLSYNC, False, SEEDS).served == 0


def test_the_campaign_runs_the_sites_mode_and_arbiter_only() -> None:
    told: list[str] = []
    totals = run_campaign(3, Replication.MEMSYNC, True, 1, 60.0, told.append)
    assert (totals.runs, totals.failed, told) == (3, [], [])


def test_the_campaign_ends_in_time() -> None:
    assert run_campaign(1000, Replication.MEMSYNC, True, 1, 0.0, print).runs == 0
