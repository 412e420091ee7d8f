"""Each disaster by name, in each mode, on a few seeds; `python -m hast.sim` runs them by the thousand."""

from __future__ import annotations

import pytest

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim import partition
from hast.sim.chaos import chaos_run
from hast.sim.disasters import DISASTERS, Disaster
from hast.sim.random_run import random_run
from hast.sim.scenario import Run


@pytest.mark.parametrize("replication", list(Replication), ids=str)
@pytest.mark.parametrize("disaster", DISASTERS, ids=lambda disaster: disaster.__name__)
def test_pair_survives(disaster: Disaster, replication: Replication) -> None:
    seed = DISASTERS.index(disaster) + 1
    wrong, run = random_run(seed, replication, OUR_FEATURES, strikes=1, disasters=[disaster])
    assert not wrong, "\n".join(run.world.log[-40:])
    assert run.clients.answered > 100


@pytest.mark.parametrize("disaster", DISASTERS, ids=lambda disaster: disaster.__name__)
def test_pair_without_our_extensions_survives(disaster: Disaster) -> None:
    wrong, run = random_run(7, Replication.FULLSYNC, Feature.NONE, strikes=1, disasters=[disaster])
    assert not wrong, "\n".join(run.world.log[-40:])


@pytest.mark.parametrize("replication", list(Replication), ids=str)
@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE], ids=["ours", "reference"])
@pytest.mark.parametrize("seed", [11])
def test_pair_survives_one_disaster_after_another(seed: int, features: Feature, replication: Replication) -> None:
    wrong, run = random_run(seed, replication, features)
    assert not wrong, "\n".join(run.world.log[-40:])


@pytest.mark.parametrize("replication", list(Replication), ids=str)
def test_failures_upon_failures_leave_equal_copies_and_nothing_unanswered(replication: Replication) -> None:
    wrong, run = chaos_run(1, replication)
    assert not wrong, "\n".join(run.world.log[-40:])


@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE], ids=["ours", "reference"])
@pytest.mark.parametrize("seed", [1, 2])
def test_s8_two_nodes_that_served_apart_are_never_merged(seed: int, features: Feature) -> None:
    run = Run(seed, Replication.FULLSYNC, features)
    run.start()
    run.wait(1.0)
    assert not partition.both_serve(run)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_s11_arbiter_lets_one_node_go_on(seed: int) -> None:
    run = Run(seed, Replication.FULLSYNC, arbiter=True)
    run.start()
    run.wait(1.0)
    assert not partition.arbiter_chooses(run)


@pytest.mark.parametrize("replication", [Replication.FULLSYNC, Replication.MEMSYNC], ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_s11_what_the_arbiter_held_is_answered_when_the_peer_is_back(seed: int, replication: Replication) -> None:
    run = Run(seed, replication, arbiter=True)
    run.start()
    run.wait(1.0)
    assert not partition.arbiter_refuses_for_a_while(run)


def test_virgin_pair_takes_over_what_was_written_before_the_other_was_there() -> None:
    run = Run(5)
    run.start(alone=True)
    run.wait(3.0)
    run.cluster.nodes["b"].boot()
    assert run.wait_protected()
    assert not run.verdict()
    assert not run.clients.errors


def test_same_seed_repeats_the_run() -> None:
    logs = [random_run(3, strikes=2)[1].world.log for _ in range(2)]
    assert logs[0] == logs[1]
