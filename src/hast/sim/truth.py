"""What the simulator knows and the engine cannot: what both disks really hold. Compared with what the engine says.

The engine's records, answers and marks are statements about both copies; here each is held against the disks at the
moment it is made, so that a wrong one is found even if chance heals it a moment later.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hast.format.constants import Feature, Replication, SyncSource
from hast.replication.answer import SecondHello, SecondReply
from hast.replication.core import MEMSYNC, SYNC
from hast.replication.primary import Primary
from hast.replication.reads import BY_PEER
from hast.replication.secondary import Secondary
from hast.replication.standing import Record
from hast.replication.types import FLUSH, READ, Event, Lead, Metadata, Request, Store
from hast.sim.checker import History, Write
from hast.sim.cluster import Cluster, Link
from hast.sim.disk import MAP_OFFSET_BYTES, SECTOR_BYTES, Disk
from hast.sim.node import Node

MOST_WRONG = 20


class Truth:
    """`wrong` lists what went wrong. The cluster is set before anything happens."""

    cluster: Cluster
    doubt_unconfirmed: Callable[[], None]
    """The peer's copy is taken for the truth: what it had not confirmed may be lost (asynchronous replication)."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.complaints: list[str] = []
        self.states: set[str] = set()
        """States of the engine that the run came through."""
        self.left_whole = False
        """The node that stopped last left a peer that has everything."""
        self.resynced_stops: set[str] = set()
        """Nodes that met their peer again while they stopped: to clear the map is not waited for then."""
        self._peer_failed_s = -math.inf
        self.rotten: tuple[str, int] | None = None
        """Node and sector that went bad without a word."""
        self.spoiled = False
        """An operation of a disk failed in this run."""
        self.flush_failed_s = -1.0
        """When a flush of a primary's disk failed last."""
        self._frozen: dict[str, tuple[int, float]] = {}
        """Node → the life of its engine, and since when that holds writes by order."""
        self.apart: dict[str, dict[int, int]] = {"a": {}, "b": {}}
        self._alone = (0, "")
        """In which epoch a node acknowledged last what the other lacked, and which."""
        """Node → sector → value that was acknowledged there while the nodes were apart, by hand."""

    def wrong(self, text: str) -> None:
        """A rule is broken."""
        world = self.cluster.world
        world.note(f"WRONG: {text}")
        if len(self.complaints) < MOST_WRONG:
            self.complaints.append(f"at {world.now:.3f}: {text}")

    # -- what the engine has carried out -------------------------------------------------------------------------

    def executes(self, node: Node, request: Request) -> None:
        """S1: the map on the primary's medium names the extent; S7: a copy that is synchronised says so on its own."""
        engine = node.engine
        if isinstance(engine, Primary):
            if request.owner != SYNC:
                self._check_marked(node, node, request)
            elif not self._says_bad(node.disk.durable_metadata) and not engine.map.owed_remote:
                self.wrong(f"S7: {node.name} takes the first piece of its peer's data with no mark on its disk")
        elif isinstance(engine, Secondary):
            if request.seq in node.sync_seqs:
                marks = Feature.SYNC_MARK in self.cluster.features
                if marks and not node.disk.durable_metadata.inconsistent and not self._shows(node, request):
                    self.wrong(f"S7: {node.name} is synchronised with no mark on its disk")
            else:
                self._check_marked_for_peer(node, request)

    def _shows(self, node: Node, request: Request) -> bool:
        """This copy holds what is written to it already: its own data, after a flush of it failed."""
        start = node.disk.metadata.offset_bytes + request.offset
        return request.data is not None and node.disk.view[start:][: request.length] == request.data

    def _check_marked_for_peer(self, node: Node, request: Request) -> None:
        link, other = self.cluster.link, self.cluster.other(node)
        if link is None or link.primary is not other or not isinstance(other.engine, Primary):
            return
        if self._shows(node, request) or (self.rotten is not None and self.rotten[0] == node.name):
            return  # what differs without a mark is only made equal
        if other.engine.core.local_ok and not other.disk.broken:
            self._check_marked(other, node, request)
        elif Feature.TAKE_LEAD in self.cluster.features and not other.engine.core.local_ok:
            for extent in self._extents(node, request.offset, request.length):
                if not (node.disk.is_marked(extent) or other.disk.is_marked(extent)):
                    self.wrong(f"S6: {node.name} writes extent {extent} for a broken disk, and no map names it")

    def _check_marked(self, node: Node, writer: Node, request: Request) -> None:
        """Where the peer leads its own map will do: a disk that is taken into service has it in a moment."""
        leader = self.cluster.other(node)
        for extent in self._extents(node, request.offset, request.length):
            if not node.disk.is_marked(extent) and not (self._is_led(node) and leader.disk.is_marked(extent)):
                self.wrong(f"S1: {writer.name} writes extent {extent}, which is not marked on the disk of {node.name}")

    def _is_led(self, node: Node) -> bool:
        """The peer says durably that its copy is the one to trust, and this node knows it."""
        engine = node.engine
        return isinstance(engine, Primary) and engine.standing.peer_leads is Record.DURABLE

    def writes_map(self, node: Node, job: Store) -> None:
        """S2: a bit is cleared only where the media of both copies hold the same, and no cache holds anything else.

        A secondary clears its map when the primary's has taken it over.
        """
        start = job.offset_bytes - MAP_OFFSET_BYTES
        old = int.from_bytes(node.disk.map()[start : start + len(job.data)], "little")
        first = start * 8
        extents = -(-node.disk.metadata.datasize_bytes // node.disk.metadata.extentsize_bytes)
        cleared = old & ~int.from_bytes(job.data, "little") & ((1 << max(0, extents - first)) - 1)
        if not cleared:
            return
        other = self.cluster.other(node)
        if isinstance(node.engine, Secondary):
            primary = other.engine
            if isinstance(primary, Primary) and primary.core.local_ok and job.reason == "map cleared":
                taken = int.from_bytes(other.disk.medium[job.offset_bytes :][: len(job.data)], "little")
                if cleared & ~taken:
                    self.wrong(f"S1: {node.name} clears its map before that of {other.name} has taken it over")
            return
        if node.disk.metadata.resuid != other.disk.metadata.resuid:
            return
        while cleared:
            extent = first + (cleared & -cleared).bit_length() - 1
            cleared &= cleared - 1
            reason = self._differs_durably(extent)
            if reason:
                self.wrong(f"S2: {node.name} clears the bit of extent {extent}, {reason}")

    def _differs_durably(self, extent: int) -> str:
        a, b = self.cluster.nodes["a"].disk, self.cluster.nodes["b"].disk
        start, end = self._span(a, extent)
        if a.view[start:end] != b.view[start:end]:
            return "where the copies differ"
        for name, disk in (("a", a), ("b", b)):
            if disk.view[start:end] != disk.medium[start:end]:
                return f"which is not durable on {name}"
        return ""

    def asks_store(self, node: Node, job: Store) -> None:
        """S9: "in step" is written when both copies are equal, apart from what is being written.

        S7: a copy calls itself good again when what was copied into it is on its medium, or when a person says so.
        """
        if job.metadata is not None and node.disk.metadata.inconsistent and not job.metadata.inconsistent:
            forced = job.reason == "role primary"
            if not forced and Feature.SYNC_MARK in self.cluster.features and node.disk.unsettled(node.copied):
                self.wrong(f"S7: {node.name} calls its copy good, and what was copied into it is not on its medium")
            node.copied.clear()
        if job.reason == "copy is stale" and self.cluster.other(node).disk.failed:
            # The peer leads from now on, and has perhaps failed what it had received before: two failures.
            self.doubt_unconfirmed()
        if job.reason == "copy is stale" and Feature.TAKE_LEAD not in self.cluster.features:
            self.gives_way(node)  # a peer that is not asked is not known to be there
        if job.reason == "in step" and job.metadata is not None and self._says_bad(job.metadata):
            self.wrong(f"S7: {node.name} calls the copies in step, and its own bad")
        if job.reason == "sync begins" and Feature.SYNC_MARK in self.cluster.features:
            source = self.cluster.other(node)
            if source.up and isinstance(source.engine, Primary) and self._says_bad(source.disk.durable_metadata):
                self.wrong(f"S7: {node.name} is to be overwritten, and the disk of {source.name} calls itself bad")
        if job.reason == "in step" and isinstance(node.engine, Primary) and self._alive(node):
            differing = [e for e in self._differing() if e not in node.engine.map.inflight]
            if differing:
                self.wrong(f"S9: {node.name} calls the copies in step, and extents {_some(differing)} differ")

    def happened(self, node: Node, event: Event) -> None:
        """S3: when a link goes live, every extent that differs is known to be owed."""
        self.states.add(event.name)
        if event.name == "frozen":
            self._frozen[node.name] = node.life, self.cluster.world.now
        elif event.name == "thawed":
            self._frozen.pop(node.name, None)
        if event.name in ("connect", "syncstart") and node.name in self.cluster.stopping:
            self.resynced_stops.add(node.name)
        if event.name == "disk-failed" and self.cluster.world.now - self._peer_failed_s < 8 * self.cluster.latency_s:
            self.doubt_unconfirmed()  # the peer leads from here on, and what it failed before was not heard of yet
        if event.name == "verified" and event.details is not None:
            self._verified(node, event.details)
        engine = node.engine
        if event.name != "connect" or not isinstance(engine, Primary) or not self._alive(node):
            return
        if self.lacked_by_other("a") and self.lacked_by_other("b"):
            self.wrong("S8: split brain is not seen: both nodes acknowledged what the other lacks")
        amap = engine.map
        differing = [
            e for e in self._differing() if not (e in amap.owed_local or e in amap.owed_remote or e in amap.inflight)
        ]
        if differing:
            self.wrong(f"S3: {node.name} goes live, and does not know that extents {_some(differing)} differ")
        source = "local" if amap.owed_local else "remote"
        self.states.add(f"joined, {source} owed" if amap.owed_local or amap.owed_remote else "joined, nothing owed")

    def _verified(self, node: Node, report: dict[str, Any]) -> None:
        """What a comparison of both copies says is so."""
        self.states.add(f"verified: {report['outcome']}")
        if self.rotten is None:
            if report["differing_bytes"]:
                self.wrong(f"{node.name} says that the copies differ at {report['ranges']}, and they do not")
            return
        name, sector = self.rotten
        if report["outcome"] == "equal" and not report["unreadable_bytes"]:
            self.wrong(f"{node.name} says that the copies are equal, and sector {sector} differs")
        if report["outcome"] == "repaired":
            place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
            bad, good = self.cluster.nodes[name].disk, node.disk
            area = memoryview(bad.medium)[bad.metadata.offset_bytes :]
            if bad.data()[place] != good.data()[place] or area[place] != good.data()[place]:
                self.wrong(f"{node.name} says that it repaired the copies, and sector {sector} differs")
            self.rotten = None

    # -- the handshake -------------------------------------------------------------------------------------------

    def answers(self, primary: Node, secondary: Node, hello: SecondHello, reply: SecondReply) -> None:
        """S7: a copy that is to be filled says so on its disk before it is promised."""
        if reply.errmsg is not None:
            return
        durable = secondary.disk.durable_metadata
        if reply.virgin and not hello.virgin and not durable.inconsistent:
            self.wrong(f"S7: {secondary.name} will be copied as a whole with no mark on its disk")
        if reply.discards is not None and not durable.inconsistent:
            self.wrong(f"S7: {secondary.name} gives its changes up with no mark on its disk")
        if reply.syncsrc is SyncSource.SECONDARY and durable.inconsistent:
            self.wrong(f"S7: {secondary.name} is inconsistent and becomes the source")

    def together(self) -> None:
        """Nothing is written apart any more."""
        for written in self.apart.values():
            written.clear()

    def is_ahead(self, node: Node) -> bool:
        """By the records on the disks this node's copy is the one that counts, whatever the other lacks."""
        other = self.cluster.other(node).disk
        return node.disk.durable_metadata.localcnt > other.metadata.remotecnt or self._says_bad(other.durable_metadata)

    def left(self, node: Node, drained: bool) -> None:
        """S10: an ordered stop comes to its end; with a whole peer it leaves two equal copies and a clear map."""
        link, engine, other = self.cluster.link, node.engine, self.cluster.other(node)
        self.left_whole = False
        if not drained:
            self.states.add("a stop was not drained")
            return
        whole = isinstance(engine, Primary) and engine.core.connected and engine.core.peer_whole
        if isinstance(engine, Primary):
            whole = whole and engine.core.local_ok and not engine.sync.active and not node.disk.broken
        if link is None or link.primary is not node or not link.alive or link.silent or not whole:
            self.states.add("let go without a whole peer")
            return
        self.states.add("let go beside a whole peer")
        self.left_whole = True
        if differing := self._differing():
            self.wrong(f"S10: {node.name} has let go, and extents {_some(differing)} differ")
        elif any(node.disk.map()) and not self.spoiled and node.name not in self.resynced_stops:
            self.wrong(f"S10: {node.name} has let go, and its map asks for a resynchronisation")
        if self.cluster.departures[other.name].until_s is not None:
            self.wrong(f"S10: {node.name} has let go, and {other.name} was not told")

    def serves(self, node: Node, forced: bool) -> None:
        """S10: nobody takes over from a node that still lets go, where the two can talk."""
        other = self.cluster.other(node)
        if not forced and other.name in self.cluster.stopping and isinstance(other.engine, Primary) and other.up:
            self.wrong(f"S10: {node.name} serves before {other.name} has let go")

    def chosen(self, node: Node) -> None:
        """S7: a copy that calls itself bad is not served unless by force. To a reference node it does not say so."""
        meta = node.disk.metadata
        if meta.stale or (meta.inconsistent and Feature.SYNC_MARK in self.cluster.features):
            self.wrong(f"S7: {node.name} becomes primary without force, and its copy calls itself bad")

    def cut(self, primary: Node) -> None:
        """A peer that leads, and is lost: what it had not confirmed for good is then only on a copy that missed
        something (memsync and async, in which that may be acknowledged)."""
        if self._peer_leads(primary):
            self.doubt_unconfirmed()

    def fails(self, node: Node, request: Request) -> None:
        """A peer that leads, or comes to lead by a flush that fails here before its word is heard, and fails what it
        had received: as lost as with the peer. A flush that a reference secondary fails has it copied from a primary
        that lost its cache meanwhile."""
        self.spoiled = True
        other, now = self.cluster.other(node), self.cluster.world.now
        if not isinstance(node.engine, Secondary):
            self.flush_failed_s = now if request.op == FLUSH else self.flush_failed_s
            return
        self._peer_failed_s = now if request.op != FLUSH else self._peer_failed_s
        if request.op != FLUSH and self._peer_leads(other):
            self.doubt_unconfirmed()
        if request.op == FLUSH and not other.up and self.is_rewritten(node):
            self.excuse_lost(other, range(other.disk.metadata.datasize_bytes // SECTOR_BYTES))

    def _peer_leads(self, node: Node) -> bool:
        engine = node.engine
        return isinstance(engine, Primary) and (bool(engine.map.owed_local) or engine.core.meta.stale)

    def lacked_by_other(self, name: str) -> list[int]:
        view = self.cluster.other(self.cluster.nodes[name]).disk.data().cast("Q")
        return [sector for sector, value in self.apart[name].items() if view[sector] != value]

    # -- answers to clients ----------------------------------------------------------------------------------------

    def answered(self, node: Node, request: Request, began_s: float) -> None:
        """S10: a primary that was demoted, or refused, answers nothing with success. S11: one that holds what changes
        data lets nothing of it in."""
        engine = node.engine
        if isinstance(engine, Primary) and engine.drained:
            self.wrong(f"S10: {node.name} answers after its demotion")
        life, since_s = self._frozen.get(node.name, (-1, 0.0))
        if life == node.life and began_s > since_s and request.op != READ:
            self.wrong(f"S11: {node.name} holds writes, and answers one that came later")
        if request.op == READ and request.mode == BY_PEER:
            self._served_by_peer(node, request)

    def _served_by_peer(self, node: Node, request: Request) -> None:
        """S6: where both copies serve reads, the peer's shows nothing that the local one does not hold."""
        self.states.add("read at the peer")
        assert request.data is not None, "a read without data"
        start = node.disk.metadata.offset_bytes + request.offset
        here = memoryview(node.disk.view)[start : start + request.length].cast("Q")
        number = request.offset // SECTOR_BYTES
        for seen, held in zip(memoryview(bytes(request.data)).cast("Q"), here, strict=True):
            newer = self.history.place(number, seen) > self.history.place(number, held)
            if seen and seen != held and newer:  # zeros are written again and again
                self.wrong(f"S6: a read at the peer of {node.name} shows sector {number} as the local copy does not")
            number += 1

    def whole_peer(self, node: Node) -> Link | None:
        """The link to a peer that has everything, as this primary sees it, and whose disk never failed."""
        engine = node.engine
        if not isinstance(engine, Primary) or not engine.core.connected or not engine.core.peer_whole:
            return None
        return self._good_link(node)

    def _good_link(self, node: Node) -> Link | None:
        link = self.cluster.link
        if link is None or link.primary is not node or not link.alive or link.silent or link.secondary.disk.failed:
            return None
        return link

    def failed(self, node: Node, request: Request, link: Link | None) -> None:
        """S6: nobody is told an error if the peer had everything at the time of the request, and is there still.

        What the primary says of its peer now is not asked: that may be what is wrong. Not judged: the moment in which
        the peer takes its mark off, what a failed flush of the primary made doubtful, and a primary whose disk took no
        record beside a peer that cannot be told of it.
        """
        engine = node.engine
        unled = (
            isinstance(engine, Primary) and not engine.core.local_ok and Feature.TAKE_LEAD not in self.cluster.features
        )
        if unled:
            return
        if link is None or self._good_link(node) is not link or not isinstance(engine, Primary):
            return
        leaving = engine.writes.draining or engine.writes.withholding
        if engine.core.connected and not (leaving or engine.core.peer_marked or self.flush_failed_s >= 0):
            self.wrong(f"S6: {node.name} answers {request} although its peer could serve it")

    def acknowledged_apart(self, node: Node, request: Request) -> None:
        """A write made by hand was answered. An early answer, in async mode, promises nothing where the arbiter may
        refuse to record it."""
        if request.error or (request.left and self.cluster.settings.arbiter):
            return
        assert request.data is not None
        value, number = int.from_bytes(request.data, sys.byteorder), request.offset // SECTOR_BYTES
        self.apart[node.name][number] = value
        if self.cluster.settings.arbiter and not self._took(self.cluster.other(node), number, value):
            self._check_alone(node, "write")

    def _took(self, node: Node, number: int, value: int) -> bool:
        """This disk was once given the sector with this value, or a later one."""
        taken = memoryview(node.disk.taken)[node.disk.metadata.offset_bytes :].cast("Q")[number]
        return taken == value or self.history.place(number, taken) > self.history.place(number, value)

    def acknowledged(self, node: Node, request: Request, write: Write) -> None:
        """S4, S6, S8: an answered write is on both copies, or the one that lacks it is known, durably, to be old."""
        other = self.cluster.other(node)
        received = request.mode == MEMSYNC and not request.unacked and request.remote_error != 0
        early = (
            request.left > 0 or received
        )  # the peer failed it at the very moment at which it had said that it has it
        if early and self.cluster.settings.replication is Replication.FULLSYNC:
            self.wrong(f"S4: {write.first}-{write.last} is acknowledged before both copies have answered")
        if early and self.cluster.settings.replication is Replication.MEMSYNC and not self._received(node, request):
            self.wrong(f"S4: {write.first}-{write.last} is acknowledged before the peer has received it")
        here, there = self._has(node, write, crashed=False), early or self._has(other, write, crashed=False)
        if here and there:
            return
        if early:
            self.wrong(f"S4: {write.first}-{write.last} is acknowledged before {node.name} has it")
        elif not here and not there:
            self.wrong(f"S4: {write.first}-{write.last} is acknowledged, and on neither copy")
        elif not self._same_resource(node, other):
            return
        elif not there:
            self._check_alone(node, f"write {write.first}-{write.last}")
        else:
            self._check_led(other, node, write)

    def _received(self, node: Node, request: Request) -> bool:
        """All of this request has reached the peer, or the link is gone that would tell."""
        engine, link = node.engine, self.cluster.link
        if link is None or link.primary is not node or not isinstance(engine, Primary):
            return True
        return all(seq in link.received for seq, pending in engine.core.pending.items() if pending is request)

    def _check_alone(self, node: Node, what: str) -> None:
        """The other lacks something: only if this node's counter says so, durably, and the arbiter knows."""
        meta, others = node.disk.durable_metadata, self.cluster.other(node).disk.metadata
        self.states.add("goes alone")
        if meta.localcnt <= others.remotecnt:
            self.wrong(f"S8: a {what} that only {node.name} has is acknowledged, and its counter says nothing of it")
        if self.cluster.features and meta.inconsistent and not self._alive(node):
            self.wrong(f"S7: {node.name} acknowledges a {what} alone, and calls itself inconsistent")
        bad = self._says_bad(self.cluster.other(node).disk.durable_metadata)
        if not self.cluster.settings.arbiter:
            return
        witness = self.cluster.witness
        if witness.sole != node.name and not bad and self.cluster.world.now >= witness.forgetful_until_s:
            self.wrong(f"S11: a {what} that only {node.name} has is acknowledged, and the arbiter does not know of it")
        dealings = self.cluster.dealings.get(node.name)
        epoch, (last, who) = dealings.epoch if dealings is not None else 0, self._alone
        if dealings is not None and who not in ("", node.name) and epoch <= last:
            self.wrong(f"S11: {node.name} acknowledges a {what} alone in epoch {epoch}, {who} did in epoch {last}")
        self._alone = (epoch, node.name)

    def _check_led(self, leader: Node, node: Node, write: Write) -> None:
        """The serving node lacks something: only if the other's records, and its own, say so durably."""
        self.states.add("peer leads")
        if Feature.TAKE_LEAD not in self.cluster.features:
            return
        meta = leader.disk.durable_metadata
        if meta.localcnt <= node.disk.metadata.remotecnt and not node.disk.durable_metadata.inconsistent:
            self.wrong(f"S6: a write that only {leader.name} has is acknowledged, and its counter says nothing of it")
        if not isinstance(node.engine, Primary):
            return
        if node.engine.core.local_ok and not (node.lead is Lead.PEERS or self._says_bad(node.disk.durable_metadata)):
            self.wrong(f"S6: a write that {node.name} lacks is acknowledged, and its disk does not call itself stale")
        for extent in self._extents(leader, write.first * SECTOR_BYTES, (write.last - write.first + 1) * SECTOR_BYTES):
            if not leader.disk.is_marked(extent) and not node.disk.is_marked(extent):
                self.wrong(f"S6: only {leader.name} has extent {extent}, and no map names it")

    def flushed(self, node: Node, writes: Iterable[Write]) -> None:
        """S4: what an acknowledged flush covers is durable on both copies, or the one that lacks it is known to be old.

        In async mode only what the peer had confirmed is promised of its copy.
        """
        other = self.cluster.other(node)
        if not self._same_resource(node, other):
            return
        for write in writes:
            for number in range(write.first, write.last + 1):
                place = self.history.place_of(number, write)
                if place < 0 or write.ended_s == math.inf:
                    continue
                here, there = self._durable(node, number, place), self._durable(other, number, place)
                if here and there:
                    continue
                if not here and not there:
                    self.wrong(f"S4: a flush of {node.name} is acknowledged, and sector {number} is durable nowhere")
                elif there:
                    self._check_flush_led(other, node, number)
                elif self._says_bad(other.disk.durable_metadata) and self.cluster.features:
                    self.states.add("flushed while the peer calls itself bad")
                elif self._peer_leads(node) and self.cluster.settings.replication is not Replication.FULLSYNC:
                    self.states.add("flushed only where it may be lost")
                elif not self._is_async() and not self._marks(other, number):
                    self._check_alone(node, f"flush of sector {number}")

    def _marks(self, node: Node, number: int) -> bool:
        """This node's own map names the sector's extent, so that the next handshake does."""
        return node.disk.is_marked(number * SECTOR_BYTES // node.disk.metadata.extentsize_bytes)

    def _check_flush_led(self, leader: Node, node: Node, number: int) -> None:
        """Durable on the peer alone: the peer leads, or this copy calls itself bad; or, where the peer lacks something
        itself, a map names the extent."""
        if self._says_bad(node.disk.durable_metadata):
            return
        engine = node.engine
        if isinstance(engine, Primary) and engine.core.peer_whole:
            self._check_led(leader, node, Write(0, 0.0, number, number))
            return
        if not self._marks(node, number) and not self._marks(leader, number):
            self.wrong(f"S2: sector {number} is durable only on {leader.name}, and no map names its extent")

    def _is_async(self) -> bool:
        return self.cluster.settings.replication is Replication.ASYNC

    def _has(self, node: Node, write: Write, crashed: bool) -> bool:
        """This copy has the write or a later one; crashes that undid it count only if `crashed`."""
        disk = node.disk
        image = memoryview(disk.view if crashed else disk.taken)[disk.metadata.offset_bytes :].cast("Q")
        value = write.value
        for number in range(write.first, write.last + 1):
            if image[number] == value:
                continue
            place = self.history.place(number, image[number])
            if place < self.history.place_of(number, write):
                return False
        return True

    def _durable(self, node: Node, number: int, place: int) -> bool:
        disk = node.disk
        start = disk.metadata.offset_bytes + number * SECTOR_BYTES
        value = int.from_bytes(disk.medium[start : start + SECTOR_BYTES], sys.byteorder)
        return self.history.place(number, value) >= place

    # -- the failures that excuse a loss -----------------------------------------------------------------------------

    def gives_way(self, node: Node) -> None:
        """Its peer lost power in the moment before, and nobody knew: what that had not flushed was on both."""
        other = self.cluster.other(node)
        if not self._alive(node):
            self.excuse_lost(other, other.gone, gave_way=True)

    def excuse_lost(self, node: Node, gone: Iterable[int], gave_way: bool = False) -> None:
        """A power cut took these sectors' newest content: what no other place holds is lost for good, and whoever
        reads it may see something older. A copy that is to be overwritten, or soon will be, holds nothing."""
        peer = self.cluster.other(node)
        other = peer.disk
        engine = peer.engine
        gives_way = peer.lead is not Lead.AS_RECORDED  # its worker died, and left that the other may lead
        if isinstance(engine, Primary):
            gives_way = gives_way or engine.core.meta.stale or not engine.core.local_ok
        good = not (self._says_bad(other.durable_metadata) or gives_way or gave_way or self.is_rewritten(peer))
        mine, theirs = node.disk.data().cast("Q"), other.data().cast("Q")
        for number in gone:
            place = self.history.place(number, mine[number])
            if good and other.holds(number):
                place = max(place, self.history.place(number, theirs[number]))
            self.history.doubt_sector(number, place)

    def is_rewritten(self, node: Node) -> bool:
        """A reference primary writes all of this copy again, whoever lost what: a flush of it failed, or its mark of a
        synchronisation, which ends by the facts some seconds later, is still there."""
        meta = node.disk.durable_metadata
        return not self.cluster.features and (meta.unflushed or meta.inconsistent or node.flush_doubtful)

    def excuse_unled(self, node: Node) -> None:
        """Its disk took no record, a peer without TAKE_LEAD was not told that it leads, and now nobody remembers it."""
        if not isinstance(node.engine, Primary) or node.engine.core.local_ok:
            return
        self.states.add("forgets that only the peer is good")
        for number, value in enumerate(node.disk.data().cast("Q")):
            self.history.recall(number, value)
            self.history.doubt_sector(number, self.history.place(number, value))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _alive(self, node: Node) -> bool:
        """The engine's link is really there, and its peer the same as in the handshake."""
        link = self.cluster.link
        return link is not None and link.primary is node and link.alive and link.secondary.engine is not None

    def _same_resource(self, node: Node, other: Node) -> bool:
        return node.disk.metadata.resuid == other.disk.metadata.resuid != 0

    @staticmethod
    def _says_bad(meta: Metadata) -> bool:
        return meta.inconsistent or meta.stale

    def _differing(self) -> list[int]:
        a, b = (node.disk for node in self.cluster.nodes.values())
        if a.data() == b.data():
            return []
        return list(self._differing_extents(a, b))

    def _differing_extents(self, a: Disk, b: Disk) -> Iterator[int]:
        meta = a.metadata
        for extent in range(-(-meta.datasize_bytes // meta.extentsize_bytes)):
            start, end = self._span(a, extent)
            if a.view[start:end] != b.view[start:end]:
                yield extent

    @staticmethod
    def _span(disk: Disk, extent: int) -> tuple[int, int]:
        meta = disk.metadata
        start = meta.offset_bytes + extent * meta.extentsize_bytes
        return start, min(start + meta.extentsize_bytes, meta.offset_bytes + meta.datasize_bytes)

    @staticmethod
    def _extents(node: Node, offset: int, length: int) -> range:
        size_bytes = node.disk.metadata.extentsize_bytes
        return range(offset // size_bytes, (offset + length - 1) // size_bytes + 1)


def _some(extents: list[int]) -> str:
    return ", ".join(map(str, extents[:4])) + (f" and {len(extents) - 4} more" if len(extents) > 4 else "")
