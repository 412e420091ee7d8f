"""How a primary joins a peer: counters that tell the truth in message 3, and the merge of both maps after message 4.

While this node has not gone ahead of its peer, the peer may turn out to be ahead of it; writes are held meanwhile, for
HOLD_S at most, so that no write is acknowledged that the coming synchronisation would undo.
"""

from __future__ import annotations

from hast.format.constants import Feature, SyncSource
from hast.replication.bitmap import Bitmap
from hast.replication.core import Core
from hast.replication.splitbrain import Changes, amount, report, summary
from hast.replication.standing import Record
from hast.replication.types import Drop, Event, Peer, Store
from hast.replication.writes import Writes

HOLD_S = 2.0
MOVED = "counters moved during the handshake; it has to be repeated"
UNKNOWN_THERE = (
    "the peer calls its copy the newer one and does not know of writes that this node acknowledged alone, as in a split"
    " brain; decide which node's changes stay, and make that node the primary"
)


class Joining:
    """Handshake, attach, and what is remembered of a peer that was lost.

    `cache_lost`: this host crashed as primary, so a peer that is in step has acknowledged writes that our disk lost.
    """

    def __init__(self, core: Core, fresh_resuid: int, cache_lost: bool) -> None:
        self._core = core
        self._fresh_resuid = fresh_resuid
        self._cache_lost = cache_lost
        self.writes: Writes
        self.hello = False
        self.attaching = False
        self._job: Store | None = None
        """The last metadata job that has to be done before the next step of the handshake."""
        self._localcnt = -1
        """As message 3 told it."""
        self._virgin = False
        self._hold_until_s = 0.0
        self._start_job: Store | None = None
        self._suspect = Bitmap(core.map.extents)
        """Extents the last peer confirmed but did not flush; owed if that peer's kernel restarted since."""
        self._suspect_boot = b""

    @property
    def any_suspect(self) -> bool:
        """A peer that is away may lose what it confirmed."""
        return bool(self._suspect)

    def wait_for(self, start_job: Store) -> None:
        """Nothing is let in before this job is done."""
        self._start_job = start_job

    def begin(self) -> None:
        """Message 2 was good: make the counters settle."""
        core = self._core
        self.hello = True
        self._virgin = False
        self._localcnt = -1
        if self.writes.standing.ahead is Record.ABSENT:
            self.writes.holding = True
            self._hold_until_s = core.now + HOLD_S
        if core.meta.resuid == 0:
            assert self._fresh_resuid, "no fresh resource id given"
            self._virgin = True
            self._job = core.store_metadata("resource id", resuid=self._fresh_resuid)

    @property
    def hello_ready(self) -> bool:
        """Message 3 may be sent."""
        writes = self.writes
        if not self.hello or self._job is not None or writes.standing.ahead is Record.UNDER_WAY:
            return False
        if writes.standing.is_settling:
            return False
        if self._core.saved.resuid == 0:  # the disk did not take it, and nobody would know it again
            return False
        return not writes.holding or (self._core.ranges.size == 0 and writes.arming.quiet)

    def second_hello(self) -> tuple[int, int, int, bool]:
        """(resuid, localcnt, remotecnt, virgin) for message 3."""
        meta = self._core.meta
        self._localcnt = meta.localcnt
        return meta.resuid, meta.localcnt, meta.remotecnt, self._virgin

    def attach(self, peer: Peer) -> None:
        """Message 4 was good: merge the maps; the link is live once that is on the disk."""
        core = self._core
        self.hello = False
        inbound = peer.syncsrc is SyncSource.SECONDARY
        if inbound and (complaint := self._against_inbound(peer)):
            self.unhold()
            core.effects.drop = Drop(complaint)
            return
        self.writes.standing.meet(leads=inbound)
        core.meet(peer)
        if peer.discards is not None:
            self._tell_resolved(peer.discards)
        self._merge(peer, inbound)
        self.writes.owed_anew()
        if core.map.owed_local:
            self.writes.standing.abandon()
        if peer.features and not peer.boot_id and (core.map.owed_local or core.meta.unflushed):
            self.writes.failed_flush_unheard()
        if core.local_ok:
            if core.meta.boot_id != core.boot_id and not (core.map.owed_local and core.map.owed_remote):
                self._job = core.store_metadata("caches compared", boot_id=core.boot_id)
            if peer.virgin:
                # What our counters say of the former disk there does not hold for this one; and the former one, should
                # it come back, lacks something.
                localcnt = core.meta.localcnt + 1
                self._job = core.store_metadata("first connection", localcnt=localcnt, remotecnt=peer.localcnt)
            elif core.map.owed_remote and not core.map.owed_local and core.meta.localcnt <= peer.remotecnt:
                # Should this host lose power while it is copied to, that copy is not one to take anything from.
                self._job = core.raise_localcnt("the peer lacks something")
            if core.map.owed_local and not core.map.owed_remote and not core.meta.inconsistent:
                self._job = core.store_metadata("sync from the peer begins", inconsistent=True)
        self.attaching = self.writes.holding = True

    def _against_inbound(self, peer: Peer) -> str:
        """Why nothing may be taken from this peer; empty when it may."""
        standing = self.writes.standing
        if self._localcnt != self._core.meta.localcnt or standing.ahead is Record.UNDER_WAY:
            return MOVED
        return UNKNOWN_THERE if standing.ahead is Record.DURABLE and not standing.was_offered_lead(peer) else ""

    def settle(self) -> None:
        """Go live when the merged map is on the disk (or the disk is broken, and the peer alone serves)."""
        if self.attaching and self._job is self._start_job is None and not self.writes.arming.busy:
            self._go_live()

    def lost(self, was_connected: bool) -> None:
        """The link is gone."""
        self.hello = self.attaching = False
        self._job = None
        if was_connected:
            self._remember_suspects()

    def tick(self) -> None:
        """A handshake that takes too long does not hold writes any longer; its result then may not be used."""
        if self.writes.holding and self.hello and self._core.now >= self._hold_until_s:
            self._localcnt = -1
            self.unhold()

    def stored(self, job: Store) -> None:
        """A metadata job ended."""
        if job is self._job:
            self._job = None
        if job is self._start_job:
            self._start_job = None
            if not (self.hello or self.attaching):
                self.unhold()

    def unhold(self) -> None:
        """Let in what was held."""
        if self._start_job is None:
            self.writes.holding = False
            self.writes.release_held()

    def _merge(self, peer: Peer, inbound: bool) -> None:
        amap = self._core.map
        meta = self._core.meta
        if not (peer.boot_id and peer.boot_id == self._suspect_boot):
            if not (inbound or meta.stale or meta.inconsistent):
                if self._core.local_ok or Feature.TAKE_LEAD in self._core.features:
                    # Owed here since a flush failed, or a write did on both: the peer has lost its cache, and a peer
                    # that alone holds something leads. Ours, if it can be read at all, shows what was written.
                    amap.owed_remote.unite(amap.owed_local)
                    amap.owed_local.clear()
                else:
                    amap.owed_local.subtract(self._suspect)
            amap.owed_remote.unite_but(self._suspect, amap.owed_local)
            self._suspect = Bitmap(amap.extents)
        if meta.unflushed or self._core.peer_unflushed:
            amap.owed_remote.unite_but(amap.armed, amap.owed_local)
        if self._cache_lost and not inbound and self._in_step(peer):
            amap.owed_local.unite(amap.armed)
            if peer.bitmap is not None:
                theirs = Bitmap(amap.extents)
                theirs.merge(peer.bitmap)
                amap.owed_local.subtract(theirs)
        self._cache_lost = False
        if peer.bitmap is not None:
            amap.mark(peer.bitmap)
            (amap.owed_local if inbound else amap.owed_remote).merge(peer.bitmap)
        if inbound:
            amap.owed_local.merge(amap.owed_remote.data)
            amap.owed_remote.clear()
        else:
            amap.owed_remote.subtract(amap.owed_local)

    def changes(self) -> Bitmap:
        """Extents that this node changed since the copies were last in step, as far as it knows."""
        amap = self._core.map
        changed = amap.owed_remote.copy()
        changed.unite(self._suspect)
        return changed

    def _tell_resolved(self, discards: int) -> None:
        core = self._core
        size_bytes = core.map.extentsize_bytes
        local, theirs = Changes(self.changes().count, core.meta.ahead_since_s), Changes(discards)
        details = report(local, theirs, None, size_bytes, "the other node gives up its changes")
        core.effects.events.append(Event("split-brain", summary(local, theirs, size_bytes), "warning", details))
        core.event("split-brain-resolved", f"The other node gives up its changes, {amount(theirs, size_bytes)}.")

    def _in_step(self, peer: Peer) -> bool:
        told_the_truth = self._localcnt == self._core.meta.localcnt
        alone = self.writes.standing.ahead is not Record.ABSENT
        return told_the_truth and not alone and not peer.virgin and peer.remotecnt == self._localcnt

    def _go_live(self) -> None:
        core = self._core
        peer = core.peer
        assert peer is not None, "live with nobody"
        self.attaching = False
        self._suspect = Bitmap(core.map.extents)
        core.connected = True
        self.writes.standing.live()
        core.last_reply_s = core.last_sent_s = core.now
        self.writes.choose_mode()
        self.writes.barrier.link_changed()
        core.event("connect", "Connected to the peer.")
        if core.local_ok:
            self.writes.sync.begin(peer.syncsrc)
        else:
            self.writes.standing.hand_over_lead()
        self.writes.lift_refusal()
        self.unhold()

    def _remember_suspects(self) -> None:
        core = self._core
        assert core.peer is not None, "connected to nobody"
        amap = core.map
        self._suspect_boot = core.peer.boot_id
        self._suspect = amap.armed.copy()
        self._suspect.subtract(amap.owed_remote)
        self._suspect.subtract(amap.owed_local)
