"""How a primary lets go in order: it tells its peer, withholds answers, and says when nothing is served any more.

Announced   The peer is told that this node lets go, and within which time. Until then, or until it hears that this
            node has let go, silence of this node is not its death: it may still answer its clients.
Withheld    Writes are carried out on both copies, flushed, and not answered: nobody is told an error, and nobody a
            success that another device of the same pool could not keep. Whatever a client makes of the error that its
            last write gets in the end is then true of the copies: zfs-fuse takes it for a success (docs/failures.md).
            Flushes are answered, since what they promise is kept; so users come to wait for a write.
Left        Everything is drained and on the disks. The peer may take over at once.
"""

from __future__ import annotations

from hast.format.constants import Command, Feature
from hast.replication.core import Core
from hast.replication.types import Drop, Request
from hast.replication.writes import Writes

QUIET_S = 0.05
"""Users that wait for answers send nothing more: silence of this length after the last of them is taken for that."""
LINGER_S = 1.0
"""So long one that has the device open may take to send a write and wait for its answer."""
FAREWELL_S = 1.0
"""How long the peer may take to answer that it knows; it is told, not asked."""
PEER_STOPPED = "the peer stopped in order"


class Leaving:
    """For one primary, once. `over` is true when it may end."""

    def __init__(self, core: Core, writes: Writes) -> None:
        self._core = core
        self._writes = writes
        self.over = False
        self._until_s: float | None = None
        self._announced = False
        """On the connection of the moment."""
        self._farewell: Request | None = None
        self._farewell_ends_s = 0.0
        self._linger_ends_s = 0.0
        self._flushed = 0
        """How many unanswered requests the last flush was asked for."""

    def announce(self, within_s: float) -> None:
        """Tell the peer, of this connection or of the next."""
        self._until_s = self._core.now + within_s
        self._announced = False
        self.settle()

    def settle(self) -> None:
        """The end of every call: a peer that connected meanwhile is told too."""
        core = self._core
        if self._until_s is None or self._announced or not core.connected or Feature.LEAVING not in core.features:
            return
        self._announced = True
        core.send_command(Command.LEAVING, length=max(1, round(1000 * (self._until_s - core.now))))

    def withhold(self, in_use: bool) -> None:
        """From now on no client hears of what it writes. `in_use`: somebody has the device open."""
        writes = self._writes
        self._linger_ends_s = self._core.now + (LINGER_S if in_use else 0.0)
        if not writes.withholding:
            writes.withholding = True
            writes.standing.abandon()

    def is_quiet(self) -> bool:
        """Whether all that was taken in is on both copies, flushed, and nothing more comes. Asks for the flush."""
        writes = self._writes
        now = self._core.now
        if not writes.withholding or writes.under_way or now - writes.last_client_s < QUIET_S:
            return False
        if not writes.unanswered and now < self._linger_ends_s:
            return False
        if self._flushed != writes.unanswered:
            self._flushed = writes.unanswered
            writes.barrier.want()
        return writes.barrier.idle

    def let_go(self) -> None:
        """Everything is drained."""
        core = self._core
        if core.connected and Feature.LEAVING in core.features:
            self._farewell = core.send_command(Command.LEFT)
            self._farewell_ends_s = core.now + FAREWELL_S
        else:
            self.over = True

    def answered(self, request: Request) -> bool:
        """A command was answered, or will not be; True when it was ours to wait for."""
        if request is not self._farewell:
            return False
        self._farewell = None
        self.over = True
        return True

    def tick(self) -> None:
        """A peer that does not answer is not waited for."""
        if self._farewell is not None and self._core.now >= self._farewell_ends_s:
            self._farewell = None
            self.over = True

    def link_lost(self) -> None:
        """The next connection is told anew."""
        self._announced = False

    def peer_leaves(self) -> None:
        """The secondary says that it stops: the connection ends in order."""
        if Feature.LEAVING in self._core.features:
            self._core.event("peer-stops", "The peer stops in order.")
            self._core.effects.drop = Drop(PEER_STOPPED, in_order=True)
