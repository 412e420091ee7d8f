"""Is the peer there, and does its disk answer (section 5.10)? Keepalives, pings, and the patience that ends a link."""

from __future__ import annotations

from collections import deque

from hast.format.constants import KEEPALIVE_S, Command, Feature
from hast.replication.core import Core
from hast.replication.types import Drop

TICK_S = 1.0
LONGEST_PING_S = 5.0
SHORTEST_PING_S = 0.5
LEAST_PATIENCE_S = 2.0


class PeerWatch:
    """Called once a tick while the link is up. A peer that understands PING is expected to answer it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._marks: deque[tuple[float, int]] = deque()
        """(time, last seq sent by then), one a tick: how long the oldest request has waited."""

    def reset(self) -> None:
        """Another link."""
        self._marks.clear()

    def tick(self) -> None:
        """Drop a peer that keeps silent; say that we are there."""
        core = self._core
        now, timeout_s = core.now, core.settings.timeout_s
        pings = Feature.PING in core.features
        silence_s = now - core.last_reply_s if core.pending else 0.0
        patience_s = min(timeout_s, max(LEAST_PATIENCE_S, timeout_s / 3)) if pings else timeout_s
        waited_s = self._oldest_wait_s(now)
        if silence_s > patience_s or waited_s > timeout_s:
            core.effects.drop = Drop(f"no reply for {max(silence_s, waited_s):.1f} s")
        elif pings and now - core.last_sent_s >= min(LONGEST_PING_S, max(SHORTEST_PING_S, timeout_s / 8)):
            core.send_command(Command.PING)
        elif not pings and now - core.last_sent_s >= KEEPALIVE_S:
            core.last_sent_s = now
            core.effects.remote.append((int(Command.KEEPALIVE), 0, 0, 0, None, False))

    def _oldest_wait_s(self, now: float) -> float:
        """At least how long the oldest unanswered request has waited."""
        marks = self._marks
        oldest = self._core.oldest_pending()
        while marks and (oldest == 0 or marks[0][1] < oldest):
            marks.popleft()
        waited_s = now - marks[0][0] if marks else 0.0
        if oldest and (not marks or now - marks[-1][0] >= TICK_S / 2):
            marks.append((now, self._core.last_seq))
        return waited_s
