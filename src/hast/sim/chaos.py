"""Failures upon failures, none repaired before the next: more than any pair survives without loss.

What has to hold all the same: no assertion fails, the copies become equal again, and every operation is answered.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.replication.types import FLUSH, READ, WRITE
from hast.sim.scenario import Run

STRIKES = 60
PAUSE_S = 0.4


def _cut(run: Run) -> None:
    run.cluster.cut("chaos")


def _network(run: Run) -> None:
    run.cluster.network_up = not run.cluster.network_up
    if not run.cluster.network_up:
        run.cluster.cut("chaos")


def _silence(run: Run) -> None:
    if run.cluster.link is not None:
        run.cluster.link.silent = True


def _fail(op: int) -> Callable[[Run], None]:
    def strike(run: Run) -> None:
        run.cluster.nodes[run.rng.choice("ab")].disk.failures[op] = run.rng.randint(1, 2)

    return strike


def _slow(run: Run) -> None:
    run.cluster.nodes[run.rng.choice("ab")].disk.slowness = run.rng.choice((1.0, 1.0, 10.0))


def _kill_primary(run: Run) -> None:
    run.clients.server_gone()
    run.cluster.restart_worker("a")


def _kill_secondary(run: Run) -> None:
    run.cluster.restart_worker("b")


def _power(run: Run) -> None:
    node = run.cluster.nodes["b"]
    if node.up:
        run.cluster.crash("b")
    else:
        node.boot()


def _freeze(run: Run) -> None:
    engine = run.cluster.engine()
    assert engine is not None, "node a always serves"
    engine.freeze("chaos", run.world.now)
    run.wait(PAUSE_S)
    engine = run.cluster.engine()
    assert engine is not None, "node a always serves"
    engine.thaw(run.world.now)
    run.cluster.nodes["a"].pump()


PRIMITIVES: tuple[Callable[[Run], None], ...] = (
    _cut,
    _cut,
    _network,
    _silence,
    _fail(READ),
    _fail(WRITE),
    _fail(FLUSH),
    _slow,
    _kill_primary,
    _kill_secondary,
    _power,
    _freeze,
)


def chaos_run(
    seed: int, replication: Replication = Replication.FULLSYNC, features: Feature = OUR_FEATURES
) -> tuple[list[str], Run]:
    """Node a serves all the time; returns what went wrong, and the run."""
    run = Run(seed, replication, features, arbiter=seed % 3 == 0)
    try:
        run.start()
        for _ in range(STRIKES):
            run.rng.choice(PRIMITIVES)(run)
            run.wait(PAUSE_S)
        return _verdict(run), run
    except AssertionError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return [f"assertion at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {error}"], run


def _verdict(run: Run) -> list[str]:
    run.end_trouble()
    if not run.wait_in_step():
        return ["the copies did not become equal"]
    wrong = []
    if run.clients.open:
        wrong.append(f"{run.clients.open} operations were never answered")
    images = [node.disk.data_area() for node in run.cluster.nodes.values()]
    if images[0] != images[1]:
        wrong.append("S9: the data areas differ although everything is in step")
    if run.cluster.split_brains:
        wrong.append("S8: split brain, although only one node served")
    return wrong
