"""What may happen to a pair, each by its name. One call is one failure, its repair included."""

from __future__ import annotations

from collections.abc import Callable

from hast.format.constants import Replication, Role
from hast.replication.primary import Primary
from hast.replication.types import FLUSH, READ, WRITE
from hast.sim.node import Node
from hast.sim.scenario import Run, fresh_metadata

Disaster = Callable[[Run], None]
DRAIN_S = 30.0


def link_flap(run: Run) -> None:
    """The cable is pulled and plugged in again."""
    run.cluster.network_up = False
    run.cluster.cut("cable pulled")
    run.wait(4.0)
    run.cluster.network_up = True


def link_flaps_quickly(run: Run) -> None:
    """The cable is loose: connections die within the handshake and within the synchronisation."""
    for _ in range(run.rng.randint(2, 8)):
        run.cluster.cut("loose cable")
        run.wait(1.2)


def link_falls_silent(run: Run) -> None:
    """Packets are lost without a word; only the engine's own patience ends the connection."""
    link = run.cluster.link
    if link is not None:
        link.silent = True
    run.wait(12.0)


def link_slow(run: Run) -> None:
    """A route with long and uneven delays."""
    run.cluster.cut("another route")
    run.cluster.latency_s = run.rng.choice((0.0005, 0.02, 0.1))
    run.wait(3.0)
    run.cluster.cut("the usual route")
    run.cluster.latency_s = 0.003


def primary_worker_killed(run: Run) -> None:
    """kill -9 of the primary's worker; the supervisor starts another."""
    node = run.cluster.primary()
    if node is not None:
        run.clients.server_gone()
        run.cluster.restart_worker(node.name)


def secondary_worker_killed(run: Run) -> None:
    """kill -9 of the secondary's worker; the next connection starts another."""
    node = run.cluster.primary()
    if node is not None:
        run.cluster.restart_worker(run.cluster.other(node).name)


def secondary_power_cut(run: Run) -> None:
    """The secondary loses power and comes back."""
    node = run.cluster.primary()
    if node is not None:
        peer = run.cluster.other(node)
        run.cluster.crash(peer.name)
        run.wait(3.0)
        peer.boot()


def primary_power_cut(run: Run) -> None:
    """The primary loses power and is started again as primary."""
    node = run.cluster.primary()
    if node is None:
        return
    if run.replication is Replication.ASYNC or not run.protected():
        run.clients.doubt_unflushed()
    run.clients.server_gone()
    run.cluster.crash(node.name)
    run.wait(3.0)
    node.boot()
    if run.cluster.may_promote(node.name):
        run.cluster.serve(node.name)
        return
    peer = run.cluster.other(node)
    run.cluster.roles[node.name] = Role.SECONDARY
    if not run.cluster.may_promote(peer.name):
        run.clients.complain("neither copy may be used after a power cut of the primary")
    run.cluster.promote(peer.name, force=True)


def fail_over(run: Run) -> None:
    """The primary loses power; the other takes over; the first returns as secondary."""
    node = run.cluster.primary()
    if node is None or not run.wait_protected(5.0) or run.cluster.primary() is not node:
        return
    peer = run.cluster.other(node)
    if not run.cluster.may_promote(peer.name):
        return
    if run.replication is Replication.ASYNC:
        run.clients.doubt_unconfirmed()
    run.clients.server_gone()
    run.cluster.crash(node.name)
    run.cluster.roles[node.name] = Role.SECONDARY
    run.wait(0.5)
    run.cluster.promote(peer.name, force=not run.features)
    run.wait(3.0)
    node.boot()


def planned_switch(run: Run) -> None:
    """Drain the primary, swap the roles."""
    if run.wait_in_step():
        _switch(run)
    run.clients.working = True


def switch_under_load(run: Run) -> None:
    """Swap the roles while clients are at work."""
    if run.wait_protected(5.0):
        _switch(run)


def _switch(run: Run) -> None:
    node = run.cluster.primary()
    if node is None or not isinstance(node.engine, Primary):
        return
    engine = node.engine
    engine.drain(run.world.now)
    node.pump()
    limit = run.world.now + DRAIN_S
    while not engine.drained and run.world.now < limit:
        run.world.run_until(run.world.now + 0.01)
    if not engine.drained:
        run.clients.complain("S10: a demotion did not come to its end")
    was_working, run.clients.working = run.clients.working, False
    if run.clients.open:
        run.clients.complain("S10: a demotion ended with operations unanswered")
    run.clients.server_gone()
    good = run.protected()
    run.cluster.demote(node.name)
    peer = run.cluster.other(node)
    chosen = peer if good and run.cluster.may_promote(peer.name) else node
    run.cluster.promote(chosen.name, force=chosen is node or not run.features)
    run.clients.working = was_working


def _some_node(run: Run) -> Node:
    return run.cluster.nodes[run.rng.choice(("a", "b"))]


def write_errors(run: Run) -> None:
    """Some writes on one node fail with EIO."""
    node = _some_node(run)
    run.world.note(f"{node.name}: the next writes fail")
    node.disk.failures[WRITE] = run.rng.randint(1, 3)
    run.wait(2.0)
    node.disk.failures[WRITE] = 0
    _mend(run)


def _mend(run: Run) -> None:
    """Without confirmation a copy that missed writes may also be the only one that has others: no second failure."""
    if run.replication is Replication.ASYNC:
        run.wait_protected(30.0)


def read_errors(run: Run) -> None:
    """Some reads on one node fail with EIO."""
    node = _some_node(run)
    node.disk.failures[READ] = run.rng.randint(1, 5)
    run.wait(2.0)
    node.disk.failures[READ] = 0


def flush_errors(run: Run) -> None:
    """A flush on one node fails, and what it covered will never reach the medium."""
    node = _some_node(run)
    run.world.note(f"{node.name}: the next flush fails")
    node.disk.failures[FLUSH] = 1
    run.wait(2.0)
    node.disk.failures[FLUSH] = 0
    _mend(run)


def slow_disk(run: Run) -> None:
    """One node's disk takes its time."""
    node = _some_node(run)
    node.disk.slowness = run.rng.choice((5.0, 50.0))
    run.wait(4.0)
    node.disk.slowness = 1.0


def secondary_disk_replaced(run: Run) -> None:
    """The secondary gets another disk, on which `hastctl create` is run: everything is copied."""
    node = run.cluster.primary()
    if node is None or not run.wait_protected(5.0):
        return
    _replace_disk(run, run.cluster.other(node))


def _replace_disk(run: Run, node: Node) -> None:
    run.cluster.roles[node.name] = Role.INIT
    run.cluster.cut("disk replaced")
    node.stop()
    run.wait(1.0)
    node.disk.recreate(fresh_metadata(), run.rng)
    run.cluster.roles[node.name] = Role.SECONDARY
    run.world.note(f"{node.name}: another disk")


def primary_disk_broken(run: Run) -> None:
    """The primary's disk fails for good: the peer serves on; then the roles are swapped and the disk is replaced."""
    node = run.cluster.primary()
    if node is None or not run.wait_protected(5.0) or run.cluster.primary() is not node:
        return
    run.world.note(f"{node.name}: the disk is broken")
    node.disk.broken = True
    run.wait(3.0)
    peer = run.cluster.other(node)
    run.clients.server_gone()
    run.cluster.cut("disk broken")
    node.stop()
    run.cluster.roles[node.name] = Role.INIT
    if not run.cluster.may_promote(peer.name):
        run.clients.complain("the copy that took over from a broken disk may not be used")
    run.cluster.promote(peer.name, force=True)
    run.wait(1.0)
    node.disk.recreate(fresh_metadata(), run.rng)
    run.cluster.roles[node.name] = Role.SECONDARY


def secondary_disk_broken(run: Run) -> None:
    """The secondary's disk fails for good and is replaced."""
    node = run.cluster.primary()
    if node is None or not run.wait_protected(5.0) or run.cluster.primary() is not node:
        return
    peer = run.cluster.other(node)
    run.world.note(f"{peer.name}: the disk is broken")
    peer.disk.broken = True
    run.wait(3.0)
    _replace_disk(run, peer)


DISASTERS: tuple[Disaster, ...] = (
    link_flap,
    link_flaps_quickly,
    link_falls_silent,
    link_slow,
    primary_worker_killed,
    secondary_worker_killed,
    secondary_power_cut,
    primary_power_cut,
    fail_over,
    planned_switch,
    switch_under_load,
    write_errors,
    read_errors,
    flush_errors,
    slow_disk,
    secondary_disk_replaced,
    primary_disk_broken,
    secondary_disk_broken,
)


def strike(run: Run, disaster: Disaster) -> None:
    """Clients work, the disaster happens, clients work on."""
    run.clients.working = True
    run.wait(1.5)
    run.world.note(f"-- {disaster.__name__}: {disaster.__doc__}")
    disaster(run)
    run.wait(3.0)
