"""Scatter-sending to a non-blocking stream socket: what the kernel does not take at once waits here, in order.

Asks for EPOLLOUT only while something waits. Holds references to the buffers until they are sent; copies nothing.
How much may wait is for the owner to bound (`queued_bytes`); beyond MAX_QUEUED_BYTES the connection counts as broken.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from hast.replication.types import Buffer
from hast.worker.interfaces import Reactor

MAX_BUFFERS = 1024
"""IOV_MAX of Linux: most buffers of one sendmsg."""
MAX_QUEUED_BYTES = 256 * 1024 * 1024


class Outbox:
    """One direction of one connection. `failed(reason)` is called once, from `send` or from the reactor.

    The owner registers the socket with the reactor and passes EPOLLOUT on to `writable`.
    """

    def __init__(
        self, reactor: Reactor, sock: socket.socket, failed: Callable[[str], None], events: int = select.EPOLLIN
    ) -> None:
        self._reactor = reactor
        self._sock = sock
        self._failed = failed
        self._events = events
        self._waiting: deque[memoryview] = deque()
        self._broken = False
        self.queued_bytes = 0
        self.sent_bytes = 0

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send, or queue behind what already waits."""
        if self._broken:
            return
        if self._waiting:
            self._queue(buffers)
            return
        for start in range(0, len(buffers), MAX_BUFFERS):
            part = buffers[start : start + MAX_BUFFERS] if len(buffers) > MAX_BUFFERS else buffers
            try:
                sent = self._sock.sendmsg(part)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._break(f"{error.strerror}")
                return
            self.sent_bytes += sent
            if not self._all_sent(part, sent):
                self._queue(buffers[start + len(part) :])
                return

    def writable(self) -> None:
        """The socket takes bytes again."""
        while self._waiting and not self._broken:
            part = [self._waiting[index] for index in range(min(len(self._waiting), MAX_BUFFERS))]
            try:
                sent = self._sock.sendmsg(part)
            except BlockingIOError:
                return
            except OSError as error:
                self._break(f"{error.strerror}")
                return
            self.sent_bytes += sent
            self.queued_bytes -= sent
            while sent:
                size = len(self._waiting[0])
                if sent < size:
                    self._waiting[0] = self._waiting[0][sent:]
                    break
                self._waiting.popleft()
                sent -= size
        if not self._waiting and not self._broken:
            self._reactor.modify(self._sock.fileno(), self._events)

    def watch(self, events: int) -> None:
        """Watch the socket for these events from now on, besides EPOLLOUT while something waits."""
        self._events = events
        self._reactor.modify(self._sock.fileno(), events | (select.EPOLLOUT if self._waiting else 0))

    def close(self) -> None:
        """Forget what waits; nothing is sent or reported any more."""
        self._broken = True
        self._waiting.clear()
        self.queued_bytes = 0

    def _all_sent(self, part: Sequence[Buffer], sent: int) -> bool:
        """Whether `sent` bytes were all of `part`; otherwise its rest is queued."""
        if sent == sum(map(len, part)):
            return True
        total = 0
        for index, buffer in enumerate(part):
            size = len(buffer)
            total += size
            if total > sent:
                self._queue([memoryview(buffer)[size - (total - sent) :], *part[index + 1 :]])
                break
        return False

    def _queue(self, buffers: Iterable[Buffer]) -> None:
        was_empty = not self._waiting
        for buffer in buffers:
            if len(buffer):
                self._waiting.append(memoryview(buffer))
                self.queued_bytes += len(buffer)
        if self.queued_bytes > MAX_QUEUED_BYTES:
            self._break("the other side does not take what it is sent")
        elif was_empty and self._waiting:
            self._reactor.modify(self._sock.fileno(), self._events | select.EPOLLOUT)

    def _break(self, reason: str) -> None:
        if not self._broken:
            self.close()
            self._failed(reason)
