"""Where a read is served: locally, unless this copy lacks the extents or its disk fails; then by the peer.

With `read-balancing` also by the peer where it is equal and quicker. Equal is asked twice, when the read is sent and
when its answer is there: both copies in step and good, no mode in which the peer may lag (async), and no write that
overlaps the read unfinished on either. So the answer is no older than what was acknowledged when the read came, and
shows nothing that the local copy does not hold. What fails, is late or became doubtful is read locally: the client sees
no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hast.replication import read_balance
from hast.replication.core import ASYNC, BALANCED, EIO, Core
from hast.replication.read_balance import Balance
from hast.replication.types import READ, Request
from hast.replication.writes import Writes

BY_PEER = 1
"""`mode` of a read that balancing had the peer serve."""
WATCH_S = 0.05
"""So often is looked for late reads, while there are clients who read …"""
WATCHED_S = 0.2
"""… and without that for so long no read is given to the peer."""
READERS_GONE_S = 1.0


@dataclass(slots=True)
class _Timed:
    """A read under way, at the copy that it was given to."""

    cost_bytes: int
    under_way_bytes: int
    began_s: float
    late_at_s: float = 0.0


class Reads:
    """A copy that lacks an extent is never asked for it (S6)."""

    def __init__(self, core: Core, writes: Writes) -> None:
        self._core = core
        self._writes = writes
        self._finish: Callable[[Request, int], None] = writes.finish
        self._balance = Balance()
        self._here: dict[Request, _Timed] = {}
        self._there: dict[Request, _Timed] = {}
        """By the request that was sent to the peer; its `client` is the client's."""
        self._last_read_s = self._watched_s = float("-inf")

    def enter(self, request: Request) -> None:
        """A client's read."""
        if self._core.local_away or (self._core.map.owed_local and self._lacks(request)):
            request.local_error = EIO
            self._ask_peer(request)
        elif self._core.settings.read_balancing:
            self._give(request)
        else:
            self._core.effects.local.append(request)

    def local_done(self, request: Request) -> None:
        """The local provider answered."""
        if self._here and (timed := self._here.pop(request, None)) is not None:
            self._balance.local.end(timed.cost_bytes)
            if not request.local_error:
                self._balance.local.took(self._core.now - timed.began_s, timed.under_way_bytes)
        if request.local_error:
            self._core.counters.read_errors += 1
            self._ask_peer(request)
        else:
            self._finish(request, 0)

    def remote_done(self, request: Request, error: int) -> None:
        """One piece came from the peer, or will not come."""
        request.remote_error = request.remote_error or error
        request.left -= 1
        if request.left:
            return
        if request.owner == BALANCED:
            self._peer_served(request)
        else:
            self._finish(request, request.remote_error)

    def _lacks(self, request: Request) -> bool:
        amap = self._core.map
        extent = amap.owed_local.next(request.offset >> amap.shift)
        return 0 <= extent <= (request.offset + request.length - 1) >> amap.shift

    def _ask_peer(self, request: Request) -> None:
        core = self._core
        amap = core.map
        extent = amap.owed_remote.next(request.offset >> amap.shift)
        peer_lacks = 0 <= extent <= (request.offset + request.length - 1) >> amap.shift
        if not core.connected or peer_lacks:
            self._finish(request, request.local_error or EIO)
            return
        request.data = None
        request.left = core.send(request)

    # -- balancing ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look for late reads."""
        core = self._core
        self._watched_s = core.now
        for sent in [sent for sent, timed in self._there.items() if core.now >= timed.late_at_s]:
            self._forget(sent)
            self._balance.avoid_peer(core.now)
            self._read_here(sent.client)

    def wants_call_at(self) -> float | None:
        """When `tick` should be called."""
        now = self._core.now
        return now + WATCH_S if self._there or now - self._last_read_s < READERS_GONE_S else None

    def link_lost(self) -> None:
        """What was under way at the peer has failed; what the next link takes for a read is another matter."""
        assert not self._there, "a read waits for a peer that is gone"
        self._balance.reset()
        self._here.clear()

    def _give(self, request: Request) -> None:
        """To the copy that serves it sooner."""
        core = self._core
        now = self._last_read_s = core.now
        cost_bytes = read_balance.cost_bytes(request.length)
        watched = now - self._watched_s <= WATCHED_S
        if not (watched and self._is_equal(request) and self._balance.prefers_peer(cost_bytes, now)):
            self._read_here(request)
            return
        late_at_s = self._balance.late_at_s(cost_bytes, now)
        sent = Request(READ, request.offset, request.length, client=request)
        sent.owner = BALANCED
        self._there[sent] = _Timed(cost_bytes, self._balance.peer.begin(cost_bytes, now), now, late_at_s)
        sent.left = core.send(sent)

    def _read_here(self, request: Request) -> None:
        """Nobody but the local disk is left to be asked, unless it is gone meanwhile."""
        core = self._core
        if core.local_away or (core.map.owed_local and self._lacks(request)):
            request.local_error = EIO
            self._ask_peer(request)
            return
        cost_bytes = read_balance.cost_bytes(request.length)
        self._here[request] = _Timed(cost_bytes, self._balance.local.begin(cost_bytes, core.now), core.now)
        core.effects.local.append(request)

    def _peer_served(self, sent: Request) -> None:
        timed = self._there.get(sent)
        if timed is None:
            return  # it was late: the client is served locally
        self._forget(sent)
        core, request = self._core, sent.client
        if sent.remote_error:
            self._balance.avoid_peer(core.now)
        else:
            self._balance.peer.took(core.now - timed.began_s, timed.under_way_bytes)
        if sent.remote_error or not self._is_equal(request):
            self._read_here(request)
            return
        core.counters.peer_reads += 1
        request.data, request.mode = sent.data, BY_PEER
        self._finish(request, 0)

    def _forget(self, sent: Request) -> None:
        self._balance.peer.end(self._there.pop(sent).cost_bytes)

    def _is_equal(self, request: Request) -> bool:
        """Both copies hold the same here, and neither is doubtful."""
        core, writes = self._core, self._writes
        if not core.connected or not core.local_ok or core.lacking or not core.peer_whole:
            return False
        if core.peer_unflushed or core.meta.unflushed or writes.mode == ASYNC or writes.sync.active:
            return False
        if writes.closed or writes.withholding or writes.standing.disk_leaves:
            return False
        return core.ranges.is_free(request.offset, request.length)
