"""What the parts of the primary share: the effects, the map, the metadata, and the numbering of what the peer was sent.

Decides nothing of its own; `primary.py`, `barrier.py`, `standing.py` and `sync.py` each decide their part with it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Any

from hast.format.constants import (
    MAX_DATA_BYTES,
    REFERENCE_MAX_DATA_BYTES,
    Command,
    Feature,
    Replication,
)
from hast.replication.activemap import Activemap
from hast.replication.pace import Pace
from hast.replication.ranges import RangeTable
from hast.replication.types import (
    DELETE,
    READ,
    WRITE,
    ZERO,
    Effects,
    Event,
    Metadata,
    Peer,
    Request,
    Store,
)

CLIENT, SYNC, BARRIER, COMMAND, BALANCED, VERIFY = range(6)
"""Values of `Request.owner`: who made the request, and so who is told of its end."""

FULLSYNC, MEMSYNC, ASYNC = range(3)
MODES = {Replication.FULLSYNC: FULLSYNC, Replication.MEMSYNC: MEMSYNC, Replication.ASYNC: ASYNC}

EIO, ENOTCONN, ESHUTDOWN, EOPNOTSUPP = errno.EIO, errno.ENOTCONN, errno.ESHUTDOWN, errno.EOPNOTSUPP

MAP_OFFSET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """What may change while a primary runs. `arbiter`: an arbiter has to agree before this node goes on alone."""

    replication: Replication = Replication.FULLSYNC
    timeout_s: float = 20.0
    metaflush: bool = True
    sync_rate_bytes_s: int = 0
    """0: no limit; SYNC_AUTO: as clients leave room for it."""
    arbiter: bool = False
    read_balancing: bool = False


@dataclass(slots=True)
class Counters:
    """What list and the metrics show, since the worker started."""

    reads: int = 0
    peer_reads: int = 0
    """Of these, how many the peer served to share the load."""
    writes: int = 0
    deletes: int = 0
    flushes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    delete_bytes: int = 0
    read_errors: int = 0
    write_errors: int = 0
    delete_errors: int = 0
    flush_errors: int = 0


class Core:
    """Shared state of one primary."""

    def __init__(self, settings: Settings, metadata: Metadata, activemap: Activemap) -> None:
        self.settings = settings
        self.meta = metadata
        self.saved = metadata
        """What of it is known to be on the disk."""
        self.map = activemap
        self.ranges = RangeTable()
        self.effects = Effects()
        self.counters = Counters()
        self.pace = Pace()
        self.now = 0.0
        self.boot_id = metadata.boot_id
        """Of this boot of the host."""
        self.wall_offset_s = 0.0
        """Added to `now` it gives seconds since 1970."""
        self.peer: Peer | None = None
        self.features = Feature.NONE
        """What the peer understands beyond the reference."""
        self.max_data_bytes = REFERENCE_MAX_DATA_BYTES
        """Largest data block of one request to this peer."""
        self.connected = False
        self.lead_offered = False
        """A worker before this one told the peer to take the lead, and did not live to hear whether it did."""
        self.peer_unflushed = False
        """A flush of the peer's copy failed, or may have: what its reads show may not be on its medium (S2)."""
        self.peer_marked = False
        """The peer was told that its copy is inconsistent, and not yet that it is good again."""
        self.local_ok = True
        """False once the local provider failed a map or metadata write: it is not used any more."""
        self.local_away = False
        """There is no local disk to be asked: it hangs, or was taken out of service."""
        self.pending: dict[int, Request] = {}
        self._pieces: dict[int, int] = {}
        self.last_sent_s = 0.0
        self.last_reply_s = 0.0
        self._seq = 0

    def meet(self, peer: Peer) -> None:
        """This is the peer of the connection that is being made.

        One that tells no boot id either lost what it did not flush, or had a flush fail, or cannot tell.
        """
        self.peer = peer
        self.features = Feature(peer.features)
        self.peer_unflushed = self.peer_unflushed or not peer.boot_id
        self.max_data_bytes = MAX_DATA_BYTES if Feature.BIG_DATA in self.features else REFERENCE_MAX_DATA_BYTES

    @property
    def peer_whole(self) -> bool:
        """The peer's copy lacks nothing, and our disk says nothing else: it may be the only one that holds a write.

        A disk that broke before it said that the copies are in step claims to be ahead: beside that the copy of a peer
        that cannot be told so (TAKE_LEAD) would be taken for a split brain, or be undone (S8).
        """
        if self.peer_marked or self.map.owed_remote:
            return False
        if self.local_ok or self.peer is None or Feature.TAKE_LEAD in self.features:
            return True
        return self.saved.localcnt == self.peer.remotecnt

    @property
    def lacking(self) -> bool:
        """This copy lacks writes that the peer has, or says so on its disk, or may: it may not go on alone (S8)."""
        return bool(self.map.owed_local) or self.meta.stale or self.meta.inconsistent or self.lead_offered

    def event(self, name: str, text: str, level: str = "info") -> None:
        """Tell operators, hooks and logs."""
        self.effects.events.append(Event(name, text, level))

    def store_metadata(self, reason: str, **changes: Any) -> Store:
        """Change the metadata and have it written and flushed; returns the job to wait for."""
        self.meta = replace(self.meta, **changes)
        job = Store(reason, metadata=self.meta)
        self.effects.stores.append(job)
        return job

    def raise_localcnt(self, reason: str) -> Store:
        """Have it recorded that this copy is ahead of the peer's, and since when (S8); returns the job to wait for."""
        since_s = self.meta.ahead_since_s or int(self.now + self.wall_offset_s)
        return self.store_metadata(reason, localcnt=self.meta.localcnt + 1, ahead_since_s=since_s)

    @property
    def last_seq(self) -> int:
        """The last seq given out."""
        return self._seq

    def oldest_pending(self) -> int:
        """The lowest seq that has no final reply, or 0."""
        return next(iter(self.pending), 0)

    def send(self, request: Request, memsync: bool = False) -> int:
        """Send a request of the data path, in as many pieces as the peer needs; returns how many replies will come."""
        op = request.op
        length = request.length
        if not self.pending:
            self.last_reply_s = self.now
        self.last_sent_s = self.now
        if op == WRITE:
            limit = self.max_data_bytes
            if length <= limit:
                self._seq += 1
                self.pending[self._seq] = request
                self.effects.remote.append((WRITE, self._seq, request.offset, length, request.data, memsync))
                return 1
            return self._send_pieces(request, WRITE, limit, memsync)
        if op == READ:
            return self._send_pieces(request, READ, self.max_data_bytes, False)
        if op == ZERO and Feature.ZERO not in self.features:
            return self._send_zeros(request, memsync)
        self._seq += 1
        self.pending[self._seq] = request
        self.effects.remote.append((op, self._seq, request.offset, length, None, False))
        return 1

    def send_writes(self, batch: list[Request], memsync: bool) -> None:
        """Send client's writes that go to the local disk, too: `left` becomes how many answers each will have."""
        if not self.pending:
            self.last_reply_s = self.now
        self.last_sent_s = self.now
        limit, pending, remote = self.max_data_bytes, self.pending, self.effects.remote
        for request in batch:
            length = request.length
            if length > limit:
                request.left = 1 + self._send_pieces(request, WRITE, limit, memsync)
                continue
            self._seq = seq = self._seq + 1
            pending[seq] = request
            remote.append((WRITE, seq, request.offset, length, request.data, memsync))
            request.left = 2

    def send_command(self, command: Command, offset: int = 0, length: int = 0) -> Request:
        """Send a command of our own (features negotiated), with what numbers it tells; its answer is told to the owner
        COMMAND."""
        request = Request(int(command), offset, 0)
        request.owner = COMMAND
        if not self.pending:
            self.last_reply_s = self.now
        self.last_sent_s = self.now
        self._seq += 1
        self.pending[self._seq] = request
        self.effects.remote.append((int(command), self._seq, offset, length, None, False))
        return request

    def take_piece(self, seq: int, request: Request, data: Any, error: int) -> int:
        """A READ reply: put its data where it belongs; returns an errno."""
        offset = self._pieces.pop(seq, request.offset)
        if error or data is None:
            return error or EIO
        expected = min(request.offset + request.length - offset, self.max_data_bytes)
        if len(data) != expected:
            return EIO
        if expected == request.length:
            request.data = data
            return 0
        if not isinstance(request.data, bytearray):
            request.data = bytearray(request.length)
        start = offset - request.offset
        request.data[start : start + expected] = data
        return 0

    def forget_pending(self) -> list[Request]:
        """The link is gone: every request once for each reply that will not come."""
        lost = list(self.pending.values())
        self.pending.clear()
        self._pieces.clear()
        return lost

    def _send_pieces(self, request: Request, op: int, limit: int, memsync: bool) -> int:
        pieces = 0
        end = request.offset + request.length
        view = memoryview(request.data) if op == WRITE and request.data is not None else None
        for offset in range(request.offset, end, limit):
            length = min(limit, end - offset)
            self._seq += 1
            self.pending[self._seq] = request
            data = None
            if view is not None:
                start = offset - request.offset
                data = view[start : start + length]
            elif op == READ:
                self._pieces[self._seq] = offset
            self.effects.remote.append((op, self._seq, offset, length, data, memsync))
            pieces += 1
        return pieces

    def _send_zeros(self, request: Request, memsync: bool) -> int:
        """Zeros for a reference peer: plain writes of a zero block, which travel as `hole`."""
        pieces = 0
        end = request.offset + request.length
        for offset in range(request.offset, end, REFERENCE_MAX_DATA_BYTES):
            length = min(REFERENCE_MAX_DATA_BYTES, end - offset)
            self._seq += 1
            self.pending[self._seq] = request
            self.effects.remote.append((WRITE, self._seq, offset, length, ZERO_BLOCK[:length], memsync))
            pieces += 1
        return pieces


ZERO_BLOCK = memoryview(bytes(REFERENCE_MAX_DATA_BYTES))

TRACKED = frozenset((WRITE, ZERO, DELETE))
"""Operations that change data: ordered, marked in the map, acknowledged by mode (S5)."""
