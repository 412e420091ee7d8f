"""What clients ask for: counted, given to its own way, and now and then with a look at the clock (`pace`)."""

from __future__ import annotations

from hast.replication.core import CLIENT, ESHUTDOWN, Core
from hast.replication.plain import PlainPath
from hast.replication.reads import Reads
from hast.replication.types import DELETE, FLUSH, READ, WRITE, Request
from hast.replication.writes import Writes

BOTH = 2
"""Answers that a write in one piece waits for: the local disk's and the peer's."""


class Intake:
    """Of one primary."""

    def __init__(self, core: Core, writes: Writes, plain: PlainPath, reads: Reads) -> None:
        self._core = core
        self._writes = writes
        self._plain = plain
        self._reads = reads

    def take(self, batch: list[Request]) -> None:
        """Requests, in order."""
        plain: list[Request] = []
        for request in batch:
            if request.op == WRITE:
                plain.append(request)
                continue
            if plain:
                self._take_writes(plain)
                plain = []
            self._take_other(request)
        if plain:
            self._take_writes(plain)
        core = self._core
        last = batch[-1]
        if last.op == READ:
            if core.now >= core.pace.reads.at_s:
                self._sample_read(last)
        elif core.now >= core.pace.sample_at_s:
            self._sample_write()

    def _take_writes(self, batch: list[Request]) -> None:
        counters, writes = self._core.counters, self._writes
        size_bytes = 0
        for request in batch:
            size_bytes += request.length
        counters.writes += len(batch)
        counters.write_bytes += size_bytes
        writes.active += len(batch)
        writes.active_bytes += size_bytes
        self._plain.take(batch)

    def _take_other(self, request: Request) -> None:
        """Anything but a WRITE."""
        counters, writes = self._core.counters, self._writes
        writes.active += 1
        writes.active_bytes += request.length
        op = request.op
        if op == READ:
            counters.reads += 1
            counters.read_bytes += request.length
            if writes.draining:
                writes.finish(request, ESHUTDOWN)
            else:
                self._reads.enter(request)
        elif op == FLUSH:
            counters.flushes += 1
            writes.enter_flush(request)
        elif op == DELETE:
            counters.deletes += 1
            counters.delete_bytes += request.length
            writes.enter(request)
        else:
            counters.writes += 1
            counters.write_bytes += request.length
            writes.enter(request)

    def _sample_write(self) -> None:
        """Take the time of the write that is about to go to both copies, or to the local one, if it is a client's."""
        core = self._core
        remote, local = core.effects.remote, core.effects.local
        seq = remote[-1][1] if remote else 0
        request = core.pending.get(seq) if seq else local[-1] if local else None
        if request is None or request.op != WRITE or request.owner != CLIENT or not core.local_ok:
            return
        if request.left == (BOTH if seq else 1):
            core.pace.sample(request, seq, core.now, compare=bool(seq) and not self._writes.sync.active)

    def _sample_read(self, request: Request) -> None:
        """Take the time of this read, which is about to go to one of the copies, if it goes in one piece."""
        core, reads = self._core, self._core.pace.reads
        if core.effects.local and core.effects.local[-1] is request:
            reads.begin(core.now, request)
        elif request.left == 1 and core.pending.get(core.last_seq) is request:
            reads.begin(core.now, None, core.last_seq)
