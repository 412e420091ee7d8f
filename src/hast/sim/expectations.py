"""Actions that expect something of the pair within bounded time: a link, an answer, the end of a dead link.

Each returns False where it cannot be expected, because nobody serves or somebody holds writes on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hast.replication.types import WRITE

if TYPE_CHECKING:
    from hast.sim.run import Run


def expect_link(run: Run, seconds: float = 6.0) -> bool:
    """S9: two nodes that reach each other connect."""
    if run.engine() is None or not run.cluster.network_up:
        return False
    if not run.world.run_till(run.linked, seconds):
        run.truth.wrong(f"S9: the nodes reach each other, and are not connected within {seconds:g} s")
    return True


def expect_answer(run: Run, seconds: float = 4.0) -> bool:
    """S10: all that was asked for is answered, with whatever; where nothing was, a write. Without extensions a copy may
    begin anew once meanwhile, because its first flush tells of an earlier one."""
    seconds = seconds if run.cluster.features else 2 * seconds
    engine = run.engine()
    if engine is None or not run.cluster.admitting or engine.writes.frozen == "by hand":
        return False
    run.clients.rest()
    if not run.clients.open:
        run.clients.submit(WRITE, 0, 1)
    if not run.world.run_till(lambda: not run.clients.open, seconds):
        run.truth.wrong(f"S10: {run.clients.open} operations are not answered within {seconds:g} s")
    return True


def expect_drop(run: Run, seconds: float = 6.0) -> bool:
    """S10: a link that fell silent is missed, though nobody uses it. A reference peer need not answer anything."""
    link = run.cluster.link
    if link is None or not link.silent or not run.features:
        return False
    if not run.world.run_till(lambda: not link.alive, seconds):
        run.truth.wrong(f"S10: the peer vanished {seconds:g} s ago, and is not missed")
    return True
