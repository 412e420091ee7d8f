"""How fast a pass over the copies may go: how many pieces are in flight, how large they are, how soon they follow each
other. By `sync-rate`, as a number or `auto` (sync_pace.py). Decides only: no I/O, no clock.

One pass at a time uses it: a synchronisation, or a verification.
"""

from __future__ import annotations

from hast.config.model import SYNC_AUTO
from hast.replication import sync_pace
from hast.replication.core import Core
from hast.replication.latency import Sample
from hast.replication.types import Request

PIECE_BYTES = 256 * 1024
PIECES_IDLE = 32
PIECES_BUSY = 4
BUSY_S = 0.1
BURST_S = 0.1
LIMITED_TICK_S = 0.01


class CopyRate:
    """Of one primary. `look` before pieces are made; then `piece_bytes` holds, and `affordable` for each."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.piece_bytes = PIECE_BYTES
        self._tokens = 0.0
        self._tokens_s = 0.0
        self._rate_bytes_s = 0.0
        self._sample = Sample()

    def begin(self) -> None:
        """A pass begins."""
        self._tokens_s = self._core.now
        self._tokens = 0.0

    def look(self, last_client_s: float, in_flight: int) -> int:
        """How many pieces may be in flight now. `last_client_s`: when a client last asked for something."""
        core = self._core
        busy = core.now - last_client_s < BUSY_S
        if self._adapts:
            pace = core.pace.sync
            pace.look(core.now, busy, in_flight)
            self._rate_bytes_s, self.piece_bytes, limit = pace.rate_bytes_s, pace.piece_bytes, pace.pieces
        else:
            self._rate_bytes_s, self.piece_bytes = float(core.settings.sync_rate_bytes_s), PIECE_BYTES
            limit = PIECES_BUSY if busy else PIECES_IDLE
        self._refill()
        return limit

    @property
    def affordable(self) -> bool:
        """A piece may begin now."""
        return not self._rate_bytes_s or self._tokens > 0

    def spend(self, length: int) -> None:
        """A piece of so many bytes begins."""
        self._tokens -= length

    def starts(self, piece: Request) -> None:
        """It has its range: the time of one now and then is taken."""
        if self._core.now >= self._sample.at_s:
            self._sample.begin(self._core.now, piece)

    def over(self, piece: Request, failed: bool) -> None:
        """It ended on both copies."""
        if piece is self._sample.request:
            took_s = self._sample.end(self._core.now)
            if not failed:
                self._core.pace.sync.piece_took(took_s)

    def wants_call_at(self) -> float | None:
        """When a pass that waits for its rate should be called."""
        if not self._rate_bytes_s:
            return None
        return self._core.now + (sync_pace.BURST_S / 2 if self._adapts else LIMITED_TICK_S)

    @property
    def _adapts(self) -> bool:
        return self._core.settings.sync_rate_bytes_s == SYNC_AUTO

    def _refill(self) -> None:
        core, rate = self._core, self._rate_bytes_s
        if rate:
            self._tokens += (core.now - self._tokens_s) * rate
            burst_s = sync_pace.BURST_S if self._adapts else BURST_S
            self._tokens = min(self._tokens, max(rate * burst_s, self.piece_bytes))
        self._tokens_s = core.now
