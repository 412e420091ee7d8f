"""Two simulated hosts, the network between them, and the handshake, run on the real engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hast.format.constants import OUR_FEATURES, Feature, Role
from hast.replication.handshake import Accepted, Refused, SecondReplyValues, check_second_reply
from hast.replication.primary import Primary, Settings
from hast.replication.promotion import may_use_copy
from hast.replication.secondary import Secondary, SecondHello, SecondReply
from hast.replication.types import Metadata
from hast.sim.node import Node
from hast.sim.world import World

RETRY_S = 1.0


class Link:
    """One pair of connections: messages in order, each with its own delay, until it is cut.

    A `silent` link loses everything and tells nobody.
    """

    def __init__(self, world: World, primary: Node, secondary: Node, latency_s: float) -> None:
        self.world = world
        self.primary = primary
        self.secondary = secondary
        self.alive = True
        self.silent = False
        self._latency_s = latency_s
        self._times = {"to-secondary": 0.0, "to-primary": 0.0}

    def send(self, direction: str, deliver: Callable[[], None]) -> None:
        """Deliver later, in order, if the link still lives by then."""
        when = max(self._times[direction], self.world.now + self.world.rng.random() * self._latency_s)
        self._times[direction] = when

        def arrive() -> None:
            if self.alive and not self.silent:
                deliver()

        self.world.after(when - self.world.now, arrive)


class Cluster:
    """Nodes `a` and `b`. `primary` is the one that serves, if any; the other is secondary while it is up."""

    def __init__(self, world: World, settings: Settings, metadata: Metadata, features: Feature = OUR_FEATURES) -> None:
        self.world = world
        self.settings = settings
        self.features = features
        self.version = 2
        self.latency_s = 0.003
        self.nodes = {name: Node(world, name, metadata) for name in ("a", "b")}
        self.roles = {"a": Role.INIT, "b": Role.INIT}
        self.link: Link | None = None
        self.network_up = True
        self._unnoticed = 0
        """Links that are gone while their primary does not know it yet."""
        self.split_brains = 0
        self.refusals: list[str] = []
        self.admitting = True
        """Clients are let in: a new primary has tried to reach its peer."""
        for node in self.nodes.values():
            node.on_sent = self._drain_wire
        self._retry()

    def other(self, node: Node) -> Node:
        return self.nodes["b" if node.name == "a" else "a"]

    def primary(self) -> Node | None:
        """The serving node, if one is."""
        for name, role in self.roles.items():
            if role is Role.PRIMARY and self.nodes[name].up:
                return self.nodes[name]
        return None

    def engine(self) -> Primary | None:
        """The primary's engine."""
        node = self.primary()
        return node.engine if node is not None and isinstance(node.engine, Primary) else None

    def may_promote(self, name: str) -> bool:
        """What the supervisor would say, without force. Without our extensions "inconsistent" is only a guess."""
        meta = self.nodes[name].disk.metadata
        if not self.features:
            meta = replace(meta, inconsistent=False)
        return may_use_copy(meta, force=False, resume=False).allowed

    def promote(self, name: str, force: bool = False) -> None:
        """The other is not primary any more. What the node took as secondary is carried out before it serves."""
        self.world.note(f"{name}: role primary")
        self.cut("role change")
        node = self.nodes[name]
        limit = self.world.now + 10.0
        while not node.idle and self.world.now < limit:
            self.world.run_until(self.world.now + 0.01)
        self.roles[name] = Role.PRIMARY
        self.serve(name, force)

    def serve(self, name: str, force: bool = False) -> None:
        """Start the primary's worker; clients are let in when it has tried to reach its peer."""
        self.nodes[name].start_primary(self.settings, force)
        self.admitting = False
        self._connect()
        if self.link is None:
            self.admitting = True

    def demote(self, name: str) -> None:
        self.world.note(f"{name}: role secondary")
        self.cut("role change")
        self.roles[name] = Role.SECONDARY
        self.nodes[name].stop()

    def restart_worker(self, name: str) -> None:
        """A process died; a primary's is replaced at once, a secondary's at the next connection."""
        self.world.note(f"{name}: worker killed")
        node = self.nodes[name]
        self.cut("worker killed")
        node.stop()
        if self.roles[name] is Role.PRIMARY:
            self.serve(name)

    def crash(self, name: str) -> None:
        self.nodes[name].crash()
        self.cut("power cut")

    def cut(self, reason: str) -> None:
        """The link is gone, and each end that lives sees it a little later; a secondary finishes what it took."""
        link, self.link = self.link, None
        self.admitting = True
        if link is None or not link.alive:
            return
        link.alive = False
        primary, secondary = link.primary, link.secondary
        life, other_life = primary.life, secondary.life
        self._unnoticed += 1

        def notice() -> None:
            self._unnoticed -= 1
            if primary.life == life and isinstance(primary.engine, Primary):
                primary.engine.detach(reason, self.world.now)
                primary.pump()

        def end() -> None:
            if secondary.life == other_life and isinstance(secondary.engine, Secondary):
                if secondary.idle:
                    secondary.stop()
                else:
                    self.world.soon(end, 0.01)

        self.world.soon(notice, 0.05)
        self.world.soon(end, 0.05)

    # -- the handshake ------------------------------------------------------------------------------------------

    def _retry(self) -> None:
        self._connect()
        self.world.after(RETRY_S * (0.5 + self.world.rng.random()), self._retry)

    def _connect(self) -> None:
        node = self.primary()
        if node is None or self.link is not None or not self.network_up or not isinstance(node.engine, Primary):
            return
        peer = self.other(node)
        if not peer.up or self.roles[peer.name] is not Role.SECONDARY or not peer.idle:
            return
        if self._unnoticed:
            return
        link = self.link = Link(self.world, node, peer, self.latency_s)
        node.engine.begin_handshake(self.world.now)
        node.pump()
        self._await_hello(link, node.engine)

    def _await_hello(self, link: Link, engine: Primary) -> None:
        if not link.alive:
            return
        if not engine.hello_ready:
            self.world.after(0.002, lambda: self._await_hello(link, engine))
            return
        hello = SecondHello(*engine.second_hello(), boot_id=link.primary.boot_id)
        link.send("to-secondary", lambda: self._answer(link, hello))
        self.world.after(self.settings.timeout_s, lambda: self._give_up(link, engine))

    def _give_up(self, link: Link, engine: Primary) -> None:
        if link.alive and not engine.core.connected and self.link is link:
            self.cut("message 4 did not come")

    def _answer(self, link: Link, hello: SecondHello) -> None:
        node = link.secondary
        if node.disk.broken:
            self.cut("the secondary cannot read its metadata")
            return
        engine = node.start_secondary(int(self.features))
        engine.answer(hello, self.world.now)
        node.pump()
        self._await_reply(link, engine)

    def _await_reply(self, link: Link, engine: Secondary) -> None:
        if not link.alive:
            return
        reply = engine.reply
        if reply is None:
            self.world.after(0.002, lambda: self._await_reply(link, engine))
            return
        cache_known = engine.cache_known
        link.send("to-primary", lambda: self._accept(link, reply, cache_known))

    def _accept(self, link: Link, reply: SecondReply, cache_known: bool) -> None:
        node, engine = link.primary, link.primary.engine
        if not isinstance(engine, Primary):
            return
        accepted = Accepted(self.version, b"t" * 16, self.features)
        boot = link.secondary.boot_id if self.features and cache_known else b""
        values = SecondReplyValues(*reply, boot_id=boot)
        try:
            peer = check_second_reply(values, accepted, engine.core.meta)
        except Refused as refused:
            self.split_brains += bool(refused.split_brain)
            self.refusals.append(str(refused))
            self.world.note(f"{node.name}: refused: {refused}")
            self.cut(str(refused))
            return
        engine.attach(peer, self.world.now)
        self.admitting = True
        node.pump()

    # -- the wire -------------------------------------------------------------------------------------------------

    def _drain_wire(self, node: Node) -> None:
        engine = node.engine
        if engine is None:
            return
        link = self.link
        effects = engine.effects
        remote, effects.remote = effects.remote, []
        replies, effects.replies = effects.replies, []
        drop, effects.drop = effects.drop, None
        if link is not None and link.alive:
            if remote:
                link.send("to-secondary", lambda: self._deliver(link.secondary, "requests", remote))
            if replies:
                link.send("to-primary", lambda: self._deliver(link.primary, "replies", replies))
        if drop is not None:
            self.world.note(f"{node.name}: drops the link: {drop.reason}")
            self.cut(drop.reason)

    def _deliver(self, node: Node, call: str, batch: list[Any]) -> None:
        engine = node.engine
        if engine is not None and hasattr(engine, call):
            getattr(engine, call)(batch, self.world.now)
            node.pump()
