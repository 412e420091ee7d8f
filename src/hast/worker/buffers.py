"""Receive buffers: bytes from a socket land in large chunks and are handed out as memoryviews, never copied.

For the peer link and the NBD export. A chunk is written once from front to back; views into it stay valid for as long
as anybody holds them. A chunk that is used up is set aside and reused when its last view is gone. Knows no protocol.

    buffer = ReceiveBuffer()
    received = buffer.recv(sock)          # None: nothing there; 0: the other side closed; else bytes received
    while True:
        messages, used = decode(buffer.view, buffer.start, buffer.end)
        buffer.consume(used)
    buffer.reserve(n)                     # a message of n bytes starts at `start` and is not complete: make it fit
"""

from __future__ import annotations

from typing import Protocol

from hast.format.constants import MAX_DATA_BYTES

CHUNK_BYTES = MAX_DATA_BYTES + 4096
"""The largest message of the peer, and a client's request of that size, fit with their headers."""
MIN_FREE_BYTES = 64 * 1024
"""With less room than this (and less than a quarter of the chunk) left, `recv` begins a new chunk."""
MAX_SPARE_CHUNKS = 16
"""Used-up chunks kept for reuse; further ones are left to the garbage collector. A new one costs a page fault for each
page, which is more than all that is done with a large message. There are as many as were in use at once."""


class Source(Protocol):
    """What is read like a non-blocking socket."""

    def recv(self, most: int, /) -> bytes: ...
    def recv_into(self, view: memoryview, /) -> int: ...


class ReceiveBuffer:
    """A window [start, end) of received and not yet consumed bytes in `view`, the current chunk.

    `view`, `start` and `end` are to be read again after every `recv` and `reserve`: the chunk may be another one.
    """

    __slots__ = ("_chunk", "_chunk_bytes", "_min_free_bytes", "_spare", "end", "received_bytes", "start", "view")

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._min_free_bytes = min(MIN_FREE_BYTES, chunk_bytes // 4)
        self._spare: list[bytearray] = []
        self._chunk = bytearray(chunk_bytes)
        self.view = memoryview(self._chunk)
        self.start = 0
        self.end = 0
        self.received_bytes = 0
        """Bytes received in all, for statistics."""

    def __len__(self) -> int:
        return self.end - self.start

    def pending(self) -> memoryview:
        """The bytes received and not yet consumed."""
        return self.view[self.start : self.end]

    def recv(self, sock: Source) -> int | None:
        """Receive once, as much as fits. None when a non-blocking socket has nothing, 0 at end of stream.

        Raises OSError as the socket does.
        """
        if len(self._chunk) - self.end < self._min_free_bytes:
            self._begin_chunk(self.end - self.start + self._min_free_bytes)
        try:
            received = sock.recv_into(self.view[self.end :])
        except BlockingIOError:
            return None
        self.end += received
        self.received_bytes += received
        return received

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that were received by other means (a handshake's remainder, a test)."""
        size = len(data)
        if len(self._chunk) - self.end < size:
            self._begin_chunk(self.end - self.start + size)
        self.view[self.end : self.end + size] = data
        self.end += size
        self.received_bytes += size

    def consume(self, count: int) -> None:
        """Drop `count` bytes from the front; views of them stay valid."""
        assert 0 <= count <= self.end - self.start
        self.start += count

    def reserve(self, count: int) -> None:
        """Make room so that `count` bytes from `start` on can be contiguous. The caller bounds `count`."""
        if len(self._chunk) - self.start < count:
            self._begin_chunk(count)

    def _begin_chunk(self, needed_bytes: int) -> None:
        """Move the unconsumed bytes to the front of another chunk of at least `needed_bytes`."""
        pending = self.view[self.start : self.end]
        used_up = self._chunk
        self._chunk = self._take_chunk(needed_bytes)
        self.view = memoryview(self._chunk)
        self.view[: len(pending)] = pending
        self.start, self.end = 0, len(pending)
        if len(used_up) == self._chunk_bytes and len(self._spare) < MAX_SPARE_CHUNKS:
            self._spare.append(used_up)

    def _take_chunk(self, needed_bytes: int) -> bytearray:
        if needed_bytes > self._chunk_bytes:
            return bytearray(needed_bytes)
        for place in reversed(range(len(self._spare))):  # what was used last is in the processor's cache
            if _is_free(self._spare[place]):
                return self._spare.pop(place)
        return bytearray(self._chunk_bytes)


def _is_free(chunk: bytearray) -> bool:
    """Whether no view into it is left: a bytearray refuses to change its size under a view, of whatever kind."""
    try:
        chunk.pop()
    except BufferError:
        return False
    chunk.append(0)
    return True
