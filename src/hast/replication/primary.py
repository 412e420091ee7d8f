"""The primary: the engine of one resource in role primary. Sans-I/O.

Calls come from the shell in batches; after each call the shell drains `effects`. Nothing here blocks or reads a clock.
This file takes the calls apart; `writes.py` and `reads.py` are the way of an operation, `joining.py` the handshake,
`sync.py` the copying of what is owed.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hast.format.constants import PEER_LEAVES_SEQ, Replication, Role
from hast.format.errnos import words
from hast.replication.activemap import Activemap
from hast.replication.core import (
    BARRIER,
    CLIENT,
    COMMAND,
    ENOTCONN,
    FULLSYNC,
    MAP_OFFSET_BYTES,
    MEMSYNC,
    SYNC,
    VERIFY,
    Core,
    Settings,
)
from hast.replication.disk_service import DiskService, full_map
from hast.replication.handshake import PeerChanges
from hast.replication.intake import Intake
from hast.replication.joining import Joining
from hast.replication.leaving import Leaving
from hast.replication.pace import Slow
from hast.replication.plain import PlainPath
from hast.replication.promotion import as_led
from hast.replication.reads import Reads
from hast.replication.splitbrain import Changes, report, summary
from hast.replication.standing import NOT_ALONE, OUTDATE_PEER
from hast.replication.types import READ, Effects, Lead, Metadata, Peer, Request, Store, WireReply
from hast.replication.watch import TICK_S, PeerWatch
from hast.replication.writes import MAX_ACTIVE, Writes

__all__ = ["MAX_ACTIVE", "Primary", "Settings"]

IDLE_CLEAN_S = 5.0
SHORTEST_TICK_S = 0.001


class Primary:
    """Engine of a primary.

    `metadata` and `image` are what the provider holds (the map, mapsize bytes). `fresh_resuid` is a random non-zero
    number, used when the resource has none. `boot_id` names this boot of the host's kernel. `force` takes this copy
    for good although its metadata says otherwise. `flush_doubtful`: in this boot a worker before this one may have
    been told that a flush failed, and not have noted it. `lead`: what a worker before this one left to be known
    beside the disk. `wall_offset_s` added to the `now` of calls gives seconds since 1970.
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
        flush_doubtful: bool = False,
        lead: Lead = Lead.AS_RECORDED,
        wall_offset_s: float = 0.0,
    ) -> None:
        if lead is Lead.PEERS and not force:
            metadata, image = as_led(metadata, lead), full_map(metadata)
        if force and (metadata.stale or metadata.inconsistent):
            metadata = replace(metadata, stale=False, inconsistent=False, prevrole=str(Role.INIT))
        mapsize_bytes = metadata.offset_bytes - MAP_OFFSET_BYTES
        self.map = Activemap(
            metadata.datasize_bytes,
            metadata.extentsize_bytes,
            mapsize_bytes,
            sectorsize_bytes,
            metadata.keepdirty,
            image,
        )
        self.core = Core(settings, metadata, self.map)
        self.core.wall_offset_s = wall_offset_s
        self.core.boot_id = boot_id
        self.effects: Effects = self.core.effects
        rebooted = metadata.boot_id != boot_id and metadata.boot_id != b""
        crashed = metadata.prevrole == Role.PRIMARY and rebooted
        cache_lost = crashed and settings.replication is not Replication.ASYNC
        self._joining = Joining(self.core, fresh_resuid, cache_lost)
        self.writes = Writes(self.core, self._joining)
        self._joining.writes = self.writes
        self._plain = PlainPath(self.core, self.writes)
        self._reads = Reads(self.core, self.writes)
        self._intake = Intake(self.core, self.writes, self._plain, self._reads)
        self._watch = PeerWatch(self.core)
        self.standing = self.writes.standing
        self.standing.told(lead, force)
        self.barrier = self.writes.barrier
        self.sync = self.writes.sync
        self.verify = self.writes.verify
        self._leaving = Leaving(self.core, self.writes)
        self._disk_service = DiskService(self.core, self.writes)
        self._drain_job: Store | None = None
        self._cleaned_s = 0.0
        self._drain_cleaning = False
        self._drained = False
        mistrusted = metadata.stale or metadata.inconsistent
        (self.map.owed_local if mistrusted else self.map.owed_remote).merge(self.map.armed.data)
        # A worker before this one may have left its last map in the cache only: write it again, durably (S1).
        image = image[:mapsize_bytes]
        self.effects.stores.append(Store("activemap again", offset_bytes=MAP_OFFSET_BYTES, data=bytes(image)))
        role = {
            "prevrole": str(Role.PRIMARY),
            "boot_id": metadata.boot_id if cache_lost else boot_id,
            "discard": False,
            "unflushed": metadata.unflushed or flush_doubtful,
        }
        self._joining.wait_for(self.core.store_metadata("role primary", **role))
        if metadata.discard:
            text = "The order to discard this copy's changes is void: the copy is used as primary."
            self.core.event("warning", text, "warning")

    # -- clients and the provider -------------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Enough is under way; exports stop reading."""
        return self.writes.congested

    @property
    def active(self) -> int:
        """Client requests not answered yet."""
        return self.writes.active

    def submit(self, batch: list[Request], now: float) -> None:
        """Take client requests, in order."""
        self.core.now = self.writes.last_client_s = now
        self.map.clock += 1
        self._intake.take(batch)
        self._settle()

    def local_done(self, batch: list[Request], now: float) -> None:
        """The provider finished these."""
        self.core.now = now
        writes = self.writes
        ended: list[Request] = []
        for request in batch:
            if request.owner != CLIENT or request.op == READ:
                if ended:
                    self._plain.ended(ended)
                    ended = []
                self._local_done_other(request)
                continue
            if request.local_error:
                writes.local_failed(request)
            left = request.left = request.left - 1
            if left == 0:
                ended.append(request)
            elif request.mode != FULLSYNC:
                request.unacked -= 1
                writes.ack_early(request)
        if ended:
            self._plain.ended(ended)
        pace = self.core.pace
        if pace.sampled is not None:
            pace.look_at_local(now)
        if pace.reads.request is not None:
            pace.read_here(batch, now)
        self._settle()

    def stored(self, job: Store, error: int, now: float) -> None:
        """A durable write ended; jobs end in the order they were issued."""
        self.core.now = now
        if error:
            self._disk_broken(f"writing '{job.reason}' failed: {words(error)}")
        elif job.metadata is not None:
            self.core.saved = job.metadata
        self.writes.arming.stored(job)
        self.standing.stored(job, error)
        self.sync.stored(job, error)
        self._joining.stored(job)
        if job is self._drain_job:
            self._drain_job = None
            self._drained = True
            self._leaving.let_go()
        self._settle()

    def disk_lost(self, text: str, now: float) -> None:
        """The shell gave the local disk up: nothing of it will be used any more."""
        self.core.now = now
        self.core.local_away = True
        self._disk_broken(text)
        self._settle()

    def why_not_release_disk(self) -> str:
        """Why the local disk cannot be taken out of service now; empty when it can."""
        return self._disk_service.why_not_release()

    def release_disk(self, now: float) -> None:
        """Prepare for going on without it; then `disk_released`."""
        self.core.now = now
        self._disk_service.release()
        self._settle()

    @property
    def disk_released(self) -> bool:
        """`drop_disk` may be called."""
        return self._disk_service.released

    def keep_disk(self, now: float) -> None:
        """It is not let go after all."""
        self.core.now = now
        self._disk_service.keep()
        self._settle()

    def drop_disk(self, now: float) -> Store:
        """Nothing more goes to the local disk; returns what the shell writes on it before it closes it."""
        self.core.now = now
        last = self._disk_service.drop()
        self._settle()
        return last

    @property
    def disk_is_behind(self) -> bool:
        """The disk that is out of service may be filled from the peer; else only another worker may take it."""
        return self._disk_service.is_behind

    def why_not_take_disk(self, metadata: Metadata) -> str:
        """Why a disk with this metadata cannot be taken into service; empty when it can."""
        return self._disk_service.why_not_take(metadata)

    def disk_lacks_everything(self, metadata: Metadata, flush_doubtful: bool) -> bool:
        """What `take_disk` is to be told of a disk with this metadata."""
        return self._disk_service.lacks_everything(metadata, flush_doubtful)

    def take_disk(self, everything: bool, flush_doubtful: bool, now: float) -> None:
        """Another local disk, or the same again, is open. `everything`: all of it is to be taken from the peer.

        `flush_doubtful`: as at the start.
        """
        self.core.now = now
        self._disk_service.take(everything, flush_doubtful)
        self._settle()

    # -- the peer -------------------------------------------------------------------------------------------------

    def begin_handshake(self, now: float) -> None:
        """Message 2 was good: make the counters settle, so that message 3 tells the truth."""
        self.core.now = now
        self._joining.begin()

    @property
    def hello_ready(self) -> bool:
        """`second_hello` may be called."""
        return self._joining.hello_ready

    def changes(self) -> Changes:
        """What this node changed since the copies were last in step, for message 3."""
        return Changes(self._joining.changes().count, self.core.meta.ahead_since_s)

    def split_brain(self, peer: PeerChanges) -> tuple[str, dict[str, Any]]:
        """The peer refused because both nodes have changes: the sentence for the operator, and what differs."""
        size_bytes = self.map.extentsize_bytes
        union = None
        if peer.bitmap is not None:
            union = self._joining.changes()
            union.merge(peer.bitmap)
        reason = peer.reason or "the other node decides"
        details = report(self.changes(), peer.changes, None if union is None else union.count, size_bytes, reason)
        return summary(self.changes(), peer.changes, size_bytes), details

    def second_hello(self) -> tuple[int, int, int, bool]:
        """(resuid, localcnt, remotecnt, virgin) for message 3."""
        return self._joining.second_hello()

    def attach(self, peer: Peer, now: float) -> None:
        """Message 4 was good: merge the maps; the link is live once that is on the disk."""
        self.core.now = now
        self._joining.attach(peer)
        self._settle()

    def detach(self, reason: str, now: float) -> None:
        """The link is gone: all that the peer did not finally confirm stays dirty (S3)."""
        core = self.core
        core.now = now
        was_connected = core.connected
        core.connected = False
        if was_connected:
            core.event("disconnect", f"Disconnected from the peer: {reason}.", "warning")
            self.sync.link_lost()
            self.standing.link_lost()
            self._leaving.link_lost()
        core.pace.link_lost()
        self._joining.lost(was_connected)
        for request in core.forget_pending():
            if request.owner == CLIENT and request.op != READ:
                self.writes.lost(request)
            else:
                self._remote_done_other(request, 0, ENOTCONN, None)
        self._reads.link_lost()
        self._watch.reset()
        self.writes.launch_awaiting()
        self.barrier.link_changed()
        self._joining.unhold()
        self._settle()

    def replies(self, batch: list[WireReply], now: float) -> None:
        """The peer answered; replies to nothing we sent are passed over."""
        core, writes = self.core, self.writes
        core.now = core.last_reply_s = now
        pending = core.pending
        ended: list[Request] = []
        for seq, error, received, data in batch:
            if received and not error:
                self._peer_received(seq)
                continue
            request = pending.pop(seq, None)
            if request is None or request.owner != CLIENT or request.op == READ:
                if ended:
                    self._plain.ended(ended)
                    ended = []
                self._remote_done_other(request, seq, error, data)
                continue
            if error:
                writes.remote_failed(request, error)
            left = request.left = request.left - 1
            if left == 0:
                ended.append(request)
        if ended:
            self._plain.ended(ended)
        if core.pace.sampled_seq and core.pace.sampled_seq not in pending:
            core.pace.peer_done(now)
        if core.pace.reads.seq and core.pace.reads.seq not in pending:
            core.pace.read_there(now)
        self._settle()

    # -- the supervisor and the arbiter ---------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Do what time asks for; returns when to be called next."""
        core = self.core
        core.now = now
        self._joining.tick()
        self._leaving.tick()
        self._reads.tick()
        if core.connected:
            self._watch.tick()
            self.sync.tick()
            self._clean_when_idle()
        self._settle()
        next_s = now + TICK_S
        for wanted_s in (self.sync.wants_call_at(), self._reads.wants_call_at(), self.verify.wants_call_at()):
            if wanted_s is not None:
                next_s = min(wanted_s, next_s)
        return max(now + SHORTEST_TICK_S, next_s)

    def reconfigure(self, settings: Settings, now: float) -> None:
        """Live changes (section 8.6): from the next request on."""
        self.core.now = now
        self.core.settings = settings
        self.writes.choose_mode()

    def leave(self, within_s: float, now: float) -> None:
        """This node lets go in order within `within_s`: the peer is told."""
        self.core.now = now
        self._leaving.announce(within_s)

    def withhold(self, in_use: bool, now: float) -> None:
        """Carry out what clients write, and answer none of it any more; reads and flushes are answered until `drain`.

        `in_use`: somebody has the device open.
        """
        self.core.now = now
        self._leaving.withhold(in_use)
        self._settle()

    def is_quiet(self, now: float) -> bool:
        """While answers are withheld: everything is on both copies, and clients send nothing more. Ask now and then."""
        self.core.now = now
        quiet = self._leaving.is_quiet()
        self._settle()
        return quiet and self.barrier.idle

    @property
    def drained(self) -> bool:
        """Nothing is under way, both disks say so, and the peer knows, if it is there."""
        return self._leaving.over

    def drain(self, now: float) -> None:
        """Demotion (S10): refuse what comes, finish what is there, flush, leave a clean map; then `drained`."""
        self.core.now = now
        self.writes.draining = True
        self.standing.abandon()
        self._joining.unhold()
        self._settle()

    def answered(self, question: str, agreed: bool, now: float) -> None:
        """The arbiter's word."""
        self.core.now = now
        if question == OUTDATE_PEER:
            if not agreed:
                self.freeze(NOT_ALONE, now)
            self.standing.answered(agreed)
            if self.writes.draining:
                self.standing.abandon()
        self._settle()

    def ask_anew(self, now: float) -> None:
        """Whoever passed questions on to the arbiter is gone, and there is another."""
        self.core.now = now
        self.standing.ask_anew()
        self._settle()

    def freeze(self, reason: str, now: float) -> None:
        """Hold all that would change data until `thaw` (S11)."""
        self.core.now = now
        if not self.writes.frozen:
            self.writes.frozen = reason
            self.core.event("frozen", f"Writes are held: {reason}.", "error")

    def thaw(self, now: float) -> None:
        """Go on."""
        self.core.now = now
        if self.writes.frozen:
            self.writes.frozen = ""
            self.core.event("thawed", "Writes go on.")
            self.standing.ask_again()
            if not self.writes.holding:
                self.writes.release_held()
        self._settle()

    def begin_verify(self, repair: bool, now: float) -> str:
        """Compare both copies; with `repair` the peer is given what this copy has. Returns why not, or nothing."""
        self.core.now = now
        refusal = self.verify.begin(repair)
        self._settle()
        return refusal

    def stop_verify(self, now: float) -> None:
        """End the one that is under way, if there is one."""
        self.core.now = now
        self.verify.stop("ordered by the operator")
        self._settle()

    def look_for_slow_disk(self, now: float) -> Slow | None:
        """Ask now and then: a disk that is slow from now on, told once."""
        return self.core.pace.look(now)

    @property
    def slow_disk(self) -> Slow | None:
        """Which disk is far slower than the other, as far as both can be seen."""
        return self.core.pace.slow if self.core.connected and self.core.local_ok else None

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
            "local_disk": "ok" if core.local_ok else "away" if core.local_away else "failed",
            "frozen": self.writes.frozen,
            "sync": self.sync.status(),
            "verify": self.verify.report(),
            "active": self.writes.active,
            "activemap_updates": self.map.updates,
            "counters": asdict(core.counters),
            "latency": core.pace.latency.status(),
            "at_risk_bytes": self.writes.at_risk_bytes(),
        }

    # -- the rest -------------------------------------------------------------------------------------------------

    def _local_done_other(self, request: Request) -> None:
        if request.owner == SYNC:
            self.sync.local_done(request)
        elif request.owner == BARRIER:
            self.barrier.local_done(request)
        elif request.owner == VERIFY:
            self.verify.local_done(request)
        else:
            self._reads.local_done(request)

    def _peer_received(self, seq: int) -> None:
        """It has a write in memory."""
        request = self.core.pending.get(seq)
        if request is not None and request.mode == MEMSYNC and request.owner == CLIENT:
            request.unacked -= 1
            self.writes.ack_early(request)

    def _remote_done_other(self, request: Request | None, seq: int, error: int, data: object) -> None:
        if request is None:
            if seq == PEER_LEAVES_SEQ:
                self._leaving.peer_leaves()
            return
        if request.op == READ:
            error = self.core.take_piece(seq, request, data, error)
        if request.owner == SYNC:
            self.sync.remote_done(request, error)
        elif request.owner == BARRIER:
            self.barrier.remote_done(request, error)
        elif request.owner == COMMAND:
            self._command_answered(request, error)
        elif request.owner == VERIFY:
            self.verify.remote_done(request, error)
        else:
            self._reads.remote_done(request, error)

    def _command_answered(self, request: Request, error: int) -> None:
        if self._leaving.answered(request):
            return
        if self.standing.command_answered(request, error):
            self.writes.launch_awaiting()
        else:
            self.sync.command_answered(request, error)

    def _disk_broken(self, text: str) -> None:
        core = self.core
        if core.local_ok:
            core.local_ok = False
            core.pace.reset()
            core.event("disk-failed", f"Local disk is not used any more: {text}.", "error")
            self.standing.disk_lost()

    def _settle(self) -> None:
        """The end of every call: one map job and one flush at a time, started when there is cause."""
        self.writes.arming.store()
        self._joining.settle()
        self.standing.settle()
        self._leaving.settle()
        if self.core.connected:
            self.sync.pump()
        self.verify.pump()
        self.barrier.start()
        self.writes.arming.store()
        if self.writes.draining and not self._drained:
            self._drain_step()

    def _clean_when_idle(self) -> None:
        """Quiet for a while: leave an all-clear map, so that a crash costs no resynchronisation."""
        now = self.core.now
        quiet = min(now - self.writes.last_client_s, now - self._cleaned_s) > IDLE_CLEAN_S
        if quiet and self.map.armed and not self.sync.active and self.barrier.idle:
            self._cleaned_s = now
            if self.map.stale_bits(True):
                self.barrier.want(clean_all=True)

    def _drain_step(self) -> None:
        """One step of the demotion, when the one before is over."""
        if self.writes.active or not self.barrier.idle or self.writes.arming.busy or self._drain_job is not None:
            return
        if not self.verify.idle:
            return
        if self.map.inflight:
            return  # answered, and not on both copies yet (memsync, async)
        if self._drain_cleaning or not self._clean_for_good():
            self._drain_job = self.core.store_metadata("demoted")

    def _clean_for_good(self) -> bool:
        """A last flush of both copies, after which the map is clear; True when one was started."""
        core = self.core
        self._drain_cleaning = True
        if not core.connected or not core.local_ok or self.sync.active or not self.map.stale_bits(True):
            return False
        self.barrier.want(clean_all=True)
        self.barrier.start()
        return True
