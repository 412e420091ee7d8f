"""Comparing both copies, and a block that goes bad on one: actions like those in `actions.py`, which lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hast.sim.disk import SECTOR_BYTES

if TYPE_CHECKING:
    from hast.sim.node import Node
    from hast.sim.run import Run

UNROT_S = 2.0


def verify(run: Run, repair: bool = False) -> bool:
    """As `hastctl verify`."""
    engine, node = run.engine(), run.cluster.primary()
    if engine is None or node is None or engine.begin_verify(repair, run.world.now):
        return False
    node.pump()
    return True


def stop_verify(run: Run) -> bool:
    engine, node = run.engine(), run.cluster.primary()
    if engine is None or node is None:
        return False
    engine.stop_verify(run.world.now)
    node.pump()
    return True


def rot(run: Run, sector: int) -> bool:
    """The secondary's disk changes a sector and says nothing."""
    engine = run.engine()
    if engine is None or not run.in_step() or run.clients.working or engine.map.armed:
        return False
    _flip(run.node("secondary"), sector)
    run.truth.rotten = (run.node("secondary").name, sector)
    return True


def unrot(run: Run) -> bool:
    """What nobody found, or had the time to repair, is as it was."""
    if run.truth.rotten is None:
        return False
    stop_verify(run)
    engine = run.engine()
    run.world.run_till(lambda: engine is None or engine.verify.idle, UNROT_S)
    name, sector = run.truth.rotten
    run.truth.rotten = None
    bad = run.cluster.nodes[name]
    place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
    if bad.disk.data()[place] != run.cluster.other(bad).disk.data()[place]:
        _flip(bad, sector)
    return True


def _flip(node: Node, sector: int) -> None:
    place = node.disk.metadata.offset_bytes + sector * SECTOR_BYTES
    for image in (node.disk.view, node.disk.medium, node.disk.taken):
        image[place] ^= 0xFF
