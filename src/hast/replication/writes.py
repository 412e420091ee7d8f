"""The way of a write, and of the answer to it.

Its range is free (`ranges`), its extents are marked on the disk (`arming`, S1), it goes to the local provider and to
the peer together, and it is answered when its mode is satisfied and the record of who is ahead is durable (`standing`,
S8). Flushes take the last part of the same way, because they promise what the writes before them did (S4).
"""

from __future__ import annotations

from typing import Protocol

from hast.format.constants import Feature
from hast.format.errnos import words
from hast.replication.arming import Arming
from hast.replication.barrier import Barrier
from hast.replication.bitmap import Bitmap
from hast.replication.core import (
    ASYNC,
    CLIENT,
    EIO,
    ENOTCONN,
    ESHUTDOWN,
    FULLSYNC,
    MEMSYNC,
    MODES,
    SYNC,
    TRACKED,
    VERIFY,
    Core,
)
from hast.replication.standing import NOT_ALONE, Record, Standing
from hast.replication.sync import Sync
from hast.replication.types import DELETE, FLUSH, Request, Store
from hast.replication.verify import Verify

MAX_ACTIVE = 2048
MAX_ACTIVE_BYTES = 64 * 1024 * 1024


class Suspects(Protocol):
    """Who knows what the peer confirmed but did not flush when its link was lost."""

    @property
    def any_suspect(self) -> bool: ...

    @property
    def attaching(self) -> bool: ...


class Writes:
    """Client operations that change data, the flushes, and what holds them back. Owner of the barrier and the sync."""

    def __init__(self, core: Core, suspects: Suspects) -> None:
        self._core = core
        self._suspects = suspects
        self.standing = Standing(core, self._answer_held, self._flush_held)
        self.arming = Arming(core, self.launch)
        self.barrier = Barrier(core, self)
        self.sync = Sync(core, self)
        self.verify = Verify(core, self)
        self.last_client_s = 0.0
        self.active = 0
        self.active_bytes = 0
        self.holding = True
        self.frozen = ""
        self.draining = False
        self.withholding = False
        """No write is answered any more, and no failure (`leaving.py`)."""
        self.unanswered = 0
        """Requests carried out, or refused, without an answer."""
        self.mode = MODES[core.settings.replication]
        self._held: list[Request] = []
        self._await_lead: list[Request] = []
        """Writes that only the peer can take, until it has recorded that it leads."""
        self._failed_flushes = 0
        """Flushes that failed on every copy there was, or on the one to be trusted: that may be durable nowhere."""
        self._untold = core.meta.unflushed
        """Such a one failed that no client waited for: the next one tells it (S4)."""
        self._shown_here = Bitmap(core.map.extents)
        """Of what is owed here that for which only a flush failed: this copy shows it, and the peer is to have it."""
        self._told: set[str] = set()
        """Failures already reported since the copies were last in step."""

    # -- in -----------------------------------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Enough is under way; exports stop reading."""
        return self.active >= MAX_ACTIVE or self.active_bytes >= MAX_ACTIVE_BYTES or self.unanswered >= MAX_ACTIVE

    @property
    def under_way(self) -> int:
        """Client requests that are being carried out: those held back are not."""
        return self.active - len(self._held)

    def at_risk_bytes(self) -> int:
        """No less than what clients were promised and only this node holds; whole extents, so it may be more.

        In memsync the peer had it before the answer; in fullsync also on its disk.
        """
        amap = self._core.map
        extents = amap.owed_remote.count
        if self.mode == ASYNC:
            extents += sum(1 for extent in amap.inflight if extent not in amap.owed_remote)
        return min(extents * amap.extentsize_bytes, amap.datasize_bytes)

    @property
    def closed(self) -> bool:
        """What comes from clients is held, or refused."""
        return self.draining or self.holding or bool(self.frozen)

    def enter(self, request: Request) -> None:
        """A client's write, zero or discard."""
        if self.draining:
            self.finish(request, ESHUTDOWN)
        elif self.closed:
            self._held.append(request)
        elif self._core.ranges.add(request):
            self._begin(request)

    def enter_flush(self, request: Request) -> None:
        """A client's flush."""
        request.failed_flushes = self._failed_flushes
        self._admit_flush(request)

    def _admit_flush(self, request: Request) -> None:
        if self.draining:
            self.finish(request, ESHUTDOWN)
        elif self.holding or self.frozen:
            self._held.append(request)
        else:
            self.barrier.add(request)

    def release_held(self) -> None:
        """Let in what was held, unless the engine is frozen."""
        if self.frozen and not self.draining:
            return
        held, self._held = self._held, []
        for request in held:
            if request.op == FLUSH:
                self._admit_flush(request)
            else:
                self.enter(request)

    def lift_refusal(self) -> None:
        """The peer is there: nobody has to be asked whether this node may go on alone."""
        if self.frozen == NOT_ALONE:
            self.frozen = ""
            self._core.event("thawed", "Writes go on: the peer is back.")
            if not self.holding:
                self.release_held()

    def owed_anew(self) -> None:
        """What each copy lacks is told anew."""
        self._shown_here = Bitmap(self._core.map.extents)

    def choose_mode(self) -> None:
        """The mode of the writes from now on; a version 1 peer does not know memsync (section 4.2)."""
        core = self._core
        self.mode = MODES[core.settings.replication]
        if self.mode == MEMSYNC and core.peer is not None and core.peer.version < 2:
            self.mode = FULLSYNC

    def released(self, freed: list[Request]) -> None:
        """A range became free."""
        for request in freed:
            if request.owner == SYNC:
                self.sync.start_piece(request)
            elif request.owner == VERIFY:
                self.verify.start_piece(request)
            else:
                self._begin(request)

    def _begin(self, request: Request) -> None:
        for armed in self.arming.admit([request]):
            self.launch(armed)

    def launch(self, request: Request) -> None:
        """Its range is free, its extents are marked: to the copies that are there."""
        core = self._core
        assert request.op in TRACKED, "only writes are launched"
        if not core.connected and (core.lacking or not core.local_ok):
            self._refuse(request)
            return
        left = 0
        if core.local_ok:
            assert core.map.is_armed(request.first, request.last), "S1: extent not marked on the disk"
            core.effects.local.append(request)
            left = 1
        elif not core.peer_whole:
            self._refuse(request)
            return
        elif self._wait_for_lead(request):
            return
        else:
            request.local_error = EIO
        if core.connected:
            left += core.send(request, self.mode == MEMSYNC)
        else:
            request.remote_error = ENOTCONN
        request.left = left
        self.promise([request])

    def promise(self, batch: list[Request]) -> None:
        """What their answers, of which each knows the number, are to mean."""
        mode, failed_flushes = self.mode, self._failed_flushes
        if mode == FULLSYNC and not failed_flushes:
            return  # as it is in a new request
        for request in batch:
            request.mode, request.failed_flushes = mode, failed_flushes
            request.unacked = request.left if mode == MEMSYNC else 1

    def _refuse(self, request: Request) -> None:
        """No copy may take this write: the peer has the newer data, or our disk is broken, and the peer is away."""
        core = self._core
        core.map.end(request.first, request.last)
        self.released(core.ranges.release(request))
        self.finish(request, EIO)

    def _wait_for_lead(self, request: Request) -> bool:
        """Our disk cannot mark the extent (S1): the peer has to know first that its copy is the one to trust."""
        if Feature.TAKE_LEAD not in self._core.features or self.standing.peer_leads is Record.DURABLE:
            return False
        self.standing.hand_over_lead()
        if self.standing.peer_leads is Record.ABSENT:
            self._refuse(request)
        else:
            self._await_lead.append(request)
        return True

    def launch_awaiting(self) -> None:
        """The peer leads now, or is gone."""
        waiting, self._await_lead = self._await_lead, []
        for request in waiting:
            if self.standing.peer_leads is Record.DURABLE and self._core.connected:
                self.launch(request)
            else:
                self._refuse(request)

    # -- out ----------------------------------------------------------------------------------------------------

    def ack_early(self, request: Request) -> None:
        """memsync, async: answer before the peer's final word, if all is well so far, and our disk says that this is a
        copy to rest on."""
        if request.unacked or request.acked or request.fua or request.local_error or request.remote_error:
            return
        if not self.standing.leads or self.withholding:
            return
        request.acked = True
        self._acknowledge(request)

    def complete(self, request: Request) -> None:
        """Both copies gave their final word on a write."""
        if request.local_error and not (self._core.connected and self._core.peer_whole):
            request.remote_error = (
                request.remote_error or EIO
            )  # what a peer that is gone had may be gone with its cache
        if request.remote_error or request.local_error:
            self._owe(request)
        self._core.map.end(request.first, request.last)
        freed = self._core.ranges.release(request)
        if freed:
            self.released(freed)
        if not request.acked:
            request.acked = True
            self._acknowledge(request)
        elif request.remote_error:
            self.standing.go_ahead()

    def finish_all(self, batch: list[Request]) -> None:
        """All of these clients' writes are as they were promised to be."""
        assert not self.withholding, "answers are withheld"
        self.active -= len(batch)
        for request in batch:
            self.active_bytes -= request.length
        assert self.active >= 0, "a client request was answered twice"
        self._core.effects.finished += batch

    def finish(self, request: Request, error: int) -> None:
        """The answer to a client."""
        request.error = error
        if request.owner == CLIENT:
            self.active -= 1
            self.active_bytes -= request.length
            assert self.active >= 0, "a client request was answered twice"
            if self.withholding and (self.draining or request.op in TRACKED or (request.op == FLUSH and error)):
                self.unanswered += 1
            else:
                self._core.effects.finished.append(request)

    def local_failed(self, request: Request) -> None:
        """The local provider failed a client's write."""
        counters = self._core.counters
        if request.op == DELETE:
            counters.delete_errors += 1
        else:
            counters.write_errors += 1
        self._tell_once("disk-failed", f"Local write at {request.offset} failed: {words(request.local_error)}.")

    def remote_failed(self, request: Request, error: int) -> None:
        """The peer failed a client's write."""
        if error != ENOTCONN:
            self._tell_once("peer-disk-failed", f"The peer failed a write at {request.offset}: {words(error)}.")
        request.remote_error = error

    def lost(self, request: Request) -> None:
        """One reply to a client's write will not come."""
        request.remote_error = ENOTCONN
        request.left -= 1
        if request.left == 0:
            self.complete(request)

    def _owe(self, request: Request) -> None:
        """Note which copy lacks this write; where both failed, the copies still have to be made equal (S3, S6)."""
        amap = self._core.map
        peer_lacks = request.remote_error != 0
        lost_here = not self._core.local_ok and not request.acked
        both = peer_lacks and (request.local_error != 0 or lost_here)
        peer_is_better = bool(amap.owed_local) or not self._core.local_ok
        target = amap.owed_remote if peer_lacks and not (both and peer_is_better) else amap.owed_local
        for extent in range(request.first, request.last + 1):
            if request.local_error:
                self._shown_here.discard(extent)
            elif peer_lacks and extent in self._shown_here and extent in amap.owed_local:
                amap.owed_local.discard(extent)  # the peer has not got it after all
                amap.owed_remote.add(extent)
            if extent not in amap.owed_local and extent not in amap.owed_remote:
                target.add(extent)
            amap.hot.pop(extent, None)
            self.sync.owed_again(extent)
        self.sync.retry_later()

    def _acknowledge(self, request: Request) -> None:
        """Answer, unless a record has to be durable first (S6, S8)."""
        local, remote = request.local_error, request.remote_error
        if local and remote:
            self.finish(request, local if local != ENOTCONN else EIO)
        elif remote:
            if self._core.lacking or self.withholding:
                self.finish(request, EIO)
            elif self.standing.may_go_alone(request):
                self._conclude(request)
        elif local:
            if self.standing.may_rest_on_peer(request):
                self._conclude(request)
        else:
            self._conclude(request)

    def _answer_held(self, request: Request, durable: bool) -> None:
        if durable:
            self._conclude(request)
        else:
            self.finish(request, EIO)

    def _flush_held(self, request: Request) -> None:
        request.local_error = request.remote_error = 0
        self.barrier.add(request)

    def _conclude(self, request: Request) -> None:
        if request.fua:
            request.local_error = request.remote_error = 0
            self.barrier.add(request)
        else:
            self.finish(request, 0)

    def _tell_once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._core.event("peer-disk-failed" if kind.startswith("peer") else "disk-failed", text, "error")

    # -- what the barrier and the sync want of their owner --------------------------------------------------------

    @property
    def copying(self) -> bool:
        """A synchronisation is on."""
        return self.sync.active

    @property
    def joining(self) -> bool:
        """The link is about to go live."""
        return self._suspects.attaching

    def flush_begins(self) -> None:
        """A flush of both copies begins now."""
        self.sync.flush_begins()
        self.verify.flush_begins()

    def flushed(
        self, waiting: list[Request], cleanable: Bitmap | list[int], clock: int, local: int, remote: int | None
    ) -> None:
        """A flush of both copies ended."""
        both = local == 0 and remote == 0
        durable_here = local == 0 and not (self._core.lacking or self._core.meta.unflushed)
        durable_there = remote == 0 and self._core.peer_whole
        told_so = local != 0 or remote not in (0, None, ENOTCONN)
        if told_so and not (durable_here or durable_there):
            self.failed_flush_unheard()
        if local and self._core.local_ok:
            self._local_flush_failed(there=remote == 0)
        if remote and remote != ENOTCONN:
            self._remote_flush_failed(remote)
        covered = self.sync.flush_ended(both)
        self.verify.flush_ended(both)
        if both:
            self._core.map.disarm(cleanable, clock)
            if self._core.map.disarm(covered, clock):
                self.arming.clears_durably = True
        if remote is None and local == 0 and (self.joining or self._core.connected):
            # Begun alone, and the peer is back: it takes part in the promise (S4).
            for request in waiting:
                self.barrier.add(request)
            return
        told, self._untold = self._untold, self._untold and not waiting
        if remote == 0 and self._core.peer_unflushed and self._core.map.owed_remote:
            remote = EIO
        for request in waiting:
            request.local_error = request.local_error or local
            if told or request.failed_flushes != self._failed_flushes:
                request.local_error = request.remote_error = request.local_error or EIO
            elif remote:
                request.remote_error = remote
            elif remote is None and (local or self._peer_matters()):
                request.remote_error = ENOTCONN
            request.fua = False
            failed = request.local_error or request.remote_error
            if failed or self.standing.settled(request):
                self._acknowledge(request)

    def _peer_matters(self) -> bool:
        """The peer is away, and may have lost what it confirmed and did not flush; or its copy is the one to trust."""
        return self._suspects.any_suspect or bool(self._core.map.owed_remote) or self._core.lacking

    @property
    def leads(self) -> bool:
        """Our disk says that this copy lacks nothing."""
        return self.standing.leads

    @property
    def ahead(self) -> bool:
        """This node went ahead of its peer, or is about to."""
        return self.standing.ahead is not Record.ABSENT

    @property
    def follows(self) -> bool:
        """Our disk says that this copy lacks something, unless nothing of the kind is to be recorded (S7)."""
        meta, saved = self._core.meta, self._core.saved
        asked, durable = meta.stale or meta.inconsistent, saved.stale or saved.inconsistent
        return (durable and not self.standing.taking_back) or not asked or not self._core.local_ok

    def hand_over_lead(self) -> None:
        """The peer holds what this copy lacks (S6)."""
        self.standing.hand_over_lead()

    @property
    def flushing(self) -> bool:
        """A flush is under way."""
        return self.barrier.running

    def failed_flush_unheard(self) -> None:
        """A flush failed on the copy to be trusted, perhaps before this worker's time: a client is told, once (S4)."""
        self._failed_flushes += 1
        self._untold = True

    def want_flush(self) -> None:
        """Flush both copies soon."""
        self.barrier.want()

    def in_step(self) -> Store:
        """Both copies are equal: take the counters over crosswise (section 7.4); returns the job."""
        core = self._core
        peer = core.peer
        assert peer is not None, "in step with nobody"
        assert not core.map.owed_local, "in step while something is owed"
        assert not core.map.owed_remote, "in step while something is owed"
        core.peer_unflushed = False
        self.standing.reset()
        self.lift_refusal()
        self._told.clear()
        return core.store_metadata(
            "in step",
            localcnt=peer.remotecnt,
            remotecnt=peer.localcnt,
            inconsistent=False,
            stale=False,
            unflushed=False,
            boot_id=core.boot_id,
            ahead_since_s=0,
        )

    def _local_flush_failed(self, there: bool) -> None:
        """The kernel told us once (S2). `there`: the peer's flush was good, so what it has can be taken from it again;
        the rest is copied from here, and written again here."""
        core, amap = self._core, self._core.map
        if not core.meta.unflushed:
            core.store_metadata("local flush failed", unflushed=True)
        self.sync.all_owed_again()
        if there:
            self._tell_once("flush-failed", "Local flush failed; what it covered is taken from the peer again.")
            shown = amap.armed.copy()
            shown.subtract(amap.owed_local)
            self._shown_here.unite(shown)
            amap.owed_local.unite_but(amap.armed, amap.owed_remote)
            if amap.owed_local:
                self.standing.hand_over_lead()
            self.sync.retry_later()
        else:
            self._tell_once("flush-failed", "Local flush failed; what it covered is written again in the next sync.")
            amap.owed_remote.unite_but(amap.armed, amap.owed_local)
            self.sync.retry_later()

    def _remote_flush_failed(self, error: int) -> None:
        """The peer's kernel told it once (S2): what it covered is written to the peer again. Where all that was owed
        already, this node is ahead by no more than before, and nobody is asked."""
        core, amap = self._core, self._core.map
        known = amap.owed_remote.count
        self._tell_once("peer-flush-failed", f"The peer failed a flush: {words(error)}.")
        core.peer_unflushed = True
        amap.owed_remote.unite_but(amap.armed, amap.owed_local)
        self.sync.all_owed_again()
        if amap.owed_remote.count > known:
            self.standing.go_ahead()
        self.sync.retry_later()
