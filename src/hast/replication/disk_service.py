"""The local disk of a primary is taken out of service, and another one or the same into it, while clients go on.

Out of service the peer's copy is the one to trust: it leads, durably, before this disk is let go (S6, S8). A disk that
is taken in again is behind until everything that it may lack was copied from the peer (S7).
"""

from __future__ import annotations

from hast.format.constants import Feature
from hast.replication.core import Core
from hast.replication.standing import Record
from hast.replication.writes import Writes


class DiskService:
    """Part of the engine of a primary; the shell opens and closes the disk."""

    def __init__(self, core: Core, writes: Writes) -> None:
        self._core = core
        self._writes = writes

    def why_not_release(self) -> str:
        """Why the disk cannot be spared now; empty when it can."""
        core = self._core
        if not core.connected:
            return "the other node is not connected, and this is the only copy"
        if Feature.TAKE_LEAD not in core.features:
            return "the other node cannot take the lead (FreeBSD)"
        if not core.local_ok:
            return "the local disk is not in use"
        if core.lacking or not core.peer_whole or core.peer_unflushed or self._writes.sync.active:
            return "the copies are not equal yet"
        if self._writes.draining or self._writes.frozen or core.meta.unflushed:
            return "the resource is being stopped, its writes are held, or a flush failed"
        return ""

    def release(self) -> None:
        """Hand the lead over; then `released`."""
        self._writes.standing.disk_leaves = True
        self._writes.standing.hand_over_lead()

    def keep(self) -> None:
        """It stays after all: the lead comes back."""
        self._writes.standing.disk_leaves = False

    @property
    def released(self) -> bool:
        """The peer leads, and both disks say so."""
        return self._core.saved.stale and self._writes.standing.peer_leads is Record.DURABLE and self._core.connected

    def drop(self) -> None:
        """From now on nothing goes to the disk."""
        self._core.local_ok = False
        self._core.local_away = True
        self.keep()

    def take(self, everything: bool, unflushed: bool) -> None:
        """An open disk is there, whose own map and metadata say that it lacks everything. `everything`: it does."""
        core, amap = self._core, self._core.map
        assert not core.local_ok, "two disks in service"
        if everything:
            amap.owed_local.fill()
        else:
            amap.owed_local.unite(amap.armed)
        amap.owed_remote.subtract(amap.owed_local)
        amap.mark(bytes(amap.owed_local.data))
        amap.show_again()
        core.local_ok, core.local_away = True, False
        self._writes.arming.clears_durably = True
        core.store_metadata("disk taken into service", stale=True, inconsistent=True, unflushed=unflushed)
        self._writes.sync.retry_later()
