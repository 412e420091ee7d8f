"""Two simulated hosts, the network between them, the handshake, roles and the arbiter, run on the real decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from hast.format.constants import OUR_FEATURES, PEER_LEAVES_SEQ, Feature, Role
from hast.replication.core import SYNC
from hast.replication.handshake import Accepted, Refused, SecondReplyValues, check_second_reply
from hast.replication.primary import Primary, Settings
from hast.replication.promotion import PeerState, may_serve, may_use_copy
from hast.replication.secondary import DISK_OPERATIONS, Secondary, SecondHello, SecondReply
from hast.replication.types import Event, Metadata
from hast.sim.arbiter import Dealings, Witness
from hast.sim.disk_orders import DiskOrders
from hast.sim.node import Node, Watcher
from hast.sim.orphans import Orphans
from hast.sim.provider import DISK_TIMEOUT_S
from hast.sim.world import World
from hast.supervisor.decisions import restart
from hast.supervisor.decisions.departure import Departure, PeerAnswer
from hast.supervisor.decisions.role_change import QUIET_LIMIT_S, STOP_MARGIN_S, leave_limit_s

RETRY_S = 1.0
NOTICE_S = 0.05
DRAIN_S = 30.0
KNOCK_S = 0.1
UNREACHABLE_WAIT_S = 0.7
TALKING_WAIT_S = 3.0
"""As in the worker's start gate."""
POLL_S = 0.002
DRAIN_POLL_S = 0.02
FAREWELL_S = 1.0
"""As in the workers."""


class Link:
    """One pair of connections: messages in order, each with its own delay, until it is cut.

    A `silent` link loses everything and tells nobody.
    """

    def __init__(self, cluster: Cluster, primary: Node, secondary: Node) -> None:
        self.primary = primary
        self.secondary = secondary
        self.primary_life = primary.life
        self.alive = True
        self.silent = False
        self.received: set[int] = set()
        """Requests that have reached the secondary, by their seq."""
        self._world = cluster.world
        self._rng = cluster.rng
        self._latency_s = cluster.latency_s
        self._to_secondary_s = self._to_primary_s = 0.0

    def to_secondary(self, deliver: Callable[..., None], *arguments: Any) -> None:
        """Deliver later, in order, if the link still lives by then."""
        now = self._world.now
        when_s = self._to_secondary_s = max(self._to_secondary_s, now + self._rng.random() * self._latency_s)
        self._world.after(when_s - now, self._arrive, deliver, arguments)

    def to_primary(self, deliver: Callable[..., None], *arguments: Any) -> None:
        """The same, the other way."""
        now = self._world.now
        when_s = self._to_primary_s = max(self._to_primary_s, now + self._rng.random() * self._latency_s)
        self._world.after(when_s - now, self._arrive, deliver, arguments)

    def _arrive(self, deliver: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.alive and not self.silent:
            deliver(*arguments)


class HandshakeWatcher(Watcher, Protocol):
    """Who compares what the handshake says with what is true."""

    def answers(self, primary: Node, secondary: Node, hello: SecondHello, reply: SecondReply) -> None:
        """Message 4 is about to be sent."""

    def cut(self, primary: Node) -> None:
        """The link of this primary is about to be lost."""
        ...

    def left(self, node: Node, drained: bool) -> None:
        """This node has let go in order, and its worker is about to end."""
        ...

    def serves(self, node: Node, forced: bool) -> None:
        """Clients of this node are let in."""
        ...

    def chosen(self, node: Node) -> None:
        """This node becomes primary, and nobody forced it."""
        ...


class Cluster:
    """Nodes `a` and `b`. Clients use the one that was promoted last, `serving`; a primary connects to a secondary."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        metadata: Metadata,
        watcher: HandshakeWatcher,
        features: Feature = OUR_FEATURES,
    ) -> None:
        self.world = world
        self.rng = world.stream("network")
        self.settings = settings
        self.features = features
        self.watcher = watcher
        self.latency_s = 0.003
        self.nodes = {name: Node(world, name, metadata) for name in ("a", "b")}
        self.roles = {"a": Role.INIT, "b": Role.INIT}
        self.serving = ""
        self.witness = Witness(world)
        self.dealings: dict[str, Dealings] = {}
        self.link: Link | None = None
        self.links = 0
        self.network_up = True
        self.split_brains = 0
        self.refusals: dict[str, int] = {}
        """How often a handshake, or a promotion, was refused for this reason."""
        self.admitting = True
        """Clients are let in: a new primary has tried to reach its peer."""
        self._entering: tuple[str, bool, bool] | None = None
        """(name, force, resume) of the primary whose clients wait."""
        self.stopping: set[str] = set()
        """Nodes whose hastd comes to its end in order."""
        self.stopped: set[str] = set()
        """Nodes whose hastd has ended: nobody answers there, though the host is up."""
        self.orphans = Orphans(self)
        self.disk_orders = DiskOrders(self)
        self.departures = {name: Departure() for name in self.nodes}
        """What each node heard of the other's going."""
        self.on_left: Callable[[Node], None] = lambda node: None
        self.on_served: Callable[[], None] = lambda: None
        """Clients are let in: what the kernel still waits for it sends again."""
        self.on_refused: Callable[[], None] = lambda: None
        """The role is given up, and the device with it."""
        self._unnoticed = 0
        """Links that are gone while their primary does not know it yet."""
        for node in self.nodes.values():
            node.shell = self
            node.watcher = watcher
        self._retry()

    def other(self, node: Node) -> Node:
        return self.nodes["b" if node.name == "a" else "a"]

    def primary(self) -> Node | None:
        """The serving node, if it is up and primary."""
        node = self.nodes.get(self.serving)
        return node if node is not None and node.up and self.roles[node.name] is Role.PRIMARY else None

    def engine(self) -> Primary | None:
        """Its engine."""
        node = self.primary()
        return node.engine if node is not None and isinstance(node.engine, Primary) else None

    def refused(self, reason: str) -> None:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    # -- roles --------------------------------------------------------------------------------------------------

    def may_promote(self, name: str) -> bool:
        """What the supervisor would say, without force, but for a guess."""
        meta = self.nodes[name].metadata
        if self.is_guess(meta):
            meta = replace(meta, inconsistent=False)
        return may_use_copy(meta, force=False, resume=False).allowed

    def is_guess(self, meta: Metadata) -> bool:
        """A reference primary does not tell its secondary when it copies: that this copy is inconsistent then may be
        wrong, and the operator knows better. Of what it took in as primary itself it knows."""
        return not self.features and meta.prevrole != Role.PRIMARY

    def promote(self, name: str, force: bool = False) -> bool:
        """Make this node primary, if the arbiter and its copy allow it. What it took as secondary is carried out
        first."""
        self.world.note(f"{name}: role primary{', by force' if force else ''}")
        if name in self.orphans.names:
            self.refused("promotion: hastd is dead")
            return False
        if not self.world.run_till(lambda: self.nodes[name].has_disk, DISK_TIMEOUT_S):
            self.refused("promotion: there is no disk")
            return False
        if not force and not self.may_promote(name):
            self.refused("promotion: the copy may not be used")
            return False
        if not force and not self._peer_lets_go(name):
            self.refused("promotion: the peer holds the role")
            return False
        if self.settings.arbiter:
            lease = self.witness.acquire(name, force)
            if lease is None:
                self.refused("promotion: the arbiter refuses")
                return False
            self._end_dealings(name)
            self.dealings[name] = Dealings(self.witness, _Patron(self, name), lease)
        if not force:
            self.watcher.chosen(self.nodes[name])
        self.cut("role change")
        node = self.nodes[name]
        self.world.run_till(lambda: node.idle, 10.0)
        self.roles[name] = Role.PRIMARY
        self.serving = name
        self.serve(name, force)
        return True

    def ask_peer(self, name: str) -> PeerAnswer:
        """What the other node answers to a message of this one: nothing, when it does not reach it."""
        peer = self.other(self.nodes[name])
        if not peer.up or not self.network_up or peer.name in self.stopped | self.orphans.names:
            return PeerAnswer.NONE
        return PeerAnswer.PRIMARY if self.roles[peer.name] is Role.PRIMARY else PeerAnswer.NOT_PRIMARY

    def _peer_lets_go(self, name: str) -> bool:
        """Before a promotion: wait for a peer that is connected, or said that it goes, as the supervisor does."""
        departure = self.departures[name]

        def gone() -> bool:
            now = self.world.now
            connected = self.link is not None and self.link.secondary.name == name
            if not (connected or departure.is_awaited(now)):
                return True
            return not departure.holds_role(self.ask_peer(name), now, connected)

        left_s = (departure.until_s or 0.0) - self.world.now
        return self.world.run_till(gone, max(self.settings.timeout_s, left_s) + RETRY_S)

    def stop_hastd(self, name: str) -> None:
        """SIGTERM of hastd: it lets go in order, step after step, and whatever happens meanwhile happens."""
        node = self.nodes[name]
        self.world.note(f"{name}: hastd stops")
        self.stopping.add(name)
        engine, now = node.engine, self.world.now
        if self.roles[name] is Role.PRIMARY and isinstance(engine, Primary):
            engine.leave(leave_limit_s(self.settings.timeout_s), now)
            engine.withhold(True, now)
            node.pump()
            self._await_quiet(node, node.life, now + QUIET_LIMIT_S)
            return
        link = self.link
        if link is not None and link.secondary is node and Feature.LEAVING in self.features:
            link.to_primary(self._replies, link, [(PEER_LEAVES_SEQ, 0, False, None)])
        self._await_end(node, node.life, now + FAREWELL_S)

    def start_hastd(self, name: str) -> None:
        """It is started again, and given the role of a secondary."""
        self.stopped.discard(name)
        self.world.note(f"{name}: hastd starts")
        self.departures[name] = Departure()
        self.roles[name] = Role.SECONDARY

    def _await_quiet(self, node: Node, life: int, until_s: float) -> None:
        engine, now = node.engine, self.world.now
        if node.life != life or not isinstance(engine, Primary):
            return
        quiet = engine.is_quiet(now)
        node.pump()
        if not quiet and now < until_s:
            self.world.after(DRAIN_POLL_S, self._await_quiet, node, life, until_s)
            return
        engine.drain(now)
        node.pump()
        self._await_drained(node, life, now + self.settings.timeout_s + STOP_MARGIN_S)

    def _await_drained(self, node: Node, life: int, until_s: float) -> None:
        engine = node.engine
        if node.life != life or not isinstance(engine, Primary):
            return
        if not engine.drained and self.world.now < until_s:
            self.world.after(DRAIN_POLL_S, self._await_drained, node, life, until_s)
            return
        if not engine.drained:
            self.watcher.wrong(f"S10: the ordered stop of {node.name} does not come to its end")
        self._let_go(node, engine.drained)

    def _await_end(self, node: Node, life: int, until_s: float) -> None:
        """A secondary: the primary closes the link when it knows."""
        if node.name not in self.stopping:
            return
        linked = self.link is not None and self.link.secondary is node
        if node.life == life and self.world.now < until_s and (linked or not node.idle):
            self.world.after(DRAIN_POLL_S, self._await_end, node, life, until_s)
        else:
            self._let_go(node, True)

    def _let_go(self, node: Node, drained: bool) -> None:
        name = node.name
        if self.roles[name] is Role.PRIMARY:
            self.watcher.left(node, drained)
        self.stopping.discard(name)
        self.demote(name, Role.INIT)
        self.stopped.add(name)
        self.on_left(node)

    def serve(self, name: str, force: bool = False, resume: bool = False) -> None:
        """Start the primary's worker; clients are let in when it has heard its peer, or has waited for long enough."""
        self.admitting = False
        self._entering = (name, force, resume)
        node = self.nodes[name]
        node.start_primary(self.settings, force or (not resume and self.is_guess(node.metadata)))
        self._knock(name, node.life, self.world.now)

    def _knock(self, name: str, life: int, began_s: float) -> None:
        """The first attempt at the peer, made again until it is heard. A peer that talks is waited for longer."""
        if self._entering is None or self._entering[0] != name or self.nodes[name].life != life:
            return
        self._connect(name)
        waited_s = self.world.now - began_s
        if waited_s >= (UNREACHABLE_WAIT_S if self.link is None else TALKING_WAIT_S):
            self._attempted(name, PeerState.UNREACHABLE)
        else:
            self.world.after(KNOCK_S, self._knock, name, life, began_s)

    def demote(self, name: str, role: Role = Role.SECONDARY) -> None:
        """It serves no more, drained or not."""
        self.world.note(f"{name}: role {role}")
        if self.link is not None and name in (self.link.primary.name, self.link.secondary.name):
            self.cut("role change")
        self._end_dealings(name)
        self.roles[name] = role
        self.nodes[name].stop()

    def drain(self, name: str) -> bool:
        """Let the primary come to its end; False when it does not."""
        node = self.nodes[name]
        engine = node.engine
        if not isinstance(engine, Primary):
            return True
        engine.drain(self.world.now)
        node.pump()
        return self.world.run_till(lambda: engine.drained or node.engine is not engine, DRAIN_S)

    def restart_worker(self, name: str, dying: bool = False) -> None:
        """A process died; a primary's is replaced at once, a secondary's at the next connection. `dying`: what it was
        in the middle of is not over yet."""
        self.world.note(f"{name}: worker killed")
        node = self.nodes[name]
        if self.link is not None and node in (self.link.primary, self.link.secondary):
            self.cut("worker killed")
        node.stop(dying)
        if name in self.stopping:
            self._let_go(node, False)
        elif name in self.orphans.names:
            self.orphans.lost_worker(name)
        elif self.roles[name] is Role.PRIMARY and node.up:
            self.admitting = False
            self._revive(name, node.life)

    def _revive(self, name: str, life: int) -> None:
        """Another worker for a primary, as soon as the last one has left nothing behind and there is a disk."""
        node = self.nodes[name]
        if node.life != life or self.roles[name] is not Role.PRIMARY or not node.up:
            return
        no_disk = node.detached or node.disk.hung
        if no_disk or name in self.orphans.names or not restart.leaves_nothing(True, node.left_something):
            self.world.after(DRAIN_POLL_S, self._revive, name, life)
            return
        if name in self.dealings:
            self.dealings[name].worker_replaced()
        self.serve(name, resume=True)

    def disk_hung(self, node: Node) -> None:
        """A secondary that has no disk is none: it ends when the primary was told of its errors."""
        if isinstance(node.engine, Secondary):
            self.world.after(DRAIN_POLL_S, self._end_of_secondary, node, node.life)

    def _end_of_secondary(self, node: Node, life: int) -> None:
        if node.life == life and self.link is not None and self.link.secondary is node:
            self.cut("the local disk does not answer")

    def crash(self, name: str, keep: float) -> list[int]:
        """Power cut; returns the sectors whose newest content was lost."""
        dealings = self.dealings.pop(name, None)
        if dealings is not None:
            dealings.vanish()
        self.stopping.discard(name)
        self.stopped.discard(name)
        self.orphans.names.discard(name)
        self.departures[name] = Departure()
        gone = self.nodes[name].crash(keep)
        self.cut("power cut")
        return gone

    def regain_lease(self, name: str) -> bool:
        """A hastd that took a primary over asks for the lease that nobody prolonged."""
        lease = self.witness.acquire(name, False)
        if lease is None:
            return False
        dealings = self.dealings[name] = Dealings(self.witness, _Patron(self, name), lease)
        if self.link is not None and self.link.primary.name == name and self.link.alive:
            dealings.event("connect")
        return True

    def _end_dealings(self, name: str) -> None:
        dealings = self.dealings.pop(name, None)
        if dealings is not None:
            dealings.end()

    def _attempted(self, name: str, state: PeerState) -> None:
        """The first attempt at the peer ended: may clients be let in?"""
        if self._entering is None or self._entering[0] != name:
            return
        _name, force, resume = self._entering
        self._entering = None
        self.admitting = True
        verdict = may_serve(state, force, resume)
        if not verdict.allowed:
            self.refused(f"start: the peer is {state}")
            self.world.note(f"{name}: does not start: {verdict.reason}")
            self.demote(name)
            self.on_refused()
        else:
            self.watcher.serves(self.nodes[name], force)
            self.on_served()

    # -- the link -----------------------------------------------------------------------------------------------

    def cut(self, reason: str) -> None:
        """The link is gone, and each end that lives sees it a little later; a secondary finishes what it took."""
        link, self.link = self.link, None
        if link is None or not link.alive:
            return
        self.watcher.cut(link.primary)
        link.alive = False
        self._unnoticed += 1
        self.world.after(self.rng.random() * NOTICE_S, self._notice, link.primary, link.primary.life, reason)
        self.world.after(self.rng.random() * NOTICE_S, self._end, link.secondary, link.secondary.life)

    def _notice(self, node: Node, life: int, reason: str) -> None:
        self._unnoticed -= 1
        if node.life == life and isinstance(node.engine, Primary):
            node.engine.detach(reason, self.world.now)
            node.pump()

    def _end(self, node: Node, life: int) -> None:
        if node.life == life and isinstance(node.engine, Secondary):
            if node.idle:
                node.stop()
            else:
                self.world.after(0.01, self._end, node, life)

    def _retry(self) -> None:
        for name, role in self.roles.items():
            if role is Role.PRIMARY:
                self._connect(name)
        self.world.after(RETRY_S * (0.5 + self.rng.random()), self._retry)

    def _connect(self, name: str) -> None:
        node = self.nodes[name]
        engine = node.engine
        if self.link is not None or not node.up or not self.network_up or not isinstance(engine, Primary):
            return
        peer = self.other(node)
        if not peer.up or self._unnoticed or peer.name in self.orphans.names:
            return
        if not peer.has_disk:
            return
        if self.roles[peer.name] is Role.PRIMARY:
            self._attempted(name, PeerState.PRIMARY)
            return
        if self.roles[peer.name] is not Role.SECONDARY or not peer.idle or peer.name in self.stopping:
            return
        link = self.link = Link(self, node, peer)
        self.links += 1
        engine.begin_handshake(self.world.now)
        node.pump()
        self._await_hello(link, engine)

    def _await_hello(self, link: Link, engine: Primary) -> None:
        if not link.alive:
            return
        if not engine.hello_ready:
            self.world.after(POLL_S, self._await_hello, link, engine)
            return
        changes = engine.changes()
        told = (changes.extents, changes.since_s) if Feature.SPLIT_BRAIN_INFO in self.features else (None, 0)
        hello = SecondHello(*engine.second_hello(), link.primary.boot_id, *told)
        link.to_secondary(self._answer, link, hello)
        self.world.after(self.settings.timeout_s, self._give_up, link, engine)

    def _give_up(self, link: Link, engine: Primary) -> None:
        if link.alive and not engine.core.connected and self.link is link:
            self.cut("message 4 did not come")

    def _answer(self, link: Link, hello: SecondHello) -> None:
        node = link.secondary
        if node.disk.broken or not node.has_disk:
            self.cut("the secondary cannot read its metadata")
            return
        engine = node.start_secondary(int(self.features))
        engine.answer(hello, self.world.now)
        node.pump()
        self._await_reply(link, engine, hello)

    def _await_reply(self, link: Link, engine: Secondary, hello: SecondHello) -> None:
        if not link.alive:
            return
        reply = engine.reply
        if reply is None:
            self.world.after(POLL_S, self._await_reply, link, engine, hello)
            return
        self.watcher.answers(link.primary, link.secondary, hello, reply)
        link.to_primary(self._accept, link, reply, engine.cache_known)

    def _accept(self, link: Link, reply: SecondReply, cache_known: bool) -> None:
        node, engine = link.primary, link.primary.engine
        if not isinstance(engine, Primary):
            return
        accepted = Accepted(2, b"t" * 16, self.features)
        boot = link.secondary.boot_id if self.features and cache_known else b""
        try:
            peer = check_second_reply(SecondReplyValues(*reply, boot_id=boot), accepted, engine.core.meta)
        except Refused as refused:
            self._refused(link, engine, refused)
            return
        engine.attach(peer, self.world.now)
        self.departures[link.secondary.name].heard("connect", None, self.world.now)
        node.pump()
        self._attempted(node.name, PeerState.CONNECTED)

    def _refused(self, link: Link, engine: Primary, refused: Refused) -> None:
        self.world.note(f"{link.primary.name}: refused: {refused}")
        self.refused(str(refused).split("(")[0])
        if refused.peer_changes is not None:
            self.split_brains += 1
            engine.split_brain(refused.peer_changes)
        self._attempted(link.primary.name, PeerState.SPLIT_BRAIN if refused.split_brain else PeerState.REFUSED)
        self.cut(str(refused))

    # -- what the engines say -------------------------------------------------------------------------------------

    def event(self, node: Node, event: Event) -> None:
        self.departures[node.name].heard(event.name, event.details, self.world.now)
        dealings = self.dealings.get(node.name)
        if dealings is not None:
            dealings.event(event.name)

    def asked(self, node: Node, question: str) -> None:
        dealings = self.dealings.get(node.name)
        if dealings is not None:
            dealings.ask()

    def sent(self, node: Node) -> None:
        engine = node.engine
        if engine is None:
            return
        link = self.link
        effects = engine.effects
        if effects.remote:
            remote, effects.remote = effects.remote, []
            if link is not None and link.primary is node and isinstance(engine, Primary):
                link.to_secondary(self._requests, link, remote, _sync_seqs(engine, remote))
        if effects.replies:
            replies, effects.replies = effects.replies, []
            if link is not None and link.secondary is node:
                link.to_primary(self._replies, link, replies)
        if effects.drop is not None:
            drop, effects.drop = effects.drop, None
            self.world.note(f"{node.name}: drops the link: {drop.reason}")
            if link is not None and node in (link.primary, link.secondary):
                self.cut(drop.reason)

    def _requests(self, link: Link, batch: list[Any], sync_seqs: list[int]) -> None:
        node = link.secondary
        engine = node.engine
        if isinstance(engine, Secondary):
            node.sync_seqs.update(sync_seqs)
            link.received.update(item[1] for item in batch)
            engine.requests(batch, self.world.now)
            node.pump()

    def _replies(self, link: Link, batch: list[Any]) -> None:
        node = link.primary
        engine = node.engine
        if isinstance(engine, Primary):
            engine.replies(batch, self.world.now)
            node.pump()


def _sync_seqs(engine: Primary, batch: list[Any]) -> list[int]:
    """Of these requests those that change the peer's disk to synchronise it, not those that repeat its own data."""
    if not engine.sync.active:
        return []
    pending = engine.core.pending
    return [
        item[1]
        for item in batch
        if item[0] in DISK_OPERATIONS
        and item[4] is not None
        and item[1] in pending
        and pending[item[1]].owner == SYNC
        and not pending[item[1]].cookie
    ]


class _Patron:
    """A primary, as its dealings with the arbiter see it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self._cluster = cluster

    def answered(self, agreed: bool) -> None:
        self._tell(lambda engine, now: engine.answered("outdate-peer", agreed, now))

    def freeze(self, reason: str) -> None:
        self._tell(lambda engine, now: engine.freeze(reason, now))

    def thaw(self) -> None:
        self._tell(lambda engine, now: engine.thaw(now))

    def step_down(self, reason: str) -> None:
        """Drain, then give up the role; nothing waits for it."""
        self._cluster.world.note(f"{self.name}: steps down: {reason}")
        self._tell(lambda engine, now: engine.drain(now))
        self._watch(self._cluster.nodes[self.name].life)

    def _watch(self, life: int) -> None:
        cluster, node = self._cluster, self._cluster.nodes[self.name]
        if node.life != life or not isinstance(node.engine, Primary):
            return
        if node.engine.drained:
            cluster.demote(self.name)
        else:
            cluster.world.after(0.1, self._watch, life)

    def _tell(self, call: Callable[[Primary, float], None]) -> None:
        node = self._cluster.nodes[self.name]
        if isinstance(node.engine, Primary):
            call(node.engine, self._cluster.world.now)
            node.pump()
