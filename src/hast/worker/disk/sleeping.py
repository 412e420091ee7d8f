"""What is done to a disk by the threads that may sleep in it, through the page cache or past it.

Changes no request: what came of each is returned (`iopool.Outcome`), an errno among it. Raises nothing of the disk's.
"""

from __future__ import annotations

import errno
import os

from hast.replication.types import Buffer, Request
from hast.worker.disk import direct
from hast.worker.disk.iopool import Outcome
from hast.worker.disk.zeroing import Zeroer


class Sleeping:
    """Of the data area of one disk, which begins at `base_bytes`."""

    def __init__(self, fd: int, base_bytes: int, past_cache: bool) -> None:
        self._fd = fd
        self._base = base_bytes
        self._past_cache = past_cache
        self._zeroer = Zeroer(fd)
        self._is_given_up = False

    def give_up(self) -> None:
        """What is not begun fails from now on."""
        self._is_given_up = True

    def write(self, buffers: list[Buffer], offset: int, skip: int) -> list[Outcome] | None:
        """Write these but for the first `skip` bytes; where that fails, each of them has its own outcome."""
        try:
            self._write_all(buffers, self._base + offset, skip)
        except OSError as error:
            if len(buffers) == 1:
                return [Outcome(error.errno or errno.EIO)]
        else:
            return None
        outcomes = []
        for buffer in buffers:
            outcomes += self.write([buffer], offset, 0) or [Outcome()]
            offset += len(buffer)
        return outcomes

    def read(self, request: Request) -> list[Outcome]:
        data = bytearray(request.length)
        view = memoryview(data)
        done = 0
        try:
            while done < request.length:
                received = self._read_at(view[done:], self._base + request.offset + done)
                if received == 0:
                    raise OSError(errno.EIO, "short read")
                done += received
        except OSError as error:
            return [Outcome(error.errno or errno.EIO)]
        return [Outcome(0, data)]

    def zero(self, request: Request) -> list[Outcome] | None:
        """DELETE and ZERO: the range reads as zeros afterwards, on every copy."""
        try:
            self._zeroer.zero(self._base + request.offset, request.length)
        except OSError as error:
            return [Outcome(error.errno or errno.EIO)]
        return None

    def _write_all(self, buffers: list[Buffer], offset: int, skip: int) -> None:
        """Write all of `buffers` at `offset` of the provider, but for the first `skip` bytes. Raises OSError."""
        views = [memoryview(buffer) for buffer in buffers]
        while True:
            while views and skip >= len(views[0]):
                skip -= len(views[0])
                offset += len(views.pop(0))
            if not views:
                return
            if self._is_given_up:
                raise OSError(errno.EIO, "given up")
            written = self._write_at([views[0][skip:], *views[1:]], offset + skip)
            if written == 0:
                raise OSError(errno.EIO, "short write")
            skip += written

    def _write_at(self, views: list[memoryview], offset: int) -> int:
        return direct.write(self._fd, views, offset) if self._past_cache else os.pwritev(self._fd, views, offset)

    def _read_at(self, view: memoryview, offset: int) -> int:
        return direct.read_into(self._fd, view, offset) if self._past_cache else os.preadv(self._fd, [view], offset)
