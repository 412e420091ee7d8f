"""The plain path of a client's write, in batches: nothing about it is special, and both copies are there.

Who holds a rule is asked once for a whole batch; what does not pass leaves this path by the name of where it goes:

    take     writes come from clients
               writes.enter     answers are held back, or no more writes are taken
               ranges           one that overlaps an earlier one waits there (S5)
               arming           one whose extents are not marked on the disk waits there (S1)
               writes.launch    a copy is missing
    ended    both copies gave their final word
               writes.complete  one of them failed, a flush has to follow (FUA), or answers are withheld
"""

from __future__ import annotations

from hast.replication.core import MEMSYNC, Core
from hast.replication.types import Request
from hast.replication.writes import Writes


class PlainPath:
    """Of one primary. Decides nothing of its own but which writes are plain."""

    def __init__(self, core: Core, writes: Writes) -> None:
        self._core = core
        self._writes = writes

    def take(self, batch: list[Request]) -> None:
        """WRITEs of clients, in order."""
        core, writes = self._core, self._writes
        if writes.closed:
            for request in batch:
                writes.enter(request)
            return
        armed = writes.arming.admit(core.ranges.add_all(batch))
        if core.connected and core.local_ok:
            self._launch(armed)
        else:
            for request in armed:
                writes.launch(request)

    def _launch(self, batch: list[Request]) -> None:
        """To both copies at once."""
        core, writes = self._core, self._writes
        assert core.map.are_armed(batch), "S1: extent not marked on the disk"
        core.effects.local += batch
        core.send_writes(batch, writes.mode == MEMSYNC)
        writes.promise(batch)

    def ended(self, batch: list[Request]) -> None:
        """Both copies gave their final word on these changes of clients, in this order."""
        core, writes = self._core, self._writes
        answers: list[Request] = []
        for request in batch:
            if request.local_error or request.remote_error or request.fua or writes.withholding:
                self._end_one_by_one(batch)
                return
            if not request.acked:
                answers.append(request)
        core.map.end_all(batch)
        freed = core.ranges.release_all(batch)
        if freed:
            writes.released(freed)
        writes.finish_all(answers)

    def _end_one_by_one(self, batch: list[Request]) -> None:
        for request in batch:
            self._writes.complete(request)
