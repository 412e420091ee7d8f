"""The local disk of a primary is taken out of service, and another one or the same into it, while clients go on.

Out of service the peer's copy is the one to trust: it leads, durably, before this disk is let go (S6, S8). A disk that
is taken in again is behind until everything that it may lack was copied from the peer (S7).
"""

from __future__ import annotations

from dataclasses import replace

from hast.format.constants import Feature
from hast.replication.core import MAP_OFFSET_BYTES, Core
from hast.replication.standing import Record
from hast.replication.types import Metadata, Store
from hast.replication.writes import Writes

SHAPE = ("resuid", "datasize_bytes", "extentsize_bytes", "offset_bytes")


def replacement_of(present: Metadata) -> Metadata:
    """What is written on a disk that takes the place of the one that `present` describes: it lacks everything."""
    return replace(present, stale=True, inconsistent=True, unflushed=False)


def full_map(meta: Metadata) -> bytes:
    """All extents are owed: whoever opens this copy next trusts nothing of it."""
    return b"\xff" * (meta.offset_bytes - MAP_OFFSET_BYTES)


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

    def drop(self) -> Store:
        """From now on nothing goes to the disk, but for this."""
        self._core.local_ok = False
        self._core.local_away = True
        self.keep()
        self._writes.standing.disk_lost()
        meta = self._core.meta
        return Store("map of a detached copy", offset_bytes=MAP_OFFSET_BYTES, data=full_map(meta))

    @property
    def is_behind(self) -> bool:
        """The disk that is out of service lacks something, or nothing that the peer does not have: so it may be filled
        from there. Else it may hold what the peer lacks, and a worker that begins anew has to take it for what it says
        it is."""
        core = self._core
        said = core.saved.stale or core.saved.inconsistent
        led = said or self._writes.standing.peer_leads is Record.DURABLE
        return (led and not core.map.owed_remote) or (core.connected and core.peer_whole)

    def why_not_take(self, metadata: Metadata) -> str:
        """Why a disk that says this of itself is not taken into service; empty when it is."""
        mine = self._core.meta
        if any(getattr(metadata, key) != getattr(mine, key) for key in SHAPE):
            return "it does not hold this copy; hastctl replace takes another disk"
        return ""

    def lacks_everything(self, metadata: Metadata, unflushed: bool) -> bool:
        """Whether more may be missing on it than what was written since it was let go. `unflushed`: not all that it
        took before is known to be on its medium."""
        known = metadata == self._core.saved and metadata.stale
        return not known or unflushed

    def take(self, everything: bool, unflushed: bool) -> None:
        """An open disk is there, whose own map and metadata say that it lacks everything. `everything`: it does."""
        core, amap = self._core, self._core.map
        assert not core.local_ok, "two disks in service"
        self._writes.owed_anew()
        if everything:
            amap.owed_local.fill()
        else:
            amap.owed_local.unite(amap.armed)
        amap.owed_remote.subtract(amap.owed_local)
        amap.mark(bytes(amap.owed_local.data))
        amap.show_again()
        core.effects.stores.append(Store("activemap again", offset_bytes=MAP_OFFSET_BYTES, data=amap.image()))
        core.local_ok, core.local_away = True, False
        core.pace.reset()
        self._writes.arming.clears_durably = True
        core.store_metadata("disk taken into service", stale=True, inconsistent=True, unflushed=unflushed)
        self._writes.sync.retry_later()
