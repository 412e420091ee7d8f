"""Writes that wait for the map to be on the disk, and the one map job under way at a time (S1)."""

from __future__ import annotations

from collections.abc import Callable

from hast.replication.bitmap import Bitmap
from hast.replication.core import MAP_OFFSET_BYTES, Core
from hast.replication.types import Request, Store


class Arming:
    """`launch(request)` is called for a parked write once every extent of it is marked on the disk, durably."""

    def __init__(self, core: Core, launch: Callable[[Request], None]) -> None:
        self._core = core
        self._launch = launch
        self._parked: list[Request] = []
        self._job: Store | None = None
        self._extents = Bitmap(core.map.extents)
        self.clears_durably = False
        """What was cleared is to be on the medium soon: an interrupted synchronisation goes on from there."""

    @property
    def busy(self) -> bool:
        """A map job is under way."""
        return self._job is not None

    @property
    def quiet(self) -> bool:
        """No write waits for the map."""
        return not self._parked

    def admit(self, batch: list[Request]) -> list[Request]:
        """These writes want to start: those that may. `launch` is called for the others."""
        return self._core.map.begin_all(batch, self._parked)

    def store(self) -> None:
        """Bring the map on the disk up to date, if it is not and no job is under way."""
        core = self._core
        if self._job is not None or not core.map.changed:
            return
        image = core.map.take_image()
        if image is None:
            return
        offset, data = image
        self._extents = core.map.arming.copy()
        flush = (bool(self._extents) or self.clears_durably) and core.settings.metaflush
        self.clears_durably = False
        self._job = Store("activemap", offset_bytes=MAP_OFFSET_BYTES + offset, data=data, flush=flush)
        core.effects.stores.append(self._job)

    def stored(self, job: Store) -> None:
        """Launch what waited for these bits, and what came later and needs no others."""
        if job is not self._job:
            return
        self._job = None
        amap = self._core.map
        amap.arm(self._extents)
        parked, self._parked = self._parked, []
        for request in parked:
            if amap.is_armed(request.first, request.last):
                self._launch(request)
            else:
                self._parked.append(request)
