"""Synchronisation, driven by the primary in either direction (section 5.11), with many pieces in flight.

A piece locks its range, is read from the newer copy and written to the older one; also to the newer one itself where a
flush of that failed: only another write makes its next flush tell the truth (S2). An extent whose pieces all succeeded
is *copied*; it stops being owed only after a flush of both copies that began later (S2). A piece that failed leaves its
extent owed (S3); failed extents are tried again later. Client operations go first: while there are any, few pieces are
kept in flight.

A pass copies in one direction. What this copy lacks comes first, and the record that it leads again, so that no copy is
marked inconsistent while it is the only one to be trusted (S7, S8).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from hast.format.constants import Command, Feature, SyncSource
from hast.replication.copy_rate import CopyRate
from hast.replication.core import SYNC, Core
from hast.replication.types import READ, WRITE, Request, Store

WINDOW_BYTES = 12 * 1024 * 1024
"""So much may be copied, or on its way, that no flush has covered: an interruption costs no more than that. Two extents
at least."""
FLUSHES_PER_WINDOW = 3
RETRY_S = 10.0
"""Between passes when the one before could not copy everything."""
FIRST_RETRY_S = 2.0
"""Before a pass for what became owed while the copies were in step: until then both nodes are needed."""


class Stage(Enum):
    """Where the pass stands."""

    OFF = auto()
    """No connection, or everything is in step."""
    OPENING = auto()
    """The receiving copy is being marked inconsistent (S7)."""
    COPYING = auto()
    FLUSHING = auto()
    """All that could be copied is; a flush of both copies is under way."""
    CLOSING = auto()
    """Nothing is owed; the receiver takes its mark off, then the counters are written."""


COPYING = Stage.COPYING
"""Asked for at the end of every call into the engine."""


class Owner(Protocol):
    """The engine, as synchronisation sees it."""

    @property
    def last_client_s(self) -> float:
        """When a client last asked for something."""
        ...

    @property
    def flushing(self) -> bool:
        """A flush is under way, and may turn out to fail."""
        ...

    def want_flush(self) -> None:
        """Flush both copies soon."""
        ...

    @property
    def leads(self) -> bool:
        """Our disk says that this copy lacks nothing."""
        ...

    @property
    def ahead(self) -> bool:
        """This node went ahead of its peer, or is about to."""
        ...

    @property
    def follows(self) -> bool:
        """Our disk says that this copy lacks something, where that was to be recorded."""
        ...

    def hand_over_lead(self) -> None:
        """This copy lacks something that only the peer has, and the peer took its mark off just now."""
        ...

    def in_step(self) -> Store:
        """Both copies are equal: write the counters; returns the job."""
        ...

    def released(self, freed: list[Request]) -> None:
        """These requests, held by a range, may start."""
        ...


class _Progress:
    """One extent on its way."""

    __slots__ = ("end", "failed", "left", "next")

    def __init__(self, start: int, end: int) -> None:
        self.next = start
        self.end = end
        self.left = 0
        self.failed = False


class Sync:
    """The pass over the owed extents. All positions are bytes of the data area, all rates bytes per second."""

    def __init__(self, core: Core, owner: Owner) -> None:
        self._core = core
        self._owner = owner
        self.stage = Stage.OFF
        self.source = SyncSource.UNDEFINED
        self.done_bytes = 0
        self.total_bytes = 0
        self.started_s = 0.0
        self._cursor = 0
        self._extents: dict[int, _Progress] = {}
        self._current = -1
        self._owed = core.map.owed_remote
        """What this pass copies."""
        self._copied: dict[int, bool] = {}
        """Extent → a flush that covers it has begun."""
        self._unflushed = 0
        """Of these, how many no flush covers that has begun."""
        self._window = max(2, WINDOW_BYTES // core.map.extentsize_bytes)
        """Extents begun whose copying no flush has covered yet, at most."""
        self._in_flight = 0
        self.rate = CopyRate(core)
        self._retry_at_s = 0.0
        self._command: Request | None = None
        self._close_job: Store | None = None
        self._announced = False
        self._session = 0
        """Counts links: a piece of an earlier link that comes back late counts for nothing."""

    @property
    def active(self) -> bool:
        """A pass is under way (also when it has nothing to copy but the counters)."""
        return self.stage is not Stage.OFF

    def begin(self, source: SyncSource) -> None:
        """The link is up: make the copies equal."""
        core = self._core
        self.source = source
        self.done_bytes = 0
        self.started_s = core.now
        self.rate.begin()
        self._cursor = 0
        self._retry_at_s = 0.0
        self._announced = False
        self.total_bytes = self._owed_bytes()
        if not self.total_bytes and self._owner.flushing:
            self.stage = Stage.FLUSHING
            return
        if not self.total_bytes:
            self._close()
            return
        self._owed = core.map.owed_local or core.map.owed_remote
        outbound = self._owed is core.map.owed_remote
        if not (outbound or core.meta.stale or core.meta.inconsistent):
            self._owner.hand_over_lead()
        if not (self._owner.leads if outbound else self._owner.follows):
            self._retry_at_s = core.now
            return
        self._announced = True
        core.event("syncstart", f"Synchronization started. {self.total_bytes} bytes to go, from {self._direction()}.")
        if outbound and Feature.SYNC_MARK in core.features:
            self.stage = Stage.OPENING
            core.peer_marked = True
            self._command = core.send_command(Command.SYNC_BEGIN)
        else:
            self._copy()

    def _copy(self) -> None:
        self.stage = Stage.COPYING
        self._core.pace.sync.begin(self._core.now)

    def owed_again(self, extent: int) -> None:
        """A write to this extent reached only one copy."""
        if self._copied.pop(extent, True) is False:
            self._unflushed -= 1
        progress = self._extents.get(extent)
        if progress is not None:
            progress.failed = True

    def all_owed_again(self) -> None:
        """A flush failed: what was copied before it counts for nothing."""
        self._copied.clear()
        self._unflushed = 0
        for progress in self._extents.values():
            progress.failed = True

    def pump(self) -> None:
        """Start as many pieces as may be in flight now."""
        core = self._core
        if self.stage is not COPYING or not core.connected:
            return
        if self._owed is core.map.owed_local and not self._owner.follows:
            return  # all that was owed was flushed, and something is owed again: our disk says so first (S7)
        limit = self.rate.look(self._owner.last_client_s, self._in_flight)
        while self._in_flight < limit and self.rate.affordable:
            piece = self._next_piece()
            if piece is None:
                if self._owed.next(self._cursor) < 0:
                    self._pass_ended()
                return
            self._in_flight += 1
            if core.ranges.add(piece):
                self.start_piece(piece)

    def wants_call_at(self) -> float | None:
        """When `pump` should be called even if nothing happens: waiting for tokens, or to retry."""
        if self.stage is Stage.COPYING and (wanted_s := self.rate.wants_call_at()) is not None:
            return wanted_s
        if self.stage is Stage.OFF and self._retry_at_s and self._core.local_ok:
            return self._retry_at_s
        return None

    def tick(self) -> None:
        """Try failed extents again, and go on when tokens have come in."""
        core = self._core
        due = self.stage is Stage.OFF and self._retry_at_s and core.now >= self._retry_at_s
        if due and core.connected and core.local_ok:
            self.begin(self.source)
        self.pump()

    def retry_later(self) -> None:
        """Something became owed while no pass is under way. What this copy lacks has only the peer: at once."""
        core = self._core
        if self.stage is not Stage.OFF or not core.connected or not core.local_ok:
            return
        if core.map.owed_local:
            self._retry_at_s = core.now
        elif not self._retry_at_s:
            self._retry_at_s = core.now + FIRST_RETRY_S

    def start_piece(self, piece: Request) -> None:
        """The range is ours: read it from the newer copy."""
        core = self._core
        if not core.connected or piece.mode != self._session:
            self._piece_over(piece, failed=True)
            return
        self.rate.starts(piece)
        if piece.cookie:
            core.send(piece)
        elif core.local_ok:
            core.effects.local.append(piece)
        else:
            self._piece_over(piece, failed=True)

    def local_done(self, piece: Request) -> None:
        """The local disk read or wrote a piece."""
        counters = self._core.counters
        if piece.op == WRITE:
            counters.write_errors += piece.local_error != 0
            self._written(piece)
        elif piece.local_error:
            counters.read_errors += 1
            self._piece_over(piece, failed=True)
        else:
            self._write(piece)

    def remote_done(self, piece: Request, error: int) -> None:
        """The peer sent or stored a piece, or could not."""
        if piece.op == WRITE:
            piece.remote_error = error
            self._written(piece)
        elif error:
            self._piece_over(piece, failed=True)
        else:
            self._write(piece)

    def _write(self, piece: Request) -> None:
        """The newer copy's data is there: `piece.cookie`, it is the peer's."""
        core = self._core
        here = piece.cookie or core.meta.unflushed
        there = not piece.cookie or core.peer_unflushed
        if not core.connected or piece.mode != self._session or (here and not core.local_ok):
            self._piece_over(piece, failed=True)
            return
        piece.op = WRITE
        piece.local_error = 0
        piece.left = here + there
        if there:
            core.send(piece)
        if here:
            core.effects.local.append(piece)

    def _written(self, piece: Request) -> None:
        piece.left -= 1
        if piece.left == 0:
            self._piece_over(piece, failed=bool(piece.local_error or piece.remote_error))

    def flush_begins(self) -> None:
        """What is copied by now will be covered by this flush."""
        self._unflushed = 0
        for extent in self._copied:
            self._copied[extent] = True

    def flush_ended(self, ok: bool) -> list[int]:
        """A flush of both copies ended; returns the copied extents that it covered."""
        covered = [extent for extent, begun in self._copied.items() if begun]
        for extent in covered:
            del self._copied[extent]
            if ok:
                self._owed.discard(extent)
        if self.stage is Stage.FLUSHING and not self._copied:
            self._pass_flushed()
        return covered

    def _pass_flushed(self) -> None:
        """Close, or go on later; a peer that lacks nothing any more says so first, whatever this copy lacks (S7)."""
        core = self._core
        core.pace.sync.end()
        if not self._owed_bytes() or (core.peer_marked and not core.map.owed_remote):
            self._close()
            return
        self.stage = Stage.OFF
        self._retry_at_s = core.now + (RETRY_S if self._owed else 0.0)

    def command_answered(self, request: Request, error: int) -> bool:
        """SYNC_BEGIN or SYNC_END was answered; True when it was ours."""
        if request is not self._command:
            return False
        self._command = None
        if error:
            self.stage = Stage.OFF
            self._retry_at_s = self._core.now + RETRY_S
        elif self.stage is Stage.OPENING:
            self._copy()
            self.pump()
        elif self.stage is Stage.CLOSING and self._owed_bytes():
            self._core.peer_marked = False
            self.stage = Stage.OFF
            self._retry_at_s = self._core.now + RETRY_S
            if self._core.map.owed_local:
                self._owner.hand_over_lead()
        elif self.stage is Stage.CLOSING:
            self._core.peer_marked = False
            self._close_job = self._owner.in_step()
        return True

    def stored(self, job: Store, error: int) -> bool:
        """A metadata job ended; True when it was ours."""
        if job is not self._close_job:
            return False
        self._close_job = None
        if self.stage is not Stage.CLOSING:
            return True
        self.stage = Stage.OFF
        self.source = SyncSource.UNDEFINED
        core = self._core
        if core.map.owed_local or core.map.owed_remote:
            self._retry_at_s = core.now
        elif self._owner.ahead:
            self._retry_at_s = core.now + RETRY_S  # something failed meanwhile: the arbiter's record stays (S11)
        elif self._announced:
            seconds = max(core.now - self.started_s, 0.001)
            rate = self.done_bytes / seconds
            core.event(
                "syncdone",
                f"Synchronization complete. {self.done_bytes} bytes in {seconds:.1f} s ({rate / 1048576:.1f} MB/s).",
            )
        else:
            core.event("in-sync", "Nodes are in sync.", "debug")
        return True

    def link_lost(self) -> None:
        """Stop; pieces in flight fail one by one as the engine reports them.

        Where both copies were equal and durable already, the counters say so, whether or not the peer answered
        SYNC_END: what is written from now on would else look like a split brain.
        """
        if self.stage is Stage.CLOSING and self._close_job is None and not self._owed_bytes():
            self._owner.in_step()
        if self.stage in (Stage.OPENING, Stage.COPYING, Stage.FLUSHING):
            self._core.event("syncintr", f"Synchronization interrupted. {self.done_bytes} bytes done.", "warning")
        self.stage = Stage.OFF
        self._core.pace.sync.end()
        self._session += 1
        self._retry_at_s = 0.0
        self._copied.clear()
        self._unflushed = 0
        self._extents.clear()
        self._current = -1
        self._command = self._close_job = None

    def status(self) -> dict[str, object] | None:
        """Direction, position, rate and time left, while something is being copied."""
        if self.stage in (Stage.OFF, Stage.CLOSING) or not self.total_bytes:
            return None
        elapsed = max(self._core.now - self.started_s, 0.001)
        rate = self.done_bytes / elapsed
        left = max(self.total_bytes - self.done_bytes, 0)
        return {
            "direction": self._direction(),
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "percent": round(100.0 * min(self.done_bytes / self.total_bytes, 1.0), 1),
            "rate_bytes_s": int(rate),
            "left_s": round(left / rate, 1) if rate > 0 else None,
        }

    def _direction(self) -> str:
        return "secondary to primary" if self._core.map.owed_local else "primary to secondary"

    def _owed_bytes(self) -> int:
        extents = self._core.map.owed_local.count + self._core.map.owed_remote.count
        return extents * self._core.map.extentsize_bytes

    def _next_piece(self) -> Request | None:
        progress = self._extents.get(self._current)
        if progress is not None and progress.failed and progress.left == 0:
            del self._extents[self._current]
        if progress is None or progress.next >= progress.end or progress.failed:
            if not self._next_extent():
                return None
            progress = self._extents[self._current]
        length = min(self.rate.piece_bytes, self._core.max_data_bytes, progress.end - progress.next)
        piece = Request(READ, progress.next, length)
        piece.owner = SYNC
        piece.seq = self._current
        piece.client = progress
        piece.mode = self._session
        piece.cookie = self._owed is self._core.map.owed_local
        progress.next += length
        progress.left += 1
        self.rate.spend(length)
        return piece

    def _next_extent(self) -> bool:
        amap = self._core.map
        while len(self._extents) + len(self._copied) < self._window:
            extent = self._owed.next(self._cursor)
            if extent < 0:
                return False
            self._cursor = extent + 1
            if extent in self._copied or extent in self._extents:
                continue
            start = extent << amap.shift
            self._extents[extent] = _Progress(start, start + amap.extent_length(extent))
            self._current = extent
            return True
        return False

    def _piece_over(self, piece: Request, failed: bool) -> None:
        extent = piece.seq
        self._in_flight -= 1
        assert self._in_flight >= 0, "more sync pieces ended than were started"
        piece.data = None
        self.rate.over(piece, failed)
        progress: _Progress = piece.client
        if self._extents.get(extent) is progress:
            progress.left -= 1
            progress.failed = progress.failed or failed
            if not failed:
                self.done_bytes += piece.length
            if progress.left == 0 and (progress.failed or progress.next >= progress.end):
                del self._extents[extent]
                if not progress.failed:
                    self._copied[extent] = False
                    self._unflushed += 1
        self._owner.released(self._core.ranges.release(piece))
        self._flush_in_time()
        self.pump()

    def _pass_ended(self) -> None:
        if self._in_flight or self._extents:
            return
        self.stage = Stage.FLUSHING
        self._owner.want_flush()

    def _flush_in_time(self) -> None:
        """Ask for a flush when a part of the window is copied, or nothing else can go on."""
        waiting = self._unflushed
        if waiting * FLUSHES_PER_WINDOW >= self._window or (waiting and not self._extents):
            self._owner.want_flush()

    def _close(self) -> None:
        core = self._core
        if not core.local_ok:  # lost meanwhile: the peer leads, and its map says that everything is missing here
            self.stage = Stage.OFF
            return
        self.stage = Stage.CLOSING
        self._retry_at_s = 0.0
        if Feature.SYNC_MARK in core.features:
            core.peer_marked = True
            self._command = core.send_command(Command.SYNC_END)
        else:
            self._close_job = self._owner.in_step()
