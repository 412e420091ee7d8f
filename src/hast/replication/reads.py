"""Where a read is served: locally, unless this copy lacks the extents or its disk fails; then by the peer."""

from __future__ import annotations

from collections.abc import Callable

from hast.replication.core import EIO, Core
from hast.replication.types import Request


class Reads:
    """`finish(request, error)` ends a read. A copy that lacks an extent is never asked for it (S6)."""

    def __init__(self, core: Core, finish: Callable[[Request, int], None]) -> None:
        self._core = core
        self._finish = finish

    def enter(self, request: Request) -> None:
        """A client's read."""
        if self._core.local_away or (self._core.map.owed_local and self._lacks(request)):
            request.local_error = EIO
            self._ask_peer(request)
        else:
            self._core.effects.local.append(request)

    def local_done(self, request: Request) -> None:
        """The local provider answered."""
        if request.local_error:
            self._core.counters.read_errors += 1
            self._ask_peer(request)
        else:
            self._finish(request, 0)

    def remote_done(self, request: Request, error: int) -> None:
        """One piece came from the peer, or will not come."""
        request.remote_error = request.remote_error or error
        request.left -= 1
        if request.left == 0:
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
