"""Verification: are both copies the same, block for block? The primary reads a piece of both and compares, while
clients go on.

A piece locks its range, so that no write is on its way to one copy only; then what differs is not being made equal by
anybody. It is compared only while nothing is owed. With `repair` what differs is written to the peer from here while
the range is still locked: what clients see is this copy. A peer that knows no extensions is read as well: plain READs.

What is found is told once, at the end; a pass that is interrupted says so, and counts for nothing beyond what it found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hast.format.geometry import human_size
from hast.format.nv import Buffer
from hast.replication.copy_rate import CopyRate
from hast.replication.core import VERIFY, Core
from hast.replication.types import READ, WRITE, Event, Request

BLOCK_BYTES = 4096
"""What differs is told in blocks of so many bytes."""
MOST_RANGES = 16
"""Of what differs so many ranges are named."""


class Outcome(StrEnum):
    """How a verification ended."""

    EQUAL = "equal"
    DIFFERENT = "different"
    REPAIRED = "repaired"
    INTERRUPTED = "interrupted"


class Owner(Protocol):
    """The engine, as verification sees it."""

    @property
    def last_client_s(self) -> float: ...
    @property
    def copying(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    def released(self, freed: list[Request]) -> None: ...
    def want_flush(self) -> None: ...


@dataclass(slots=True)
class Findings:
    """Of one verification, bytes of the data area. `ranges`: the first that differ, (offset, length)."""

    total_bytes: int
    began_s: int
    checked_bytes: int = 0
    differing_bytes: int = 0
    repaired_bytes: int = 0
    unreadable_bytes: int = 0
    ended_s: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, offset: int, length: int) -> None:
        """This differs; offsets ascend but for what is answered out of order."""
        self.differing_bytes += length
        if self.ranges and sum(self.ranges[-1]) == offset:
            self.ranges[-1] = (self.ranges[-1][0], self.ranges[-1][1] + length)
        elif len(self.ranges) < MOST_RANGES:
            self.ranges.append((offset, length))


class Verify:
    """At most one at a time. `findings` of it, or of the last one; `outcome` is None while it runs."""

    def __init__(self, core: Core, owner: Owner) -> None:
        self._core = core
        self._owner = owner
        self._rate = CopyRate(core)
        self.findings: Findings | None = None
        self.outcome: Outcome | None = None
        self.reason = ""
        """Why it was interrupted."""
        self._repair = False
        self._next = 0
        self._in_flight = 0
        self._flushing = False
        """All was compared, and what was written to the peer is not known to be on its medium yet."""
        self._flush_began = False

    @property
    def idle(self) -> bool:
        """Nothing of one is on its way."""
        return not self._in_flight

    @property
    def active(self) -> bool:
        """One is under way."""
        return self.findings is not None and self.outcome is None

    def why_not(self) -> str:
        """Why none can begin, or go on, now; empty when it can."""
        core = self._core
        if not core.connected:
            return "the other node is not connected"
        if not core.local_ok:
            return "the local disk is not in use"
        if core.lacking or core.map.owed_remote or core.peer_marked or self._owner.copying:
            return "the copies are not equal yet: what is owed is copied first"
        if self._owner.draining:
            return "this node stops being primary"
        return ""

    def begin(self, repair: bool) -> str:
        """Begin one; returns why not, or nothing."""
        if self.active or self._in_flight:
            return "a verification is under way"
        refusal = self.why_not()
        if refusal:
            return refusal
        core = self._core
        self.findings = Findings(core.meta.datasize_bytes, int(core.now + core.wall_offset_s))
        self.outcome, self.reason, self._repair = None, "", repair
        self._next = 0
        self._flushing = self._flush_began = False
        self._rate.begin()
        core.pace.sync.begin(core.now)
        self.pump()
        return ""

    def stop(self, reason: str) -> None:
        """End the one that is under way; pieces on their way come back by themselves."""
        if self.active:
            self.reason = reason
            self._end(Outcome.INTERRUPTED)

    def pump(self) -> None:
        """Start as many pieces as may be in flight now."""
        if not self.active or self._flushing:
            return
        refusal = self.why_not()
        if refusal:
            self.stop(refusal)
            return
        assert self.findings is not None
        limit = self._rate.look(self._owner.last_client_s, self._in_flight)
        while self._next < self.findings.total_bytes and self._in_flight < limit and self._rate.affordable:
            length = min(self._rate.piece_bytes, self._core.max_data_bytes, self.findings.total_bytes - self._next)
            piece = Request(READ, self._next, length)
            piece.owner = VERIFY
            piece.client = self.findings
            self._next += length
            self._in_flight += 1
            self._rate.spend(length)
            if self._core.ranges.add(piece):
                self.start_piece(piece)
        if self._next >= self.findings.total_bytes and not self._in_flight:
            self._compared()

    def wants_call_at(self) -> float | None:
        """When `pump` should be called even if nothing happens."""
        return self._rate.wants_call_at() if self.active else None

    def start_piece(self, piece: Request) -> None:
        """The range is ours: read it from both copies."""
        if piece.client is not self.findings or not self.active or self.why_not():
            self._over(piece)
            return
        self._rate.starts(piece)
        twin = Request(READ, piece.offset, piece.length)
        twin.owner = VERIFY
        twin.client = piece
        piece.cookie = twin
        piece.left = 1 + self._core.send(twin)
        self._core.effects.local.append(piece)

    def local_done(self, piece: Request) -> None:
        """The local disk read a piece, or could not."""
        self._part_done(piece)

    def remote_done(self, request: Request, error: int) -> None:
        """The peer sent a part of a piece, took one, or could not."""
        if request.op == WRITE:
            request.remote_error = request.remote_error or error
            request.left -= 1
            if not request.left:
                self._written(request)
            return
        piece: Request = request.client
        piece.remote_error = piece.remote_error or error
        self._part_done(piece)

    def _part_done(self, piece: Request) -> None:
        piece.left -= 1
        if piece.left:
            return
        twin: Request = piece.cookie
        findings: Findings = piece.client
        if not self.active or findings is not self.findings or self.why_not():
            self._over(piece)
        elif piece.local_error or piece.remote_error:
            findings.unreadable_bytes += piece.length
            self._over(piece)
        else:
            assert piece.data is not None, "read without data"
            assert twin.data is not None, "read without data"
            found = differing(piece.offset, piece.data, twin.data)
            findings.checked_bytes += piece.length
            for offset, length in found:
                findings.add(offset, length)
            if found and self._repair:
                self._write(piece, sum(length for _offset, length in found))
            else:
                self._over(piece)

    def _write(self, piece: Request, differing_bytes: int) -> None:
        """The peer gets what this copy has; the range is locked still."""
        piece.op = WRITE
        piece.seq = differing_bytes
        piece.left = self._core.send(piece)

    def _written(self, piece: Request) -> None:
        if not piece.remote_error:
            piece.client.repaired_bytes += piece.seq
        self._over(piece)

    def _over(self, piece: Request) -> None:
        self._in_flight -= 1
        assert self._in_flight >= 0, "more pieces ended than were started"
        self._rate.over(piece, bool(piece.local_error or piece.remote_error))
        piece.data = piece.cookie = None
        self._owner.released(self._core.ranges.release(piece))
        self.pump()

    def _compared(self) -> None:
        assert self.findings is not None
        if self.findings.repaired_bytes:
            self._flushing = True
            self._owner.want_flush()
        else:
            self._end(Outcome.DIFFERENT if self.findings.differing_bytes else Outcome.EQUAL)

    def flush_begins(self) -> None:
        """What was written to the peer by now will be covered by this flush."""
        self._flush_began = self._flushing

    def flush_ended(self, ok: bool) -> None:
        """A flush of both copies ended."""
        if not (self.active and self._flushing and self._flush_began):
            return
        assert self.findings is not None
        if not ok:
            self.findings.repaired_bytes = 0
        whole = self.findings.repaired_bytes == self.findings.differing_bytes
        self._end(Outcome.REPAIRED if whole else Outcome.DIFFERENT)

    def _end(self, outcome: Outcome) -> None:
        assert self.findings is not None
        core = self._core
        self.outcome = outcome
        self.findings.ended_s = int(core.now + core.wall_offset_s)
        if not self._owner.copying:
            core.pace.sync.end()
        level = "info" if outcome is Outcome.EQUAL and not self.findings.unreadable_bytes else "error"
        if outcome in (Outcome.INTERRUPTED, Outcome.REPAIRED) and not self._has_trouble():
            level = "warning"
        core.effects.events.append(Event("verified", self._in_words(), level, self.report()))

    def _has_trouble(self) -> bool:
        found = self.findings
        return found is not None and (found.differing_bytes > found.repaired_bytes or bool(found.unreadable_bytes))

    def _in_words(self) -> str:
        found = self.findings
        assert found is not None
        text = f"{human_size(found.checked_bytes)} of {human_size(found.total_bytes)} compared"
        if self.outcome is Outcome.INTERRUPTED:
            text = f"Verification interrupted ({self.reason}): {text}"
        elif self.outcome is Outcome.EQUAL:
            text = f"Verification ended: {text}, both copies are equal"
        else:
            text = f"Verification ended: {text}"
        if found.differing_bytes:
            text += f"; they differ in {human_size(found.differing_bytes)}, first at {found.ranges[0][0]}"
        if found.repaired_bytes:
            text += f"; {human_size(found.repaired_bytes)} of it were written to the peer from here"
        if found.unreadable_bytes:
            text += f"; {human_size(found.unreadable_bytes)} could not be read"
        return f"{text}."

    def report(self) -> dict[str, object] | None:
        """For status and events; None where there was none since the engine began. Times are seconds since 1970."""
        found = self.findings
        if found is None:
            return None
        return {
            "outcome": None if self.outcome is None else str(self.outcome),
            "reason": self.reason,
            "repair": self._repair,
            "began": found.began_s,
            "ended": found.ended_s or None,
            "total_bytes": found.total_bytes,
            "checked_bytes": found.checked_bytes,
            "differing_bytes": found.differing_bytes,
            "repaired_bytes": found.repaired_bytes,
            "unreadable_bytes": found.unreadable_bytes,
            "ranges": [list(each) for each in found.ranges],
        }


def differing(offset: int, ours: Buffer, theirs: Buffer) -> list[tuple[int, int]]:
    """Where two buffers of one length, both from `offset`, differ: (offset, length) in whole blocks, adjacent ones as
    one."""
    one, other = bytes(ours), bytes(theirs)
    if one == other:
        return []
    found: list[tuple[int, int]] = []
    for start in range(0, len(one), BLOCK_BYTES):
        length = min(BLOCK_BYTES, len(one) - start)
        if one[start : start + length] == other[start : start + length]:
            continue
        if found and sum(found[-1]) == offset + start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((offset + start, length))
    return found
