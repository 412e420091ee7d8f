"""Whether a front end reads its descriptor: not while the engine is full, nor while receive memory is in use."""

from __future__ import annotations

import select
from collections.abc import Callable

from hast.worker.interfaces import Reactor, Timer

RETRY_S = 0.002
"""How soon free receive memory is looked for again."""


class Intake:
    """Of one descriptor, whose owner calls `end` before it is closed. `resumed` is called when reading goes on."""

    def __init__(self, reactor: Reactor, congested: Callable[[], bool], resumed: Callable[[], None]) -> None:
        self._reactor = reactor
        self._congested = congested
        self._resumed = resumed
        self._fd = -1
        self._retry: Timer | None = None
        self.open = False

    def begin(self, fd: int, ready: Callable[[int], None]) -> None:
        """Watch the descriptor. Raises OSError."""
        self._reactor.add(fd, select.EPOLLIN, ready)
        self._fd = fd
        self.open = True

    def end(self) -> None:
        """Watch no more."""
        self._cancel()
        if self._fd >= 0:
            self._reactor.remove(self._fd)
            self._fd = -1
        self.open = False

    def pause(self) -> None:
        if self.open:
            self.open = False
            self._reactor.modify(self._fd, 0)

    def pause_if_congested(self) -> bool:
        """True when nothing is to be read now."""
        if self._congested():
            self.pause()
            return True
        return False

    def resume(self) -> None:
        """Congestion has ended."""
        if self._fd >= 0 and not self.open:
            self.open = True
            self._reactor.modify(self._fd, select.EPOLLIN)
            self._resumed()

    def wait_for_memory(self) -> None:
        self.pause()
        if not self._retry:
            self._retry = self._reactor.call_at(self._reactor.now() + RETRY_S, self._look)

    def something_ended(self) -> None:
        """A request was answered: what was waited for may be free."""
        if self._retry:
            self._look()

    def _look(self) -> None:
        self._cancel()
        if not self._congested():
            self.resume()

    def _cancel(self) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None
