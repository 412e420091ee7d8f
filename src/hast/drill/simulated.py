"""What the simulator says of a site: no rule broken in thousands of seeds of its mode, and what double failures cost in
every mode, with and without an arbiter. The engine is the real one; disks, network, clock and clients are not.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hast.drill.decisions.result import Cost, Simulated
from hast.format.constants import Replication, Role
from hast.sim.campaign import Job, Totals, as_helper, campaign
from hast.sim.families import draw
from hast.sim.node import Node
from hast.sim.run import Run
from hast.sim.schedule import Schedule, Step
from hast.sim.small import small_constants

PROTECTED_S = 5.0
ALONE_S = (0.3, 1.5)
"""Between the two failures: so long clients write on."""
PROMOTE_S = 12.0
ASK_AGAIN_S = 0.5
BATCH = 100
MIN_STRIKES, MAX_STRIKES = 10, 20
"""Runs of each double failure in each setting."""


@dataclass(frozen=True, slots=True)
class Double:
    """Two failures in the simulator. `first` strikes while both copies are whole; then the primary is lost."""

    name: str
    does: str
    first: tuple[Step, ...]
    mended: tuple[Step, ...] = ()
    """What is well again when the survivor is asked to serve."""
    together: bool = False


def _step(kind: str, **arguments: str | float | bool) -> Step:
    return Step(0.0, kind, arguments)


LATENCY_S = 0.02
"""Of the network, at most: a peer a town away."""
AIM = _step("until", what="acknowledged", most_s=0.5)
"""The worst moment: a client has just been told that its data is written."""
DOUBLES = (
    Double("primary", "power cut of the primary alone", (), together=True),
    Double("link_then_primary", "link lost, then power cut of the primary", (_step("network", up=False),)),
    Double(
        "secondary_then_primary",
        "power cut of the secondary, then of the primary; the secondary is back alone",
        (_step("power off", node="secondary", keep=0.0),),
        (_step("power on", node="secondary"),),
    ),
    Double(
        "both",
        "power cut of both at once; the secondary is back alone",
        (_step("power off", node="secondary", keep=0.0),),
        (_step("power on", node="secondary"),),
        together=True,
    ),
    Double(
        "resync_then_primary",
        "power cut of the primary while it makes the secondary whole again",
        (_step("network", up=False), Step(0.8, "network", {"up": True}), _step("until", what="copying", most_s=3.0)),
        together=True,
    ),
)


def simulate(
    seeds: int, replication: Replication, arbiter: bool, processes: int, limit_s: float, tell: Callable[[str], None]
) -> Simulated:
    """What double failures cost in every setting, then the campaign in the site's own, for `limit_s` at most."""
    began_s = time.monotonic()
    found = costs(max(MIN_STRIKES, min(MAX_STRIKES, seeds // 50)), processes)
    totals = run_campaign(seeds, replication, arbiter, processes, limit_s, tell)
    return Simulated(
        seeds=totals.runs,
        operations=totals.answered,
        simulated_s=totals.simulated_s,
        seconds=time.monotonic() - began_s,
        replication=replication,
        arbiter=arbiter,
        broken=tuple(f"seed {each.seed} ({each.what}): {each.wrong[0]}" for each in totals.failed),
        costs=found,
    )


def run_campaign(
    seeds: int, replication: Replication, arbiter: bool, processes: int, limit_s: float, tell: Callable[[str], None]
) -> Totals:
    """So many runs in this mode, with or without an arbiter, or as many as `limit_s` allow; a broken rule is told."""
    totals = Totals()
    until_s = time.monotonic() + limit_s
    seed = 0
    while totals.runs < seeds and time.monotonic() < until_s:
        jobs: list[Job] = []
        while len(jobs) < min(BATCH, seeds - totals.runs):
            if draw(seed, None, replication).arbiter == arbiter:
                jobs.append(Job(seed, None, replication))
            seed += 1
        campaign(jobs, processes, lambda outcome: tell(f"seed {outcome.seed}: {outcome.wrong[0]}"), totals=totals)
    return totals


def costs(seeds: int, processes: int) -> tuple[Cost, ...]:
    """Every double failure in every setting, so many times."""
    cells = [(each, mode, arbiter, seeds) for each in DOUBLES for mode in Replication for arbiter in (False, True)]
    if processes <= 1:
        return tuple(cost(*cell) for cell in cells)
    with multiprocessing.get_context("fork").Pool(processes, as_helper, (os.getpid(),)) as pool:
        return tuple(pool.starmap(cost, cells, 1))


def cost(double: Double, replication: Replication, arbiter: bool, seeds: int) -> Cost:
    """One cell of the table."""
    results = [strike(double, replication, arbiter, seed) for seed in range(seeds)]
    taken = [lost for lost in results if lost is not None]
    return Cost(
        double.name,
        replication,
        arbiter,
        len(results),
        len(taken),
        sum(lost.flushed > 0 for lost in taken),
        sum(lost.acknowledged > 0 for lost in taken),
    )


class Sectors(NamedTuple):
    """By number: what was flushed last, and what was acknowledged last; 0 for nothing. Or how many of each are gone."""

    flushed: Any
    acknowledged: Any


def strike(double: Double, replication: Replication, arbiter: bool, seed: int) -> Sectors | None:
    """How many sectors the survivor does not have as they were promised; None where it does not serve."""
    schedule = Schedule(seed, replication, (), arbiter=arbiter, strict=False)
    chance = random.Random(f"drill {double.name} {replication} {arbiter} {seed}")
    with small_constants():
        run = Run(schedule)
        run.cluster.latency_s = LATENCY_S
        run.carry_out(_step("work", gap_s=0.01, flushes=0.3, fua=0.3, reads=0.0))
        run.carry_out(_step("until", what="protected", most_s=PROTECTED_S))
        run.world.run_for(chance.random())
        if double.together:
            run.carry_out(AIM)
        promised = _promised(run)
        for step in double.first:
            run.carry_out(step)
        if not double.together:
            run.world.run_for(chance.uniform(*ALONE_S))
            run.carry_out(AIM)
        if not (double.together and double.mended):
            promised = _promised(run)
        survivor = run.node("secondary")
        run.clients.rest()
        run.cluster.cut("a power cut: what its kernel had not sent yet is lost")
        run.carry_out(_step("power off", node="primary", keep=0.0))
        run.cluster.roles["a"] = Role.SECONDARY
        for step in double.mended:
            run.carry_out(step)
        return _lost(run, survivor, promised) if _promoted(run, survivor) else None


def _promoted(run: Run, node: Node) -> bool:
    """As failover does: asked again and again for a while, never by force."""
    until_s = run.world.now + PROMOTE_S
    while run.world.now < until_s:
        if run.cluster.roles[node.name] is Role.PRIMARY or run.cluster.promote(node.name):
            return True
        run.world.run_for(ASK_AGAIN_S)
    return False


def _promised(run: Run) -> Sectors:
    flushed, acknowledged = [], []
    for known in run.history.sectors:
        flushed.append(next((write.value for write in reversed(known) if write.safe), 0))
        acknowledged.append(next((write.value for write in reversed(known) if math.isfinite(write.ended_s)), 0))
    return Sectors(flushed, acknowledged)


def _lost(run: Run, node: Node, promised: Sectors) -> Sectors:
    image = node.disk.data().cast("Q")
    return Sectors(*(_older(run, image, values) for values in promised))


def _older(run: Run, image: memoryview, values: Sequence[int]) -> int:
    """How many sectors hold something older than this."""
    place = run.history.place
    return sum(
        place(number, found) < place(number, value)
        for number, (value, found) in enumerate(zip(values, image, strict=True))
        if value
    )
