"""The secondary: who has the newer data (message 3), then the primary's requests in order. Sans-I/O.

Calls come from the shell in batches; after each call the shell drains `effects`. The answer to message 3 appears in
`reply` once all that it promises is on the disk.
"""

from __future__ import annotations

import errno
from dataclasses import asdict, replace
from typing import Any

from hast.config.model import SplitBrainPolicy
from hast.format.constants import MAX_DATA_BYTES, REFERENCE_MAX_DATA_BYTES, Command, Feature, SyncSource
from hast.format.errnos import words
from hast.replication import latency
from hast.replication.answer import Answer
from hast.replication.answer import SecondHello as SecondHello
from hast.replication.answer import SecondReply as SecondReply
from hast.replication.core import MAP_OFFSET_BYTES, Counters
from hast.replication.flush_order import FlushOrder
from hast.replication.latency import Latency, Sample
from hast.replication.promotion import as_led
from hast.replication.ranges import RangeTable
from hast.replication.types import (
    DELETE,
    FLUSH,
    READ,
    WRITE,
    ZERO,
    Drop,
    Effects,
    Event,
    Lead,
    Metadata,
    Request,
    Store,
    WireRequest,
)

KEEPALIVE, PING = int(Command.KEEPALIVE), int(Command.PING)
SYNC_BEGIN, SYNC_END, TAKE_LEAD = int(Command.SYNC_BEGIN), int(Command.SYNC_END), int(Command.TAKE_LEAD)
LEAVING, LEFT = int(Command.LEAVING), int(Command.LEFT)
DISK_OPERATIONS = frozenset((READ, WRITE, DELETE, FLUSH, ZERO))
MARKS = frozenset((SYNC_BEGIN, SYNC_END, TAKE_LEAD))
SAMPLED = {READ: latency.READ, WRITE: latency.WRITE}

REFERENCE_SYNC_SEQ = 1
"""A reference primary gives every synchronisation request this seq (section 5.5), and its first client's write too."""
REFERENCE_SYNC_QUIET_S = 5.0
"""A reference primary copies piece after piece, one at a time. When it has sent other things for so long it is done."""
TELL_AGAIN_S = 60.0
MAX_ACTIVE = 2048
MAX_ACTIVE_BYTES = 64 * 1024 * 1024


class Secondary:
    """The engine of one resource in role secondary, for one connection.

    `image` is the map on the disk. `features` is what message 2 agreed on. `flush_doubtful`: in this boot a worker
    before this one may have been told that a flush failed, and not have noted it. `lead`: what one left to be known
    beside the disk. `fullsync`: the pair replicates in that mode. `policy` and `held_back` are for split brain
    (answer.py). `wall_offset_s` added to the `now` of calls gives seconds since 1970.
    """

    def __init__(
        self,
        metadata: Metadata,
        image: bytes,
        *,
        sectorsize_bytes: int = 512,
        features: int = 0,
        flush_doubtful: bool = False,
        lead: Lead = Lead.AS_RECORDED,
        fullsync: bool = False,
        policy: SplitBrainPolicy = SplitBrainPolicy.MANUAL,
        held_back: str = "",
        wall_offset_s: float = 0.0,
    ) -> None:
        self.meta = as_led(metadata, lead)
        self.effects = Effects()
        self.counters = Counters()
        self._latency = Latency()
        self._sample = Sample()
        self._flush_began_s: dict[Request, float] = {}
        self.primary_left = False
        """It said that it has let go."""
        self._sector_mask = sectorsize_bytes - 1
        self._features = Feature(features)
        self._ranges = RangeTable()
        self._answer = Answer(self, image, self._features, policy, held_back)
        self._opened = False
        self._lead = False
        self._lead_jobs: list[Store] = []
        """The records of the lead that was taken last."""
        self._open_job: Store | None = None
        self._held: list[WireRequest] = []
        self._marks: dict[Store, tuple[int, int]] = {}
        """Job → (seq, errno) of what is answered when it is done."""
        self._active = 0
        self._active_bytes = 0
        self._order = FlushOrder()
        self._told_s: dict[int, float] = {}
        """Operation → when its failure was last reported."""
        self._guessing = Feature.SYNC_MARK not in self._features
        """The primary does not say when a synchronisation begins and ends."""
        self._fullsync = fullsync
        self._mark_job: Store | None = None
        self._sync_seen = False
        self._sync_seen_s = 0.0
        """When the last request of it came or was answered."""
        self._sync_writes = 0
        """Of that seq, under way."""
        self._flushed_since_sync = False
        self._told_failed = False
        """The primary was told on this connection that a flush failed."""
        self._now = 0.0
        self._wall_offset_s = wall_offset_s
        self._lead_offered = lead is Lead.OFFERED
        """By a worker of this copy that was primary: who leads is settled when this one follows."""
        if lead is Lead.PEERS:
            self.store_metadata("copy is stale")
        if flush_doubtful:
            self._note_unflushed()

    @property
    def cache_known(self) -> bool:
        """What reads show will be on the medium after a good flush: the boot id may be told."""
        return not self.meta.unflushed

    @property
    def congested(self) -> bool:
        """Enough is under way; the link stops reading."""
        return self._active >= MAX_ACTIVE or self._active_bytes >= MAX_ACTIVE_BYTES or bool(self._held)

    @property
    def idle(self) -> bool:
        """Everything that was taken is carried out."""
        return not (self._active or self._held or self._marks)

    def why_not_release_disk(self) -> str:
        """Why the local disk cannot be spared now; empty when it can."""
        if Feature.TAKE_LEAD in self._features and self.meta.ahead_since_s:
            return "this copy holds what the other node lacks"
        return ""

    # -- message 3 ------------------------------------------------------------------------------------------------

    @property
    def reply(self) -> SecondReply | None:
        """Message 4, once it may be sent."""
        return self._answer.reply

    def answer(self, hello: SecondHello, now: float) -> None:
        """Decide who has the newer data (section 4.3); `reply` follows."""
        self._now = now
        self._answer.decide(hello)

    def saved(self, error: str, now: float) -> None:
        """What `Effects.save` asked for is durable; or why not, in one clause."""
        self._now = now
        self._answer.saved(error)

    # -- requests ---------------------------------------------------------------------------------------------------

    def requests(self, batch: list[WireRequest], now: float) -> None:
        """Take the primary's requests, in order."""
        self._now = now
        if self._held:
            self._held.extend(batch)
            return
        if self._opened and not self._guessing:
            self._take_all(batch)
        elif not self._take_with_care(batch):
            return
        local = self.effects.local
        if now >= self._sample.at_s and local and local[-1].op in SAMPLED:
            self._sample.begin(now, local[-1])

    def local_done(self, batch: list[Request], now: float) -> None:
        """The provider finished these."""
        self._now = now
        if self._sample.request is not None:
            self._take_time(batch)
        self._active -= len(batch)
        replies = self.effects.replies
        ended: list[Request] = []
        changes: list[Request] = []
        for request in batch:
            self._active_bytes -= request.length
            error = request.local_error
            if error:
                self._count_error(request)
            op = request.op
            if op == FLUSH:
                self._flush_over(request)
                continue
            replies.append((request.seq, error, False, request.data if op == READ and not error else None))
            request.data = None
            ended.append(request)
            if op != READ:
                changes.append(request)
        if self._guessing:
            self._note_sync_answered(changes)
        self._order.changes_ended(changes)
        self.effects.local += self._ranges.release_all(ended)
        if self._order.waiting:
            self._start_flushes()

    def stored(self, job: Store, error: int, now: float) -> None:
        """A durable write ended."""
        self._now = now
        if error:
            self.event("disk-failed", f"Writing '{job.reason}' failed: {words(error)}.", "error")
        self._answer.stored(job, error)
        if job is self._open_job:
            self._open_job = None
            self._go_on(error, "the activemap on the local disk could not be cleared")
        if job is self._mark_job:
            self._mark_job = None
            self._go_on(error, "the local disk does not say that a synchronisation begins")
        if job in self._lead_jobs and error:
            # A raised counter that the primary does not know of would be taken for a second history (S8).
            self.effects.drop = Drop("the local disk does not say that this copy leads")
        answer = self._marks.pop(job, None)
        if answer is not None:
            self.effects.replies.append((answer[0], error or answer[1], False, None))

    def tick(self, now: float) -> float:
        """Do what time asks for; returns when to be called next."""
        self._now = now
        return now + 1.0

    def status(self) -> dict[str, object]:
        """What status and list show of the engine."""
        meta = self.meta
        return {
            "connected": True,
            "status": "complete",
            "extentsize": meta.extentsize_bytes,
            "keepdirty": 0,
            "datasize": meta.datasize_bytes,
            "dirty": 0,
            "resuid": meta.resuid,
            "localcnt": meta.localcnt,
            "remotecnt": meta.remotecnt,
            "inconsistent": meta.inconsistent,
            "stale": meta.stale,
            "active": self._active,
            "counters": asdict(self.counters),
            "latency": self._latency.status(),
        }

    def _refused(self, item: WireRequest) -> bool:
        """The checks of section 5.2."""
        op, seq, offset, length, data, _memsync = item
        if seq == 0:
            return True
        if op == FLUSH:
            return False
        if length == 0 or (offset | length) & self._sector_mask or offset + length > self.meta.datasize_bytes:
            return True
        if op == WRITE:
            return data is None or len(data) != length
        return op == READ and length > MAX_DATA_BYTES

    def _take_all(self, batch: list[WireRequest]) -> None:
        """The plain path: WRITEs one after the other, on a disk that says all that it has to; else `_take`."""
        writes: list[Request] = []
        for item in batch:
            op, seq, offset, length, data, memsync = item
            if op != WRITE or self._refused(item):
                if writes:
                    self._start_writes(writes)
                    writes = []
                self._take(item)
                continue
            request = Request(WRITE, offset, length, data)
            request.seq = seq
            if memsync:
                self.effects.replies.append((seq, 0, True, None))
            writes.append(request)
        if writes:
            self._start_writes(writes)

    def _start_writes(self, batch: list[Request]) -> None:
        """These are good, and in order."""
        size_bytes = 0
        for request in batch:
            size_bytes += request.length
        self._order.changes_begin(batch)
        self._active += len(batch)
        self._active_bytes += size_bytes
        self.counters.writes += len(batch)
        self.counters.write_bytes += size_bytes
        self.effects.local += self._ranges.add_all(batch)

    def _take_with_care(self, batch: list[WireRequest]) -> bool:
        """One by one: our map is to be cleared before the first that touches the disk, or the primary does not say what
        it copies. False: the rest waits for a durable write."""
        for position, item in enumerate(batch):
            opens = not self._opened and item[0] in DISK_OPERATIONS and not self._refused(item)
            if opens:
                self._open()
            if opens or (self._guessing and self._must_mark(item)):
                self._held.extend(batch[position:])
                return False
            self._take(item)
        return True

    def _take(self, item: WireRequest) -> None:
        op, seq, offset, length, data, memsync = item
        if op not in DISK_OPERATIONS:
            self._take_other(item)
            return
        if self._refused(item):
            self.effects.replies.append((seq, errno.EINVAL, memsync, None))
            return
        request = Request(op, offset, length, data)
        request.seq = seq
        if self._guessing and seq == REFERENCE_SYNC_SEQ and op not in (READ, FLUSH):
            self._sync_writes += 1
        if op == WRITE:
            if memsync:
                self.effects.replies.append((seq, 0, True, None))
            self._start_writes([request])
            return
        self._active += 1
        self._active_bytes += length
        counters = self.counters
        if op == FLUSH:
            counters.flushes += 1
            self._order.add(request)
            self._start_flushes()
            return
        if op == READ:
            counters.reads += 1
            counters.read_bytes += length
        elif op == DELETE:
            counters.deletes += 1
            counters.delete_bytes += length
            self._order.changes_begin([request])
        else:
            counters.writes += 1
            counters.write_bytes += length
            self._order.changes_begin([request])
        if self._ranges.add(request):
            self.effects.local.append(request)

    def _note_sync_answered(self, batch: list[Request]) -> None:
        for request in batch:
            if request.seq == REFERENCE_SYNC_SEQ:
                self._sync_writes -= 1
                self._sync_seen_s = self._now

    def _start_flushes(self) -> None:
        for flush in self._order.due():
            self._flush_began_s[flush] = self._now
            self.effects.local.append(flush)

    def _flush_over(self, request: Request) -> None:
        error = request.local_error
        took_s = self._now - self._flush_began_s.pop(request)
        if not error:
            self._flushed_since_sync = True
            self._latency.add(latency.FLUSH, latency.LOCAL, took_s)
        failed = bool(error) and error != errno.EOPNOTSUPP
        if not failed and self._has_to_tell():
            failed, error = True, errno.EIO
        self._told_failed = self._told_failed or failed
        if failed and not self.meta.unflushed:
            self._marks[self._note_unflushed()] = (request.seq, error)
        else:
            self.effects.replies.append((request.seq, error, False, None))

    def _has_to_tell(self) -> bool:
        """A flush failed before this connection, and that may have been said to nobody, or to a worker that is gone.
        The primary may lack what this copy holds, and without a boot id to hold back only the answer to its first flush
        can tell it (S4)."""
        return self.meta.unflushed and not (self._features or self._told_failed)

    def _take_time(self, batch: list[Request]) -> None:
        """The local disk has carried these out."""
        sampled = self._sample.request
        took_s = self._sample.ended(batch, self._now)
        if sampled is not None and took_s is not None:
            self._latency.add(SAMPLED[sampled.op], latency.LOCAL, took_s)

    def _take_other(self, item: WireRequest) -> None:
        op, seq = item[0], item[1]
        if op == KEEPALIVE:
            if self.idle:
                self._guess_consistent()
        elif op == PING and seq:
            self.effects.replies.append((seq, 0, False, None))
        elif op in (LEAVING, LEFT) and seq and Feature.LEAVING in self._features:
            self.effects.replies.append((seq, 0, False, None))
            self._note_leaving(op, item[3] / 1000.0)
        elif op in MARKS and seq and self._features:
            self._take_mark(op, seq, item[2])
        else:
            self.effects.replies.append((seq, errno.EINVAL, False, None))

    def _note_leaving(self, op: int, within_s: float) -> None:
        """The primary lets go, or has let go."""
        if op == LEAVING:
            text = f"The primary lets go in order, within {within_s:.0f} s."
            self.event("peer-leaves", text, "info", {"within_s": within_s})
        else:
            self.primary_left = True
            self.event("peer-left", "The primary has let go in order.", "info")

    def _count_error(self, request: Request) -> None:
        counters = self.counters
        if request.op == READ:
            counters.read_errors += 1
        elif request.op == DELETE:
            counters.delete_errors += 1
        elif request.op == FLUSH:
            counters.flush_errors += 1
        else:
            counters.write_errors += 1
        told_s = self._told_s.get(request.op, -TELL_AGAIN_S)
        if request.local_error != errno.EOPNOTSUPP and self._now - told_s >= TELL_AGAIN_S:
            self._told_s[request.op] = self._now
            what = Command(request.op).name
            text = f"Local {what} at {request.offset} failed: {words(request.local_error)}."
            self.event("disk-failed", text, "error")

    # -- marks on the disk ------------------------------------------------------------------------------------------

    def _must_mark(self, item: WireRequest) -> bool:
        """What a request of a reference primary tells of its synchronisation; True when this disk has to say first that
        the copy is inconsistent (S7).

        Not so where nothing is lacking: in fullsync, with counters that agree, it repeats what both copies have.
        """
        op = item[0]
        if not self._is_sync(item):
            quiet_s = self._now - self._sync_seen_s
            if (
                self._sync_seen
                and not self._sync_writes
                and op in DISK_OPERATIONS
                and quiet_s >= REFERENCE_SYNC_QUIET_S
            ):
                self._guess_consistent()
            return False
        self._sync_seen = True
        self._sync_seen_s = self._now
        self._flushed_since_sync = False
        if self.meta.inconsistent or (self._fullsync and self._answer.in_step):
            return False
        self.meta = replace(self.meta, inconsistent=True)
        self._mark_job = self.store_metadata("sync begins")
        return True

    def _is_sync(self, item: WireRequest) -> bool:
        """A WRITE as section 5.11 tells of: its seq, never memsync, and a whole piece of an extent, so that the first
        write of a client, which has the same seq, is hardly ever taken for one."""
        op, seq, offset, length, _data, memsync = item
        if op != WRITE or seq != REFERENCE_SYNC_SEQ or memsync or self._answer.source is not SyncSource.PRIMARY:
            return False
        piece = min(REFERENCE_MAX_DATA_BYTES, self.meta.extentsize_bytes)
        return offset % piece == 0 and length == min(piece, self.meta.datasize_bytes - offset)

    def _open(self) -> None:
        """The first request that touches the disk: the primary has stored our map by now, so ours is cleared."""
        self._opened = True
        if self._lead_offered:
            self.effects.lead = Lead.AS_RECORDED
        mapsize = self.meta.offset_bytes - MAP_OFFSET_BYTES
        self._open_job = Store("map cleared", offset_bytes=MAP_OFFSET_BYTES, data=bytes(mapsize))
        self.effects.stores.append(self._open_job)

    def _go_on(self, error: int, complaint: str) -> None:
        """What was held for a durable write may be carried out."""
        held, self._held = self._held, []
        if error:
            self.effects.drop = Drop(complaint)
        else:
            self.requests(held, self._now)

    def _take_mark(self, op: int, seq: int, number: int) -> None:
        if op == SYNC_BEGIN:
            self.meta = replace(self.meta, inconsistent=True)
            job = self.store_metadata("sync begins")
        elif op == SYNC_END:
            if self._lead:
                self._lead = False
                self._store_map(0)
            self.meta = replace(self.meta, inconsistent=False, stale=False, unflushed=False, ahead_since_s=0)
            job = self.store_metadata("sync ended")
        else:
            self._opened = self._lead = True
            filled = self._store_map(0xFF)
            since_s = self.meta.ahead_since_s or int(self._now + self._wall_offset_s)
            localcnt, remotecnt = self.meta.localcnt + 1, max(self.meta.remotecnt, number)
            self.meta = replace(self.meta, localcnt=localcnt, remotecnt=remotecnt, ahead_since_s=since_s)
            job = self.store_metadata("this copy leads")
            self._lead_jobs = [filled, job]
            self.event("take-lead", "The primary's own disk failed: this copy is now the one to trust.", "warning")
        self._marks[job] = (seq, 0)

    def _note_unflushed(self) -> Store:
        """The kernel tells a failed flush once: this disk says so until everything marked was written again (S2)."""
        self.meta = replace(self.meta, unflushed=True)
        return self.store_metadata("flush failed")

    def _store_map(self, value: int) -> Store:
        image = bytes([value]) * (self.meta.offset_bytes - MAP_OFFSET_BYTES)
        job = Store("activemap", offset_bytes=MAP_OFFSET_BYTES, data=image)
        self.effects.stores.append(job)
        return job

    def _guess_consistent(self) -> None:
        """The reference primary is done with the synchronisation that was seen. A copy that was bad before and saw none
        stays so: such a primary may connect and never begin (section 4.2)."""
        if not self._sync_seen:
            return
        self._sync_seen = False
        healed = self._answer.full and self._flushed_since_sync
        noted = replace(self.meta, inconsistent=False, stale=False, unflushed=self.meta.unflushed and not healed)
        if noted != self.meta:
            self.meta = noted
            self.store_metadata("sync seems to have ended")

    def note(self, meta: Metadata) -> None:
        """What the disk is to say, not written yet."""
        self.meta = meta

    def store_metadata(self, reason: str) -> Store:
        """Have the metadata written and flushed; returns the job to wait for."""
        job = Store(reason, metadata=self.meta)
        self.effects.stores.append(job)
        return job

    def event(self, name: str, text: str, level: str, details: dict[str, Any] | None = None) -> None:
        """Tell operators, hooks and logs."""
        self.effects.events.append(Event(name, text, level, details))
