"""The primary: what happens to a client's operation on its way to two copies. Sans-I/O.

The way of a write: its range is free (`ranges`), its extents are armed on the disk (`activemap`, S1), it goes to the
local provider and to the peer together, and it is answered when its mode is satisfied and the record of who is ahead
is durable (`standing`, S8). Flushes are in `barrier.py`, the copying of owed extents in `sync.py`.

Calls come from the shell in batches; after each call the shell drains `effects`. Nothing here blocks or reads a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, replace

from hast.format.constants import KEEPALIVE_S, Command, Feature, Replication, Role, SyncSource
from hast.replication.activemap import Activemap
from hast.replication.barrier import Barrier
from hast.replication.core import (
    ASYNC,
    BARRIER,
    CLIENT,
    COMMAND,
    EIO,
    ENOTCONN,
    ESHUTDOWN,
    FULLSYNC,
    MAP_OFFSET_BYTES,
    MEMSYNC,
    MODES,
    SYNC,
    TRACKED,
    Core,
    Settings,
)
from hast.replication.standing import OUTDATE_PEER, Record, Standing
from hast.replication.sync import Sync
from hast.replication.types import (
    DELETE,
    FLUSH,
    READ,
    WRITE,
    Drop,
    Effects,
    Metadata,
    Peer,
    Request,
    Store,
    WireReply,
)

MAX_ACTIVE = 2048
MAX_ACTIVE_BYTES = 64 * 1024 * 1024
HOLD_S = 2.0
"""How long writes wait for a handshake that may find the peer ahead."""
IDLE_CLEAN_S = 5.0
TICK_S = 1.0


class Primary:
    """The engine of one resource in role primary.

    `metadata` and `image` are what the provider holds (the map, mapsize bytes). `fresh_resuid` is a random non-zero
    number, used when the resource has none. `boot_id` names this boot of the host's kernel. `force` takes this copy
    for good although its metadata says otherwise.
    """

    def __init__(
        self,
        settings: Settings,
        metadata: Metadata,
        image: bytes,
        *,
        sectorsize_bytes: int = 512,
        fresh_resuid: int = 0,
        boot_id: bytes = b"",
        force: bool = False,
    ) -> None:
        if force and (metadata.stale or metadata.inconsistent):
            metadata = replace(metadata, stale=False, inconsistent=False, prevrole=str(Role.INIT))
        activemap = Activemap(
            metadata.datasize_bytes,
            metadata.extentsize_bytes,
            metadata.offset_bytes - MAP_OFFSET_BYTES,
            sectorsize_bytes,
            metadata.keepdirty,
            image,
        )
        self.core = Core(settings, metadata, activemap)
        self.map = activemap
        self.standing = Standing(self.core, self._released_answer)
        self.barrier = Barrier(self.core, self)
        self.sync = Sync(self.core, self)
        self.effects: Effects = self.core.effects
        self.last_client_s = 0.0
        self.drained = False
        self._fresh_resuid = fresh_resuid
        self._mode = MODES[settings.replication]
        self._active = 0
        self._active_bytes = 0
        self._parked: list[Request] = []
        self._map_job: Store | None = None
        self._map_arming: set[int] = set()
        self._suspect: set[int] = set()
        """Extents the last peer confirmed but did not flush; owed if that peer's kernel restarted since."""
        self._suspect_boot = b""
        self._held: list[Request] = []
        self._holding = True
        self._frozen = ""
        self._hello = False
        self._hello_job: Store | None = None
        self._hello_localcnt = -1
        self._hold_until_s = 0.0
        self._virgin = False
        self._attaching = False
        self._attach_job: Store | None = None
        self._await_lead: list[Request] = []
        """Writes that only the peer can take, until it has recorded that it leads."""
        self._marks: deque[tuple[float, int]] = deque()
        """(time, last seq sent by then), one a tick: how long the oldest request has waited."""
        self._told: set[str] = set()
        """Failures already reported since the copies were last in step."""
        self._draining = False
        self._drain_job: Store | None = None
        self._cleaned_s = 0.0
        if metadata.stale or metadata.inconsistent:
            self.map.owed_local.merge(self.map.armed.data)
        else:
            self.map.owed_remote.merge(self.map.armed.data)
        was_primary = metadata.prevrole == Role.PRIMARY
        rebooted = metadata.boot_id != boot_id and metadata.boot_id != b""
        self._cache_lost = was_primary and rebooted and settings.replication is not Replication.ASYNC
        """This host crashed as primary: a peer that is in step has acknowledged writes that our disk lost (S4)."""
        self._start_job: Store | None = self.core.store_metadata(
            "role primary", prevrole=str(Role.PRIMARY), boot_id=boot_id
        )
        """Its flush makes durable what a worker before this one may have left in the cache, the map above all (S1)."""

    # -- clients ------------------------------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Enough is under way; exports stop reading."""
        return self._active >= MAX_ACTIVE or self._active_bytes >= MAX_ACTIVE_BYTES

    @property
    def active(self) -> int:
        """Client requests not answered yet."""
        return self._active

    def submit(self, batch: list[Request], now: float) -> None:
        """Take client requests, in order."""
        core = self.core
        core.now = self.last_client_s = now
        self.map.clock += 1
        counters = core.counters
        for request in batch:
            self._active += 1
            self._active_bytes += request.length
            op = request.op
            if op == WRITE:
                counters.writes += 1
                counters.write_bytes += request.length
            elif op == READ:
                counters.reads += 1
                counters.read_bytes += request.length
                self._read(request)
                continue
            elif op == FLUSH:
                counters.flushes += 1
                self._enter_flush(request)
                continue
            else:
                counters.deletes += 1
            self._enter_write(request)
        self._settle()

    def local_done(self, batch: list[Request], now: float) -> None:
        """The provider finished these."""
        core = self.core
        core.now = now
        for request in batch:
            if request.owner != CLIENT or request.op == READ:
                self._local_done_slow(request)
                continue
            if request.local_error:
                self._local_write_failed(request)
            request.left -= 1
            if request.left == 0:
                self._complete(request)
            elif request.mode != FULLSYNC:
                request.unacked -= 1
                self._ack_early(request)
        self._settle()

    def replies(self, batch: list[WireReply], now: float) -> None:
        """The peer answered."""
        core = self.core
        core.now = core.last_reply_s = now
        pending = core.pending
        for seq, error, received, data in batch:
            request = pending.get(seq)
            if request is None:
                continue
            if received and not error:
                if request.mode == MEMSYNC and request.owner == CLIENT:
                    request.unacked -= 1
                    self._ack_early(request)
                continue
            del pending[seq]
            if request.owner != CLIENT or request.op == READ:
                self._remote_done_slow(request, seq, error, data)
                continue
            if error:
                self._remote_write_failed(request, error)
            request.left -= 1
            if request.left == 0:
                self._complete(request)
        self._settle()

    def stored(self, job: Store, error: int, now: float) -> None:
        """A durable write ended; jobs end in the order they were issued."""
        self.core.now = now
        if error:
            self._disk_broken(f"writing '{job.reason}' failed: errno {error}")
        if job is self._map_job:
            self._map_stored()
        elif not (self.standing.stored(job, error) or self.sync.stored(job, error)):
            pass
        if job is self._attach_job:
            self._attach_job = None
        if job is self._start_job:
            self._start_job = None
            if not (self._hello or self._attaching):
                self._unhold()
        if job is self._drain_job:
            self._drain_job = None
            self.drained = True
        if job is self._hello_job:
            self._hello_job = None
        self._settle()

    # -- the link -----------------------------------------------------------------------------------------------

    def begin_handshake(self, now: float) -> None:
        """Message 2 was good: make the counters settle, so that message 3 tells the truth.

        While this node has not gone ahead, writes are held (for HOLD_S at most): the peer may turn out to be ahead.
        """
        core = self.core
        core.now = now
        self._hello = True
        self._virgin = False
        self._hello_localcnt = -1
        if self.standing.ahead is Record.ABSENT:
            self._holding = True
            self._hold_until_s = now + HOLD_S
        if core.meta.resuid == 0:
            assert self._fresh_resuid, "no fresh resource id given"
            self._virgin = True
            self._hello_job = core.store_metadata("resource id", resuid=self._fresh_resuid)

    @property
    def hello_ready(self) -> bool:
        """`second_hello` may be called."""
        if not self._hello or self._hello_job is not None or self.standing.ahead is Record.UNDER_WAY:
            return False
        return not self._holding or (self.core.ranges.size == 0 and not self._parked)

    def second_hello(self) -> tuple[int, int, int, bool]:
        """(resuid, localcnt, remotecnt, virgin) for message 3."""
        meta = self.core.meta
        self._hello_localcnt = meta.localcnt
        return meta.resuid, meta.localcnt, meta.remotecnt, self._virgin

    def attach(self, peer: Peer, now: float) -> None:
        """Message 4 was good: merge the maps; the link is live once that is on the disk."""
        core = self.core
        core.now = now
        self._hello = False
        inbound = peer.syncsrc is SyncSource.SECONDARY
        if inbound and (self._hello_localcnt != core.meta.localcnt or self.standing.ahead is not Record.ABSENT):
            self._unhold()
            self.effects.drop = Drop("counters moved during the handshake; it has to be repeated")
            return
        core.peer = peer
        self._merge(peer, inbound)
        if core.local_ok:
            if peer.virgin and core.meta.localcnt == 0:
                self._attach_job = core.store_metadata("first connection", localcnt=1)
            if self.map.owed_local and not core.meta.inconsistent:
                self._attach_job = core.store_metadata("sync from the peer begins", inconsistent=True)
        self._attaching = self._holding = True
        self._settle()

    def detach(self, reason: str, now: float) -> None:
        """The link is gone: all that the peer did not finally confirm stays dirty (S3)."""
        core = self.core
        core.now = now
        was_connected = core.connected
        core.connected = False
        self._hello = self._attaching = False
        self._attach_job = None
        if was_connected:
            core.event("disconnect", f"Disconnected from the peer: {reason}.", "warning")
            self.sync.link_lost()
            self._remember_suspects()
        for request in core.forget_pending():
            self._lost(request)
        self._marks.clear()
        self._launch_awaiting()
        self.barrier.link_changed()
        self._unhold()
        self._settle()

    def tick(self, now: float) -> float:
        """Do what time asks for; returns when to be called next."""
        core = self.core
        core.now = now
        if self._holding and self._hello and now >= self._hold_until_s:
            self._hello_localcnt = -1
            self._unhold()
        if core.connected:
            self._watch_peer(now)
            self.sync.tick()
            self._clean_when_idle(now)
        self._settle()
        wanted = self.sync.wants_call_at()
        return now + TICK_S if wanted is None else max(now + 0.005, min(wanted, now + TICK_S))

    def reconfigure(self, settings: Settings, now: float) -> None:
        """Live changes (section 8.6): from the next request on."""
        self.core.now = now
        self.core.settings = settings
        self._choose_mode()

    def drain(self, now: float) -> None:
        """Demotion (S10): refuse what comes, finish what is there, flush, leave a clean map; then `drained`."""
        self.core.now = now
        self._draining = True
        self._unhold()
        self._settle()

    # -- the arbiter --------------------------------------------------------------------------------------------

    def answered(self, question: str, agreed: bool, now: float) -> None:
        """The arbiter's word."""
        self.core.now = now
        if question == OUTDATE_PEER:
            if not agreed:
                self.freeze("the arbiter does not let this node go on alone", now)
            self.standing.answered(agreed)
        self._settle()

    def freeze(self, reason: str, now: float) -> None:
        """Hold all that would change data until `thaw` (S11)."""
        self.core.now = now
        if not self._frozen:
            self._frozen = reason
            self.core.event("frozen", f"Writes are held: {reason}.", "error")

    def thaw(self, now: float) -> None:
        """Go on."""
        self.core.now = now
        if self._frozen:
            self._frozen = ""
            self.core.event("thawed", "Writes go on.")
            self._unhold()
        self._settle()

    # -- status -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """What status and list show of the engine."""
        core = self.core
        meta = core.meta
        return {
            "connected": core.connected,
            "status": "complete" if core.connected else "degraded",
            "extentsize": meta.extentsize_bytes,
            "keepdirty": meta.keepdirty,
            "datasize": meta.datasize_bytes,
            "dirty": self.map.dirty_bytes(),
            "local_missing": self.map.owed_local.count * meta.extentsize_bytes,
            "peer_missing": self.map.owed_remote.count * meta.extentsize_bytes,
            "resuid": meta.resuid,
            "localcnt": meta.localcnt,
            "remotecnt": meta.remotecnt,
            "inconsistent": meta.inconsistent,
            "stale": meta.stale,
            "local_disk": "ok" if core.local_ok else "failed",
            "frozen": self._frozen,
            "sync": self.sync.status(),
            "active": self._active,
            "activemap_updates": self.map.updates,
            "counters": asdict(core.counters),
        }

    # -- owners' interfaces (barrier, sync) -----------------------------------------------------------------------

    def flushed(self, waiting: list[Request], cleanable: list[int], clock: int, local: int, remote: int | None) -> None:
        """A flush of both copies ended (Barrier)."""
        both = local == 0 and remote == 0
        covered = self.sync.flush_ended(both)
        if both:
            self.map.disarm(cleanable + covered, clock)
        elif local and remote == 0:
            self._local_flush_failed()
        elif local == 0 and remote and remote != ENOTCONN:
            self._remote_flush_failed(remote)
        for request in waiting:
            request.local_error = request.local_error or local
            if remote:
                request.remote_error = remote
            elif remote is None and self._suspect:
                request.remote_error = ENOTCONN
            request.fua = False
            self._acknowledge(request)

    def flush_begins(self) -> None:
        """A flush of both copies begins now (Barrier)."""
        self.sync.flush_begins()

    def want_flush(self) -> None:
        """Flush both copies soon (Sync)."""
        self.barrier.want()

    def in_step(self) -> Store:
        """Both copies are equal: take the counters over crosswise, as section 7.4 says (Sync)."""
        core = self.core
        peer = core.peer
        assert peer is not None, "in step with nobody"
        assert not core.map.owed_local, "in step while something is owed"
        assert not core.map.owed_remote, "in step while something is owed"
        lead = 1 if self.standing.peer_leads is Record.DURABLE else 0
        self.standing.reset()
        self._told.clear()
        return core.store_metadata(
            "in step",
            localcnt=peer.remotecnt,
            remotecnt=peer.localcnt + lead,
            inconsistent=False,
            stale=False,
        )

    def released(self, freed: list[Request]) -> None:
        """A range became free (Sync, and every completed write)."""
        for request in freed:
            if request.owner == SYNC:
                self.sync.start_piece(request)
            else:
                self._begin_write(request)

    # -- writes -------------------------------------------------------------------------------------------------

    def _enter_write(self, request: Request) -> None:
        if self._draining:
            self._finish(request, ESHUTDOWN)
        elif self._holding or self._frozen:
            self._held.append(request)
        elif self.core.ranges.add(request):
            self._begin_write(request)

    def _begin_write(self, request: Request) -> None:
        amap = self.map
        first = request.first = request.offset >> amap.shift
        last = request.last = (request.offset + request.length - 1) >> amap.shift
        if amap.begin(first, last):
            self._launch(request)
        else:
            self._parked.append(request)

    def _launch(self, request: Request) -> None:
        core = self.core
        assert request.op in TRACKED, "only writes are launched"
        if not core.connected and (self.map.owed_local or not core.local_ok):
            self._refuse(request)
            return
        mode = request.mode = self._mode
        left = 0
        if core.local_ok:
            assert self.map.is_armed(request.first, request.last), "S1: extent not marked on the disk"
            core.effects.local.append(request)
            left = 1
        elif self._wait_for_lead(request):
            return
        else:
            request.local_error = EIO
        if core.connected:
            left += core.send(request, mode == MEMSYNC)
        else:
            request.remote_error = ENOTCONN
        request.left = left
        if mode != FULLSYNC:
            request.unacked = left if mode == MEMSYNC else 1

    def _refuse(self, request: Request) -> None:
        """No copy may take this write: the peer has the newer data, or our disk is broken, and the peer is away."""
        self.map.end(request.first, request.last)
        self.released(self.core.ranges.release(request))
        self._finish(request, EIO)

    def _wait_for_lead(self, request: Request) -> bool:
        """Our disk cannot mark the extent (S1): the peer has to know first that its copy is the one to trust."""
        if Feature.TAKE_LEAD not in self.core.features or self.standing.peer_leads is Record.DURABLE:
            return False
        self._await_lead.append(request)
        self.standing.hand_over_lead()
        return True

    def _launch_awaiting(self) -> None:
        waiting, self._await_lead = self._await_lead, []
        for request in waiting:
            if self.standing.peer_leads is Record.DURABLE and self.core.connected:
                self._launch(request)
            else:
                self._refuse(request)

    def _ack_early(self, request: Request) -> None:
        """memsync, async: answer before the peer's final word, if all is well so far."""
        if request.unacked or request.acked or request.fua or request.local_error or request.remote_error:
            return
        request.acked = True
        self._acknowledge(request)

    def _complete(self, request: Request) -> None:
        """Both copies gave their final word on a write."""
        if request.remote_error or request.local_error:
            self._owe(request)
        self.map.end(request.first, request.last)
        freed = self.core.ranges.release(request)
        if freed:
            self.released(freed)
        if not request.acked:
            request.acked = True
            self._acknowledge(request)
        elif request.remote_error:
            self.standing.go_ahead()

    def _owe(self, request: Request) -> None:
        """Note which copy lacks this write; where both failed, the copies still have to be made equal."""
        peer_lacks = request.remote_error != 0
        both = peer_lacks and request.local_error != 0
        target = self.map.owed_remote if peer_lacks and not (both and self.map.owed_local) else self.map.owed_local
        for extent in range(request.first, request.last + 1):
            if extent in self.map.owed_local:
                continue
            target.add(extent)
            self.sync.owed_again(extent)
        self.sync.retry_later()

    def _acknowledge(self, request: Request) -> None:
        """Answer, unless a record has to be durable first (S6, S8)."""
        local, remote = request.local_error, request.remote_error
        if local and remote:
            self._finish(request, local if local != ENOTCONN else EIO)
        elif remote:
            if self.map.owed_local:
                self._finish(request, EIO)
            elif self.standing.may_go_alone(request):
                self._conclude(request)
        elif local:
            if self.standing.may_rest_on_peer(request):
                self._conclude(request)
        else:
            self._conclude(request)

    def _released_answer(self, request: Request, durable: bool) -> None:
        if durable:
            self._conclude(request)
        else:
            self._finish(request, EIO)

    def _conclude(self, request: Request) -> None:
        if request.fua:
            self.barrier.add(request)
        else:
            self._finish(request, 0)

    def _finish(self, request: Request, error: int) -> None:
        request.error = error
        if request.owner == CLIENT:
            self._active -= 1
            self._active_bytes -= request.length
            assert self._active >= 0, "a client request was answered twice"
            self.effects.finished.append(request)

    def _local_write_failed(self, request: Request) -> None:
        counters = self.core.counters
        if request.op == DELETE:
            counters.delete_errors += 1
        else:
            counters.write_errors += 1
        self._tell_once("disk-failed", f"Local write at {request.offset} failed: errno {request.local_error}.")

    def _remote_write_failed(self, request: Request, error: int) -> None:
        if error != ENOTCONN:
            self._tell_once("peer-disk-failed", f"The peer failed a write at {request.offset}: errno {error}.")
        request.remote_error = error

    def _tell_once(self, name: str, text: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self.core.event(name, text, "error")

    # -- reads and flushes ----------------------------------------------------------------------------------------

    def _read(self, request: Request) -> None:
        if not self._lacks(request):
            self.effects.local.append(request)
        else:
            request.local_error = EIO
            self._read_from_peer(request)

    def _lacks(self, request: Request) -> bool:
        owed = self.map.owed_local
        if not owed:
            return False
        extent = owed.next(request.offset >> self.map.shift)
        return 0 <= extent <= (request.offset + request.length - 1) >> self.map.shift

    def _read_from_peer(self, request: Request) -> None:
        shift = self.map.shift
        first, last = request.offset >> shift, (request.offset + request.length - 1) >> shift
        extent = self.map.owed_remote.next(first)
        if not self.core.connected or 0 <= extent <= last:
            self._finish(request, request.local_error or EIO)
            return
        request.data = None
        request.left = self.core.send(request)

    def _enter_flush(self, request: Request) -> None:
        if self._draining:
            self._finish(request, ESHUTDOWN)
        elif self._holding or self._frozen:
            self._held.append(request)
        else:
            self.barrier.add(request)

    def _local_done_slow(self, request: Request) -> None:
        if request.owner == SYNC:
            self.sync.local_done(request)
        elif request.owner == BARRIER:
            self.barrier.local_done(request)
        elif request.local_error:
            self.core.counters.read_errors += 1
            self._read_from_peer(request)
        else:
            self._finish(request, 0)

    def _remote_done_slow(self, request: Request, seq: int, error: int, data: object) -> None:
        if request.op == READ and not error:
            error = self.core.take_piece(seq, request, data)
        if request.owner == SYNC:
            self.sync.remote_done(request, error)
        elif request.owner == BARRIER:
            self.barrier.remote_done(request, error)
        elif request.owner == COMMAND:
            self._command_answered(request, error)
        else:
            request.remote_error = request.remote_error or error
            request.left -= 1
            if request.left == 0:
                self._finish(request, request.remote_error)

    def _command_answered(self, request: Request, error: int) -> None:
        if self.standing.command_answered(request, error):
            self._launch_awaiting()
        else:
            self.sync.command_answered(request, error)

    # -- failures -------------------------------------------------------------------------------------------------

    def _lost(self, request: Request) -> None:
        """One reply that will not come."""
        if request.owner != CLIENT or request.op == READ:
            self._remote_done_slow(request, 0, ENOTCONN, None)
            return
        request.remote_error = ENOTCONN
        request.left -= 1
        if request.left == 0:
            self._complete(request)

    def _disk_broken(self, text: str) -> None:
        core = self.core
        if core.local_ok:
            core.local_ok = False
            core.event("disk-failed", f"Local disk is not used any more: {text}.", "error")
            self.standing.hand_over_lead()

    def _local_flush_failed(self) -> None:
        self.core.event("disk-failed", "Local flush failed; what it covered is taken from the peer again.", "error")
        for extent in self.map.armed:
            if extent not in self.map.owed_remote:
                self.map.owed_local.add(extent)
                self.sync.owed_again(extent)
        self.standing.hand_over_lead()
        self.sync.retry_later()

    def _remote_flush_failed(self, error: int) -> None:
        self.core.event("peer-disk-failed", f"The peer failed a flush: errno {error}.", "error")
        for extent in self.map.armed:
            if extent not in self.map.owed_local:
                self.map.owed_remote.add(extent)
                self.sync.owed_again(extent)
        self.standing.go_ahead()
        self.sync.retry_later()

    def _remember_suspects(self) -> None:
        assert self.core.peer is not None, "connected to nobody"
        self._suspect_boot = self.core.peer.boot_id
        self._suspect = {e for e in self.map.armed if e not in self.map.owed_remote and e not in self.map.owed_local}

    # -- attaching --------------------------------------------------------------------------------------------------

    def _merge(self, peer: Peer, inbound: bool) -> None:
        amap = self.map
        if self._suspect and not (peer.boot_id and peer.boot_id == self._suspect_boot):
            for extent in self._suspect:
                if extent not in amap.owed_local:
                    amap.owed_remote.add(extent)
        self._suspect = set()
        in_step = not inbound and not peer.virgin and peer.remotecnt == self._hello_localcnt == self.core.meta.localcnt
        if self._cache_lost and in_step and self.standing.ahead is Record.ABSENT:
            amap.owed_local.merge(amap.armed.data)
        self._cache_lost = False
        if peer.bitmap is not None:
            amap.mark(peer.bitmap)
            (amap.owed_local if inbound else amap.owed_remote).merge(peer.bitmap)
        if inbound:
            amap.owed_local.merge(amap.owed_remote.data)
            amap.owed_remote.clear()
        else:
            amap.owed_remote.subtract(amap.owed_local)

    def _go_live(self) -> None:
        """The merged map is on the disk (or the disk is broken, and the peer alone serves): requests may follow."""
        core = self.core
        peer = core.peer
        assert peer is not None, "live with nobody"
        self._attaching = False
        core.connected = True
        core.last_reply_s = core.last_sent_s = core.now
        self._choose_mode()
        self.barrier.link_changed()
        core.event("connect", "Connected to the peer.")
        if core.local_ok:
            self.sync.begin(peer.syncsrc)
        else:
            self.standing.hand_over_lead()
        self._unhold()

    def _choose_mode(self) -> None:
        core = self.core
        self._mode = MODES[core.settings.replication]
        if self._mode == MEMSYNC and core.peer is not None and core.peer.version < 2:
            self._mode = FULLSYNC

    def _unhold(self) -> None:
        if self._start_job is not None:
            return
        self._holding = False
        if self._frozen and not self._draining:
            return
        held, self._held = self._held, []
        for request in held:
            if request.op == FLUSH:
                self._enter_flush(request)
            else:
                self._enter_write(request)

    # -- the map ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """The end of every call: one map job and one flush at a time, started when there is cause."""
        if self._map_job is None:
            self._store_map()
        if self._attaching and self._attach_job is None and self._map_job is None:
            self._go_live()
        if self.core.connected:
            self.sync.pump()
        self.barrier.start()
        if self._map_job is None:
            self._store_map()
        if self._draining and not self.drained:
            self._drain_step()

    def _store_map(self) -> None:
        image = self.map.take_image()
        if image is None:
            return
        offset, data = image
        self._map_arming = set(self.map.arming)
        flush = bool(self._map_arming) and self.core.settings.metaflush
        self._map_job = Store("activemap", offset_bytes=MAP_OFFSET_BYTES + offset, data=data, flush=flush)
        self.effects.stores.append(self._map_job)

    def _map_stored(self) -> None:
        """Launch what waited for these bits, and what came later and needs no others."""
        self._map_job = None
        self.map.arm(self._map_arming)
        self._map_arming = set()
        parked, self._parked = self._parked, []
        for request in parked:
            if self.map.is_armed(request.first, request.last):
                self._launch(request)
            else:
                self._parked.append(request)

    # -- time -------------------------------------------------------------------------------------------------------

    def _watch_peer(self, now: float) -> None:
        """Notice a peer that does not answer, or whose disk does not; keep an idle link alive (section 5.10)."""
        core = self.core
        timeout = core.settings.timeout_s
        pings = Feature.PING in core.features
        silence = now - core.last_reply_s if core.pending else 0.0
        patience = min(timeout, max(2.0, timeout / 3)) if pings else timeout
        waited = self._oldest_wait_s(now)
        if silence > patience or waited > timeout:
            self.effects.drop = Drop(f"no reply for {max(silence, waited):.1f} s")
        elif pings and now - core.last_sent_s >= min(5.0, max(0.5, timeout / 8)):
            core.send_command(Command.PING)
        elif not pings and now - core.last_sent_s >= KEEPALIVE_S:
            core.last_sent_s = now
            self.effects.remote.append((int(Command.KEEPALIVE), 0, 0, 0, None, False))

    def _oldest_wait_s(self, now: float) -> float:
        """At least how long the oldest unanswered request has waited."""
        marks = self._marks
        oldest = self.core.oldest_pending()
        while marks and (oldest == 0 or marks[0][1] < oldest):
            marks.popleft()
        waited = now - marks[0][0] if marks else 0.0
        if oldest and (not marks or now - marks[-1][0] >= TICK_S / 2):
            marks.append((now, self.core.last_seq))
        return waited

    def _clean_when_idle(self, now: float) -> None:
        """Quiet for a while: leave an all-clear map, so that a crash costs no resynchronisation."""
        quiet = now - self.last_client_s > IDLE_CLEAN_S and now - self._cleaned_s > IDLE_CLEAN_S
        if quiet and self.map.armed and not self.sync.active and self.barrier.idle:
            self._cleaned_s = now
            if self.map.stale_bits(True):
                self.barrier.want(clean_all=True)

    def _drain_step(self) -> None:
        """One step of the demotion, when the one before is over."""
        if self._active or not self.barrier.idle or self._map_job is not None or self._drain_job is not None:
            return
        if self.core.connected and self.core.local_ok and not self._draining_cleaned():
            return
        self._drain_job = self.core.store_metadata("demoted")

    def _draining_cleaned(self) -> bool:
        if self.sync.active or not self.map.stale_bits(True):
            return True
        if self._cleaned_s == -1.0:
            return True
        self._cleaned_s = -1.0
        self.barrier.want(clean_all=True)
        self.barrier.start()
        return False


__all__ = ["ASYNC", "Primary", "Settings"]
