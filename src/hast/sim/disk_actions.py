"""What may be done to a disk: actions like those in `actions.py`, which lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hast.format.constants import Role
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Lead
from hast.sim.disk import STORE, Disk
from hast.sim.node import Node
from hast.sim.small import fresh_metadata

if TYPE_CHECKING:
    from hast.sim.run import Run

OPERATIONS = {"read": READ, "write": WRITE, "flush": FLUSH, "store": STORE, "zero": ZERO, "discard": DELETE}
ANSWER_S = 0.03
"""How long a disk that answers again takes for what it was asked meanwhile."""


def fail(run: Run, node: str, op: str, count: int = 1) -> None:
    """The next operations of this kind fail with EIO; what a failed flush covered never reaches the medium."""
    run.failures_seen = sum(each.disk.failed for each in run.cluster.nodes.values())
    run.node(node).disk.failures[OPERATIONS[op]] = count


def slow(run: Run, node: str, factor: float) -> None:
    """The disk takes its time."""
    run.node(node).disk.slowness = factor


def break_disk(run: Run, node: str) -> bool:
    """The disk fails for good, at a time when the other copy has everything."""
    target = run.node(node)
    serving = target.name == run.cluster.serving
    if not (run.peer_whole() if serving else run.protected()):
        return False
    target.disk.broken = True
    return True


def replace_disk(run: Run, node: str) -> bool:
    """Another disk, on which `hastctl create` is run: everything is copied. A primary swaps the roles first."""
    target = run.node(node)
    other = run.cluster.other(target)
    if not target.up or not other.up:
        return False
    if target.name == run.cluster.serving:
        if not target.disk.broken:
            return False
        run.clients.server_gone()
        run.cluster.demote(target.name, Role.INIT)
        if not run.cluster.may_promote(other.name) and not still_stale(run, other):
            run.truth.wrong("the copy that took over from a broken disk may not be used")
        run.cluster.promote(other.name, force=True)
    elif not (target.disk.broken or run.protected()):
        return False
    else:
        run.cluster.demote(target.name, Role.INIT)
    run.world.run_for(0.5)
    target.disk.recreate(fresh_metadata(), target.rng)
    target.flush_doubtful, target.lead = False, Lead.AS_RECORDED
    run.truth.apart[target.name].clear()
    run.cluster.roles[target.name] = Role.SECONDARY
    return True


def hang(run: Run, node: str) -> bool:
    """The disk answers nothing any more. In a reference pair the peer cannot be told that it leads from then on."""
    disk = run.node(node).disk
    if disk.hung or not run.node(node).up or not run.features:
        return False
    disk.hung = True
    return True


def answer(run: Run, node: str, errors: bool = False) -> bool:
    """It answers again, in any order; `errors`: what it was asked fails, once, if the other copy has all that clients
    were told."""
    target = run.node(node)
    if errors and run.strict:
        other = run.cluster.other(target).disk
        errors = run.history.wrong(0, other.data(), run.world.now, run.world.now) is None
    return answer_again(run, target, errors)


def answer_again(run: Run, node: Node, errors: bool = False) -> bool:
    disk = node.disk
    if not disk.hung:
        return False
    disk.hung = False
    sleeping, disk.asleep = disk.asleep, []
    node.rng.shuffle(sleeping)
    if errors:
        disk.failures = dict.fromkeys(disk.failures, len(sleeping))
        run.world.after(ANSWER_S, _fails_no_more, disk)
    for go_on in sleeping:
        run.world.after(node.rng.random() * ANSWER_S, go_on)
    return True


def _fails_no_more(disk: Disk) -> None:
    disk.failures = dict.fromkeys(disk.failures, 0)


def detach(run: Run, node: str) -> bool:
    """hastctl detach."""
    return run.cluster.disk_orders.detach(run.node(node))


def attach(run: Run, node: str) -> bool:
    """hastctl attach."""
    return run.cluster.disk_orders.attach(run.node(node))


def replace_live(run: Run, node: str) -> bool:
    """hastctl replace, while the resource serves. Not where what is on this disk alone would be lost."""
    target = run.node(node)
    if run.strict and not _can_be_spared(run, target):
        return False
    return bool(run.features) and run.cluster.disk_orders.replace(target)


def _can_be_spared(run: Run, node: Node) -> bool:
    """The other copy has all that was acknowledged."""
    engine = run.engine()
    if node.name == run.cluster.serving:
        return run.peer_whole()
    return engine is not None and engine.core.local_ok and not engine.map.owed_local and not engine.core.meta.stale


def still_stale(run: Run, node: Node) -> bool:
    """A copy that was stale once, and filled by a reference primary, is told only later that it is good again."""
    return not run.features and node.disk.metadata.stale
