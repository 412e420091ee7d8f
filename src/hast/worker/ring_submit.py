"""Giving a ring's submissions to the kernel from the reactor, and again when it is short of memory."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from hast.worker.interfaces import Reactor

RETRY_S = 0.002
"""How soon a kernel that was short of memory is asked again."""
_SHORT_OF_MEMORY = frozenset((errno.EAGAIN, errno.EBUSY, errno.ENOMEM))


class Submits(Protocol):
    """A ring (`io_uring.Ring`)."""

    def submit(self) -> None: ...


def submit(ring: Submits, reactor: Reactor, again: Callable[[], None]) -> None:
    """`again` is called later where the kernel was short of memory. What else keeps it from taking them ends this
    worker, so that another one takes its place: users would wait for ever. Raises OSError."""
    try:
        ring.submit()
    except OSError as error:
        if error.errno not in _SHORT_OF_MEMORY:
            raise
        reactor.call_at(reactor.now() + RETRY_S, again)
