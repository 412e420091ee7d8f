"""Reading and writing a disk past the kernel's page cache (O_DIRECT). Sleeps in the disk: for the threads alone.

What a device takes and gives so has to lie at whole pages of memory: each thread has some of its own that everything
goes through. All of a disk's descriptors go past the cache, or none: a page that is written back from the cache brings
back what lay beside on the disk before.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Sequence

from hast.replication.types import Buffer

BOUNCE_BYTES = 256 * 1024
THREADS = 16
"""How many operations a disk is given at once: what waits in hastd it can put in no better order."""


class Bounce(threading.local):
    """Memory of the thread that asks."""

    def __init__(self) -> None:
        self.view = memoryview(mmap.mmap(-1, BOUNCE_BYTES))


_bounce = Bounce()


def bypass(*descriptors: int) -> bool:
    """From now on these go past the cache; False, and nothing changed, where they cannot."""
    changed: list[tuple[int, int]] = []
    for fd in descriptors:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            for each, before in changed:
                fcntl.fcntl(each, fcntl.F_SETFL, before)
            return False
        changed.append((fd, flags))
    return True


def write(fd: int, buffers: Sequence[Buffer], offset: int, flags: int = 0) -> int:
    """As os.pwritev; at most BOUNCE_BYTES of them. Raises OSError."""
    view = _bounce.view
    filled = 0
    for buffer in buffers:
        part = memoryview(buffer)[: BOUNCE_BYTES - filled]
        view[filled : filled + len(part)] = part
        filled += len(part)
        if filled == BOUNCE_BYTES:
            break
    return os.pwritev(fd, [view[:filled]], offset, flags)


def read_into(fd: int, target: memoryview, offset: int) -> int:
    """As os.preadv into one buffer; at most BOUNCE_BYTES. Raises OSError."""
    view = _bounce.view[: len(target)]
    received = os.preadv(fd, [view], offset)
    target[:received] = view[:received]
    return received
