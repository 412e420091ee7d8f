"""What may be done to a pair, each action by its name and with plain arguments: the vocabulary of a schedule.

An action decides by what is true when it is carried out: whether a loss has to be excused, and whether there is
anything to act upon. One that finds nothing to do returns False.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hast.format.constants import Role
from hast.replication.primary import Primary
from hast.replication.standing import Record
from hast.replication.sync import Stage
from hast.replication.types import WRITE
from hast.sim import disk_actions, verify_actions
from hast.sim.clients import Habits
from hast.sim.disk import SECTOR_BYTES
from hast.sim.disk_actions import OPERATIONS, still_stale
from hast.sim.expectations import expect_answer, expect_drop, expect_link
from hast.sim.node import Node
from hast.sim.small import EXTENT_BYTES

if TYPE_CHECKING:
    from hast.sim.run import Run

PROMOTE_AGAIN_S = 4.0
LONE_DRAIN_S = 8.0
"""Nobody is waited for but the arbiter, which refuses within 3 s, and a slow disk."""

# -- time and clients -------------------------------------------------------------------------------------------


def work(run: Run, **habits: Any) -> None:
    """Clients work, in this way."""
    run.clients.work(Habits(**habits))


def rest(run: Run) -> None:
    """Clients fall silent."""
    run.clients.rest()


def wait(run: Run, seconds: float = 0.0) -> None:
    run.world.run_for(seconds)


def until(run: Run, what: str, most_s: float) -> bool:
    """Go on at the very moment at which this becomes true, if it does so in time."""
    begin = UNTIL[what](run)
    return run.world.run_till(begin, most_s)


def events(run: Run, count: int) -> None:
    """So many things happen: an operation of a disk ends, a message arrives, a client asks, a timer fires."""
    run.world.run_events(count)


def operation(run: Run, op: str, sector: int = 0, sectors: int = 1, fua: bool = False) -> None:
    """One operation of a client."""
    run.clients.submit(OPERATIONS[op], sector, sectors, fua)


def write_beside_copy(run: Run) -> bool:
    """A client writes to that part of an extent that is copied already, while the rest of it is not."""
    extent = _half_copied(run)
    if extent < 0:
        return False
    run.clients.submit(WRITE, extent * EXTENT_BYTES // SECTOR_BYTES, 1)
    return True


def settle(run: Run) -> None:
    """Clients rest until both copies are equal; compare."""
    run.settle()


def _counts(get: Callable[[Run], int]) -> Callable[[Run], Callable[[], bool]]:
    def begin(run: Run) -> Callable[[], bool]:
        before = get(run)
        return lambda: get(run) > before

    return begin


def _stage(*stages: Stage) -> Callable[[Run], Callable[[], bool]]:
    def begin(run: Run) -> Callable[[], bool]:
        def there() -> bool:
            engine = run.engine()
            return engine is not None and engine.sync.stage in stages

        return there

    return begin


def _copied(run: Run) -> Callable[[], bool]:
    def there() -> bool:
        engine = run.engine()
        return engine is not None and engine.sync.stage is Stage.COPYING and engine.sync.done_bytes > 0

    return there


def _half_copied(run: Run) -> int:
    """An extent of which one piece is copied and another was not begun, or -1."""
    engine = run.engine()
    if engine is None or engine.sync.stage is not Stage.COPYING:
        return -1
    for extent, progress in engine.sync._extents.items():
        if progress.left == 0 and not progress.failed and extent << engine.map.shift < progress.next < progress.end:
            return extent
    return -1


def _between_pieces(run: Run) -> Callable[[], bool]:
    """Something is copied that no flush covers, and neither a piece nor a flush is under way."""

    def there() -> bool:
        engine = run.engine()
        if engine is None or engine.sync.stage is not Stage.COPYING:
            return False
        return engine.sync._unflushed > 0 and engine.sync._in_flight == 0 and not engine.barrier.running

    return there


def _in_handshake(run: Run) -> Callable[[], bool]:
    def there() -> bool:
        engine = run.engine()
        return run.cluster.link is not None and engine is not None and not engine.core.connected

    return there


def _unconnected(run: Run) -> Callable[[], bool]:
    def there() -> bool:
        engine = run.engine()
        return engine is None or not engine.core.connected

    return there


def _going_ahead(run: Run) -> Callable[[], bool]:
    def there() -> bool:
        engine = run.engine()
        return engine is not None and engine.standing.ahead is Record.UNDER_WAY

    return there


def _giving_lead(run: Run) -> Callable[[], bool]:
    def there() -> bool:
        engine = run.engine()
        return engine is not None and engine.standing.peer_leads is Record.UNDER_WAY

    return there


UNTIL: dict[str, Callable[[Run], Callable[[], bool]]] = {
    "acknowledged": _counts(lambda run: run.clients.writes_answered),
    "flushed": _counts(lambda run: run.clients.flushes_answered),
    "opening": _stage(Stage.OPENING),
    "copying": _stage(Stage.COPYING),
    "copied": _copied,
    "between pieces": _between_pieces,
    "half copied": lambda run: lambda: _half_copied(run) >= 0,
    "flushing": _stage(Stage.FLUSHING),
    "closing": _stage(Stage.CLOSING),
    "handshake": _in_handshake,
    "connected": lambda run: run.linked,
    "unconnected": _unconnected,
    "protected": lambda run: run.protected,
    "in step": lambda run: run.in_step,
    "primary stores": lambda run: lambda: run.node("primary").storing,
    "secondary stores": lambda run: lambda: run.node("secondary").storing,
    "primary flushes": lambda run: lambda: run.node("primary").flushing,
    "secondary flushes": lambda run: lambda: run.node("secondary").flushing,
    "going ahead": _going_ahead,
    "giving lead": _giving_lead,
    "disk failed": lambda run: lambda: sum(n.disk.failed for n in run.cluster.nodes.values()) > run.failures_seen,
}

# -- the network ------------------------------------------------------------------------------------------------


def network(run: Run, up: bool) -> None:
    """The cable is pulled, or plugged in."""
    run.cluster.network_up = up
    if not up:
        run.cluster.cut("cable pulled")


def cut(run: Run) -> bool:
    """The connections die; the next attempt succeeds."""
    was = run.cluster.link is not None
    run.cluster.cut("connection lost")
    return was


def silence(run: Run) -> bool:
    """Packets are lost without a word; only the engine's own patience ends the connection."""
    link = run.cluster.link
    if link is None:
        return False
    link.silent = True
    return True


def latency(run: Run, seconds: float) -> None:
    """Another route, on which a message takes up to so long."""
    run.cluster.cut("another route")
    run.cluster.latency_s = seconds


def rate(run: Run, bytes_s: int) -> None:
    """The limit on a synchronisation is changed live; 0 for none."""
    run.cluster.settings = replace(run.cluster.settings, sync_rate_bytes_s=bytes_s)
    engine = run.engine()
    if engine is not None:
        engine.reconfigure(run.cluster.settings, run.world.now)


def balance_reads(run: Run) -> None:
    """Both copies serve reads from now on."""
    run.cluster.settings = replace(run.cluster.settings, read_balancing=True)
    engine = run.engine()
    if engine is not None:
        engine.reconfigure(run.cluster.settings, run.world.now)


# -- hosts and processes ----------------------------------------------------------------------------------------


def kill(run: Run, node: str, resend: bool = False) -> bool:
    """kill -9 of the worker; a primary's is started again at once, a secondary's at the next connection. Where hastd is
    dead as well it is not, and a copy that only a worker in office may use may be left: then a person has to choose.

    `resend`: the process takes its time to end, and what it did not answer is sent to the next one.
    """
    target = run.node(node)
    if not target.up or (target.name in run.cluster.orphans.names and not run.strict):
        return False
    if target.name == run.cluster.serving:
        if resend and target.name not in run.cluster.orphans.names | run.cluster.stopping:
            run.clients.worker_gone()
        else:
            run.clients.server_gone()
        unprotected = run.is_async or not run.protected() or not run.cluster.other(target).has_disk
        if (target.flushing or target.flush_doubtful) and unprotected:
            # Should this flush fail, the kernel tells the dead: only the peer could make up for it (docs/testing.md).
            run.clients.doubt_unflushed()
    run.cluster.restart_worker(target.name, resend)
    return True


def power_off(run: Run, node: str, keep: float = 0.5) -> bool:
    """Power cut; `keep`: the chance of each cached sector to have reached the medium."""
    target = run.node(node)
    if not target.up:
        return False
    serving = target.name == run.cluster.serving
    if serving:
        other = run.cluster.other(target)
        cut_off = other.name in run.cluster.orphans.names or not other.has_disk  # nobody there lets it in at its return
        if run.strict and (run.is_async or cut_off or not run.protected()):
            run.clients.doubt_unflushed()
        if cut_off or not run.features:
            run.truth.excuse_unled(target)
        run.clients.server_gone()
    engine = run.engine()
    if serving:
        alone = run.truth.is_rewritten(run.cluster.other(target))
    else:
        alone = engine is None or bool(engine.map.owed_local) or not engine.core.local_ok
    gone = run.cluster.crash(target.name, keep)
    if not run.strict or alone:
        run.truth.excuse_lost(target, gone)
    return True


def power_on(run: Run, node: str) -> bool:
    """The host boots and takes the role it had, if its copy may still be used in it; else the other serves."""
    target = run.node(node)
    if target.up:
        return False
    target.boot()
    if run.cluster.roles[target.name] is Role.INIT:  # it was nothing when it lost its power, and hastd starts with it
        run.cluster.roles[target.name] = Role.SECONDARY
    if run.cluster.roles[target.name] is Role.PRIMARY:
        run.cluster.roles[target.name] = Role.SECONDARY
        if not _serve(run, target):
            run.truth.states.add("the other serves after a power cut")
            _serve(run, run.cluster.other(target))
    return True


def _serve(run: Run, node: Node) -> bool:
    """Promote it without force; a node that serves apart from the other would not be given up for it."""
    other = run.cluster.other(node)
    if run.cluster.roles[other.name] is Role.PRIMARY and other.up:
        return False
    return node.up and not node.disk.broken and _promoted(run, node)


def _promoted(run: Run, node: Node, force: bool = False) -> bool:
    """In async mode the other may have acknowledged what this node never received."""
    if run.is_async and node.name != run.cluster.serving:
        run.clients.doubt_unconfirmed()
    return run.cluster.promote(node.name, force)


def take_over(run: Run, keep: float = 0.5) -> bool:
    """The primary loses power, and the other takes over if its copy may be used; the first returns as secondary."""
    node = run.node("primary")
    engine = run.engine()
    peer = run.cluster.other(node)
    if engine is None or not run.linked() or not peer.up:
        return False
    whole = run.peer_whole() and (bool(run.features) or run.protected())
    outbound = engine.sync.stage in (Stage.COPYING, Stage.FLUSHING) and not engine.map.owed_local
    copying = bool(run.features) and outbound and not engine.core.peer_whole
    if not (whole or copying):
        return False
    if run.is_async:
        run.clients.doubt_unconfirmed()
    if not whole:
        run.clients.doubt_unflushed()
    run.clients.server_gone()
    run.cluster.crash(node.name, keep)
    run.cluster.roles[node.name] = Role.SECONDARY
    if copying:
        run.truth.states.add("fail-over during a synchronisation")
        if run.cluster.may_promote(peer.name):
            run.truth.wrong(f"S7: {peer.name} may be used in the middle of a synchronisation")
        node.boot()
        return _back(run, node, peer)
    run.truth.states.add("fail-over")
    if not _promote_in_time(run, peer):
        run.truth.states.add("fail-over refused")
        if not run.schedule.arbiter and not still_stale(run, peer):
            run.truth.wrong(f"{peer.name} cannot take over, although its copy is whole")
        node.boot()
        return _back(run, node, peer)
    run.world.run_for(1.0)
    node.boot()
    return True


def take_over_unlinked(run: Run, keep: float = 0.5) -> bool:
    """The primary loses power when the link is gone already, and nothing was written since: the copies are equal."""
    node, engine = run.node("primary"), run.engine()
    peer = run.cluster.other(node)
    if engine is None or run.cluster.link is not None or not peer.up or run.clients.open:
        return False
    if engine.map.owed_remote or engine.map.owed_local or node.disk.data() != peer.disk.data():
        return False
    run.clients.server_gone()
    run.cluster.crash(node.name, keep)
    run.cluster.roles[node.name] = Role.SECONDARY
    promoted = _promote_in_time(run, peer)
    if promoted:
        run.truth.states.add("fail-over without a link")
        run.world.run_till(lambda: run.cluster.admitting, PROMOTE_AGAIN_S)
    node.boot()
    return promoted or _back(run, node, peer)


def _back(run: Run, node: Node, peer: Node) -> bool:
    """The node that lost its power serves on: in async mode nobody gives back what its cache lost."""
    if run.is_async:
        run.clients.doubt_unflushed()
    if not _promote_in_time(run, node):
        run.truth.states.add("nobody could serve after a fail-over")
        _promote_in_time(run, peer)
    return True


def _promote_in_time(run: Run, node: Node) -> bool:
    """As failover does: again and again for a while, since a lease has to end first."""
    limit_s = run.world.now + PROMOTE_AGAIN_S
    while True:
        if run.cluster.promote(node.name):
            return True
        if run.world.now >= limit_s or not run.cluster.may_promote(node.name):
            return False
        run.world.run_for(0.5)


def site_power_off(run: Run, keep: float = 0.5) -> bool:
    """Both hosts lose power; only the secondary comes back at first, and serves."""
    node = run.node("primary")
    peer = run.cluster.other(node)
    if run.is_async or not run.protected() or not node.up:
        return False
    run.clients.doubt_unflushed()
    run.clients.server_gone()
    run.cluster.crash(node.name, keep)
    run.cluster.crash(peer.name, keep)
    run.cluster.roles[node.name] = Role.SECONDARY
    run.world.run_for(0.5)
    peer.boot()
    if not _promote_in_time(run, peer):
        node.boot()
        return _back(run, node, peer)
    run.world.run_for(1.0)
    node.boot()
    return True


def stop(run: Run, node: str) -> bool:
    """SIGTERM of hastd; it goes on while other things happen."""
    target, cluster = run.node(node), run.cluster
    busy = target.name in cluster.stopping | cluster.stopped
    if busy or not target.up or cluster.roles[target.name] is Role.INIT:
        return False
    cluster.stop_hastd(target.name)
    return True


def start(run: Run, node: str) -> bool:
    """hastd is started again, as secondary."""
    name = run.node(node).name
    if name not in run.cluster.stopped:
        return False
    run.cluster.start_hastd(name)
    return True


def kill_hastd(run: Run, node: str) -> bool:
    """kill -9 of hastd alone: its workers go on."""
    target, cluster = run.node(node), run.cluster
    gone = cluster.stopping | cluster.stopped | cluster.orphans.names
    if target.name in gone or not target.up or not cluster.admitting or cluster.roles[target.name] is Role.INIT:
        return False
    cluster.orphans.died(target.name)
    return True


def restart_hastd(run: Run) -> bool:
    """Wherever hastd is dead the next one begins, and takes over what it finds."""
    for name in sorted(run.cluster.orphans.names):
        run.cluster.orphans.back(name)
    return True


def stop_cut_short(run: Run, keep: float = 0.5) -> bool:
    """The primary loses its power in the middle of its stop."""
    node = run.node("primary")
    if node.name not in run.cluster.stopping or run.engine() is None:
        return False
    run.heir = run.peer_whole() and (bool(run.features) or run.protected())
    if run.is_async or not run.protected():
        run.clients.doubt_unflushed()
    run.clients.server_gone()
    rewritten = run.truth.is_rewritten(run.cluster.other(node))
    gone = run.cluster.crash(node.name, keep)
    if rewritten:
        run.truth.excuse_lost(node, gone)
    run.cluster.roles[node.name] = Role.SECONDARY
    run.truth.states.add("power cut in the middle of a stop")
    return True


def succeed(run: Run) -> bool:
    """The other node takes over from one that stops, has stopped, or died while it stopped; in bounded time."""
    cluster = run.cluster
    node = run.node("primary")
    peer = cluster.other(node)
    going = node.name in cluster.stopping or node.name in cluster.stopped or not node.up
    if not going or not peer.up or peer.name in cluster.stopping | cluster.stopped:
        return False
    if node.name in cluster.stopped and not run.heir:
        return False
    departure = cluster.departures[peer.name]
    limit_s = max(departure.until_s or 0.0, run.world.now) + PROMOTE_AGAIN_S
    while not _may_succeed(run, node) or not cluster.promote(peer.name):
        if not run.heir and node.name not in cluster.stopping:
            return False
        if run.world.now >= limit_s:
            if run.heir and not run.schedule.arbiter and not still_stale(run, peer):
                run.truth.wrong(f"{peer.name} cannot take over from {node.name}, although it is gone")
            return False
        run.world.run_for(0.2)
    run.truth.states.add("taken over from a node that stopped")
    return True


def _may_succeed(run: Run, node: Node) -> bool:
    """Only a whole peer asks for the role, also while the other still lets go."""
    return run.peer_whole() if node.name in run.cluster.stopping else run.heir


def switch(run: Run) -> bool:
    """Drain the primary and swap the roles, if the other has everything; else the same serves on."""
    node, engine = run.node("primary"), run.engine()
    if engine is None:
        return False
    began_s, alone = run.world.now, run.cluster.link is None
    if not run.cluster.drain(node.name):
        run.truth.wrong("S10: a demotion did not come to its end")
    if alone and run.world.now - began_s > LONE_DRAIN_S:
        run.truth.wrong(f"S10: a demotion without a peer took more than {LONE_DRAIN_S:g} s")
    if node.engine is not engine or run.cluster.roles[node.name] is not Role.PRIMARY:
        return False
    habits, working = run.clients.habits, run.clients.working
    run.clients.rest()
    if run.clients.open:
        run.truth.wrong(f"S10: a demotion ended with {run.clients.open} operations unanswered")
    run.clients.server_gone()
    peer = run.cluster.other(node)
    good = run.peer_whole() and peer.up and run.cluster.may_promote(peer.name)
    run.cluster.demote(node.name)
    if not (good and _promote_in_time(run, peer)):
        _back(run, node, peer)
    if working:
        run.clients.work(habits)
    return True


def promote(run: Run, node: str, force: bool = False) -> bool:
    """By hand, whatever the other is."""
    target = run.node(node)
    if not target.up or run.cluster.roles[target.name] is Role.PRIMARY or not target.disk.metadata.resuid:
        return False
    return _promoted(run, target, force)


def demote(run: Run, node: str) -> bool:
    """Drain it, then make it secondary."""
    target = run.node(node)
    if run.cluster.roles[target.name] is not Role.PRIMARY or not target.up:
        return False
    if not run.cluster.drain(target.name):
        run.truth.wrong("S10: a demotion did not come to its end")
    if run.cluster.roles[target.name] is Role.PRIMARY:
        if target.name == run.cluster.serving:
            run.clients.server_gone()
        run.cluster.demote(target.name)
    return True


# -- who may serve ------------------------------------------------------------------------------------------------


def reach(run: Run, node: str, up: bool) -> None:
    """A node can, or cannot, talk to the arbiter."""
    run.cluster.witness.reach[run.node(node).name] = up


def arbiter_delay(run: Run, seconds: float) -> None:
    """The arbiter takes up to so long to answer."""
    run.cluster.witness.delay_s = seconds


def restart_arbiter(run: Run) -> None:
    """The witness starts again from what it keeps."""
    run.cluster.witness.restart()


def back_up_arbiter(run: Run) -> None:
    """Somebody copies what the witness keeps."""
    run.cluster.witness.back_up()


def restore_arbiter(run: Run) -> None:
    """The witness starts again from that copy, and knows nothing of what came after."""
    run.cluster.witness.restore()


def freeze(run: Run) -> bool:
    """By hand: hold all that would change data."""
    engine = run.engine()
    if engine is None:
        return False
    engine.freeze("by hand", run.world.now)
    return True


def thaw(run: Run) -> bool:
    engine, node = run.engine(), run.cluster.primary()
    if engine is None or node is None:
        return False
    engine.thaw(run.world.now)
    node.pump()
    return True


def write_apart(run: Run, node: str, sector: int) -> bool:
    """A client of this very node writes one sector."""
    return run.clients.write_directly(run.node(node).name, sector) is not None


def expect_split_brain(run: Run, seconds: float = 6.0) -> bool:
    """One node served while the other did: where both acknowledged a write, no handshake may succeed."""
    for name in ("a", "b"):
        if not run.truth.lacked_by_other(name):
            return False
    run.truth.states.add("split brain")
    run.split_brain_due = True
    before = {name: node.disk.data_area() for name, node in run.cluster.nodes.items()}
    found = run.cluster.split_brains
    run.world.run_for(seconds)
    if run.cluster.split_brains < found + 2:
        run.truth.wrong(f"S8: split brain was found {run.cluster.split_brains - found} times in {seconds:g} s")
    for name, node in run.cluster.nodes.items():
        if node.disk.data_area() != before[name] and not run.clients.working:
            run.truth.wrong(f"S8: the copy of {name} was changed in a split brain")
    return True


def discard(run: Run, node: str) -> bool:
    """As `hastctl resolve --discard-local` on a secondary: what it alone has is given up at the next handshake."""
    target = run.node(node)
    if run.cluster.roles[target.name] is Role.PRIMARY or not target.idle:
        return False
    ordered = replace(target.disk.metadata, discard=True)
    target.stop()
    run.cluster.cut("resolve")
    target.disk.write_metadata(ordered)
    target.disk.store_metadata(ordered)
    run.truth.apart[target.name].clear()
    return True


def _takes_from_peer(run: Run) -> bool:
    """The serving node's own copy is not the truth yet."""
    engine = run.engine()
    return engine is not None and bool(engine.map.owed_local)


def forget(run: Run) -> None:
    """Clients take what the serving node holds for the truth; what was written apart counts no more.

    Where the other holds something else, and nothing says that it is old, the write was not answered yet. Both disks
    are written out: what a power cut uncovers must not be older than the truth.
    """
    run.world.run_till(lambda: not _takes_from_peer(run), 30.0)
    for node in run.cluster.nodes.values():
        node.disk.end_flush(node.disk.begin_flush())
    run.truth.together()
    here = run.node("primary")
    answered = here if run.truth.is_ahead(here) else run.cluster.other(here)
    run.history.restart(answered.disk.data(), here.disk.data(), run.world.now)
    run.clients.start_over()


# -- the repair ---------------------------------------------------------------------------------------------------


def heal(run: Run) -> None:
    """Everything that can be repaired without a new disk is."""
    cluster = run.cluster
    cluster.network_up = True
    cluster.latency_s = 0.003
    cluster.witness.reach = {"a": True, "b": True}
    cluster.witness.delay_s = 0.05
    rate(run, run.schedule.sync_rate_bytes_s)
    restart_hastd(run)
    run.world.run_till(lambda: not cluster.stopping, 60.0)
    for name in list(cluster.stopped):
        cluster.start_hastd(name)
    for node in cluster.nodes.values():
        disk_actions.answer_again(run, node)
        node.disk.failures = dict.fromkeys(node.disk.failures, 0)
        node.disk.slowness = 1.0
        if not node.up:
            power_on(run, node.name)
        if node.disk.broken:
            disk_actions.replace_disk(run, node.name)
    if cluster.link is not None and cluster.link.silent:
        cluster.cut("the host that fell silent resets the connection")
    engine = run.engine()
    if engine is not None and engine.writes.frozen == "by hand":
        thaw(run)
    mend_disks(run)
    if run.cluster.primary() is None:
        for name in (cluster.serving, cluster.other(cluster.nodes[cluster.serving]).name):
            if _serve_in_time(run, cluster.nodes[name]):
                break
        else:
            _choose_by_hand(run)


def mend_disks(run: Run) -> None:
    """Attach what was taken out of service, or answers again; have another worker take what failed."""
    orders = run.cluster.disk_orders
    for node in run.cluster.nodes.values():
        core = node.engine.core if isinstance(node.engine, Primary) else None
        if node.detached or (core is not None and core.local_away):
            orders.attach(node)
        elif core is not None and not (core.local_ok or orders.is_busy(node)):
            kill(run, node.name)


def _choose_by_hand(run: Run) -> None:
    """A person uses a copy that none but a person may use, of two that all records speak against.

    Both say that they are stale, the one that a reference primary filled without reason. Or the one that the arbiter
    has on record says so itself: its power failed before the arbiter heard that the other is whole again.
    """
    cluster = run.cluster
    last = cluster.nodes[cluster.serving]
    other = cluster.other(last)
    filled = not run.features and still_stale(run, other)
    on_record = run.schedule.arbiter and cluster.witness.sole == last.name and not other.metadata.stale
    mixed = other.metadata.inconsistent and not cluster.is_guess(other.metadata)
    if last.metadata.stale and (filled or on_record) and not mixed:
        run.truth.states.add("a copy is chosen by hand")
        _promoted(run, other, force=True)


def _serve_in_time(run: Run, node: Node) -> bool:
    limit_s = run.world.now + PROMOTE_AGAIN_S
    while not _serve(run, node):
        if run.world.now >= limit_s:
            return False
        run.world.run_for(0.5)
    return run.cluster.primary() is not None


ACTIONS: dict[str, Callable[..., bool | None]] = {
    action.__name__.replace("_", " "): action
    for action in (
        work,
        rest,
        wait,
        until,
        events,
        operation,
        write_beside_copy,
        settle,
        network,
        cut,
        silence,
        latency,
        rate,
        balance_reads,
        kill,
        power_off,
        power_on,
        take_over,
        take_over_unlinked,
        site_power_off,
        stop,
        start,
        kill_hastd,
        restart_hastd,
        stop_cut_short,
        succeed,
        switch,
        promote,
        demote,
        disk_actions.fail,
        disk_actions.slow,
        disk_actions.break_disk,
        disk_actions.replace_disk,
        disk_actions.hang,
        disk_actions.answer,
        disk_actions.detach,
        disk_actions.attach,
        disk_actions.replace_live,
        verify_actions.verify,
        verify_actions.stop_verify,
        verify_actions.rot,
        verify_actions.unrot,
        reach,
        arbiter_delay,
        restart_arbiter,
        back_up_arbiter,
        restore_arbiter,
        freeze,
        thaw,
        write_apart,
        expect_split_brain,
        discard,
        forget,
        expect_link,
        expect_answer,
        expect_drop,
        heal,
    )
}
