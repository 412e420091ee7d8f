"""Split brain in the simulator: both nodes write apart, one gives up, disasters strike meanwhile, clients go on."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from hast.format.constants import OUR_FEATURES, Feature, Role
from hast.replication.primary import Primary
from hast.sim import disasters
from hast.sim.clients import Clients
from hast.sim.scenario import Run

DISASTERS = (
    disasters.link_flap,
    disasters.link_flaps_quickly,
    disasters.primary_worker_killed,
    disasters.secondary_worker_killed,
    disasters.secondary_power_cut,
)


def stop_serving(run: Run, name: str) -> None:
    """Clients leave, the primary is drained and becomes secondary."""
    clients, node = run.clients, run.cluster.nodes[name]
    clients.working = False
    engine = node.engine
    assert isinstance(engine, Primary)
    engine.drain(run.world.now)
    node.pump()
    limit = run.world.now + 30.0
    while not engine.drained and run.world.now < limit:
        run.world.run_until(run.world.now + 0.05)
    assert engine.drained
    clients.server_gone()
    run.cluster.demote(name)


def write_apart(run: Run, name: str, seconds: float) -> None:
    run.cluster.promote(name, force=True)
    run.clients.working = True
    run.wait(seconds)
    run.world.run_until(run.world.now + 0.5)
    stop_serving(run, name)


def order_discard(run: Run, name: str) -> None:
    """As `hastctl resolve --discard-local`: durable before it is reported."""
    disk = run.cluster.nodes[name].disk
    disk.write_metadata(replace(disk.metadata, discard=True))
    disk.end_flush(disk.begin_flush())


def torn(seed: int, features: Feature, winner: str) -> Run:
    """Both nodes wrote apart; `winner` serves and the other is a secondary without an order."""
    run = Run(seed, features=features)
    run.start()
    run.wait(2.0)
    assert run.wait_in_step()
    stop_serving(run, "a")
    run.cluster.network_up = False
    clients: Clients = run.clients
    common = copy.deepcopy(clients.history)
    write_apart(run, "a", 2.0)
    of_a, clients.history = clients.history, common
    write_apart(run, "b", 2.0)
    of_b = clients.history
    clients.history = of_a if winner == "a" else of_b
    run.cluster.promote(winner, force=True)
    assert run.cluster.roles["b" if winner == "a" else "a"] is Role.SECONDARY
    run.cluster.network_up = True
    return run


@pytest.mark.parametrize("winner", ["a", "b"])
@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE], ids=["ours", "reference"])
def test_apart_is_always_noticed(features: Feature, winner: str) -> None:
    for seed in range(2):
        run = torn(seed, features, winner)
        run.world.run_until(run.world.now + 10.0)
        assert run.cluster.split_brains >= 3
        assert run.clients.wrong == []


@pytest.mark.parametrize("winner", ["a", "b"])
@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE], ids=["ours", "reference"])
def test_what_the_winner_acknowledged_is_kept_and_the_copies_become_equal(features: Feature, winner: str) -> None:
    for seed in range(5):
        run = torn(seed, features, winner)
        order_discard(run, "b" if winner == "a" else "a")
        run.clients.working = True
        for _ in range(3):
            run.rng.choice(DISASTERS)(run)
            run.wait(1.0)
        run.cluster.split_brains = 0
        assert sum("are thrown away" in line for line in run.world.log) >= 1
        assert run.verdict() == [], f"seed {seed}:\n" + "\n".join(run.world.log[-60:])
