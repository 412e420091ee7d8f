"""The vocabulary between the engine and its shell: requests, wire tuples, jobs, effects.

The shell (`worker/`, or the simulator) hands batches in by calling the engine, then drains `Effects` and carries them
out; it decides nothing. The engine performs no I/O and reads no clock: every call that needs the time is given it.

One `Request` object travels the whole way of an operation: the export creates it, the engine orders it, the provider
executes it, the engine completes it, the export answers it. Objects are not copied on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from hast.format.constants import Command, SyncSource
from hast.format.metadata import Metadata as Metadata
from hast.format.nv import Buffer as Buffer
from hast.format.reply import WireReply as WireReply
from hast.format.request import WireRequest as WireRequest

READ = int(Command.READ)
WRITE = int(Command.WRITE)
DELETE = int(Command.DELETE)
FLUSH = int(Command.FLUSH)
ZERO = int(Command.ZERO)


class Request:
    """One operation on the data area, from a client, from the peer, or of the engine's own (sync).

    The maker sets `op` (READ, WRITE, DELETE, FLUSH or ZERO), `offset` and `length` (bytes, relative to the data area;
    0 for FLUSH), `data` (for WRITE), `fua`, and `client`/`cookie` for its own use: who is to be answered, and under
    which handle. The provider sets `local_error` (0 or an errno) and, for READ, `data`. The engine sets `error` (0 or
    an errno) before it lists the request in `Effects.finished`; for a READ `data` then holds `length` bytes.
    Everything below `error` is the engine's own.
    """

    # Defaults live in the class: one of these is made for every operation, and most never leave their default.
    local_error = 0
    error = 0
    remote_error = 0
    left = 0
    blockers = 0
    waiters: list[Request] | None = None
    seq = 0
    first = 0
    last = 0
    owner = 0
    mode = 0
    unacked = 0
    acked = False
    failed_flushes = 0

    def __init__(
        self,
        op: int,
        offset: int,
        length: int,
        data: Buffer | None = None,
        client: Any = None,
        cookie: Any = None,
        fua: bool = False,
    ) -> None:
        self.op = op
        self.offset = offset
        self.length = length
        self.data = data
        self.client = client
        self.cookie = cookie
        self.fua = fua

    def __repr__(self) -> str:
        return f"Request({Command(self.op).name} {self.offset}+{self.length} error={self.error})"


class Store:
    """A durable write outside the data area: `data` at `offset_bytes` from the start of the provider.

    The shell writes it, makes just these bytes durable if `flush`, then calls `engine.stored(job, error)`. Jobs of
    one engine are carried out strictly in the order they were issued. `metadata` jobs carry `Metadata`, which the
    shell encodes; map jobs carry bytes.
    """

    __slots__ = ("data", "flush", "metadata", "offset_bytes", "reason")

    def __init__(
        self,
        reason: str,
        *,
        metadata: Metadata | None = None,
        offset_bytes: int = 0,
        data: bytes = b"",
        flush: bool = True,
    ) -> None:
        self.reason = reason
        self.metadata = metadata
        self.offset_bytes = offset_bytes
        self.data = data
        self.flush = flush

    def __repr__(self) -> str:
        return f"Store({self.reason})"


class Event(NamedTuple):
    """Something an operator, a hook or a log wants to know of. `name` as in section 8.7, or one of ours."""

    name: str
    """connect disconnect syncstart syncdone syncintr split-brain split-brain-resolved disk-hung slow-disk disk-failed
    peer-disk-failed frozen thawed peer-leaves peer-left peer-stops verified"""
    text: str
    level: str = "info"
    """debug info warning error"""
    details: dict[str, Any] | None = None
    """For split-brain: what differs (replication/splitbrain.py, `report`). For peer-leaves: `within_s`. For verified:
    what was found (replication/verify.py, `report`)."""


class Discarded(NamedTuple):
    """Changes of this copy about to be thrown away; `engine.saved` is told when a record of them is durable."""

    metadata: Metadata
    image: bytes
    """The map: which extents."""
    reason: str
    report: dict[str, Any]


class Lead(IntEnum):
    """Whose copy is the one to trust, beyond what our disk says of it: it may be unable to say anything."""

    AS_RECORDED = 0
    OFFERED = 1
    """The peer was told to take the lead, and did not answer yet: nothing rests on it, nothing goes on without it."""
    PEERS = 2
    """The peer holds writes that this copy lacks, and no map names them."""


class Drop(NamedTuple):
    """The engine wants the link closed; `reason` is for log and status. `in_order`: the peer said that it goes."""

    reason: str
    in_order: bool = False


@dataclass(slots=True)
class Effects:
    """What the shell has to carry out after a call into the engine, oldest first; the shell empties the lists.

    `local` requests for the provider; `remote` wire requests (primary) and `replies` wire replies (secondary) for the
    link; `finished` client requests to be answered; `stores` durable writes; `events`; `drop` close the link.
    `ask` are questions to the arbiter (answered by `engine.answered`); `save` a record to be made durable. `lead`: what
    our disk does not say; the next worker has to know, whatever becomes of this one (S6, S8). It is noted before the
    requests to the peer go out.
    """

    local: list[Request] = field(default_factory=list)
    remote: list[WireRequest] = field(default_factory=list)
    replies: list[WireReply] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)
    drop: Drop | None = None
    save: Discarded | None = None
    lead: Lead | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """What the handshake told the primary about the other node (message 4 and the extra fields)."""

    version: int
    features: int
    datasize_bytes: int
    extentsize_bytes: int
    localcnt: int
    remotecnt: int
    syncsrc: SyncSource
    virgin: bool
    bitmap: bytes | None
    """The secondary's map, at least mapsize bytes, or None when mapsize is 0."""
    boot_id: bytes = b""
    """Changes when the peer's kernel restarts; empty from a peer that does not tell."""
    discards: int | None = None
    """Extents with changes of its own that the peer gives up, where there was a split brain."""
