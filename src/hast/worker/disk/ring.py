"""Reads and writes of a disk past the page cache, given to the kernel by io_uring: no thread sleeps for them.

The reactor's thread alone. What a device takes and gives has to lie at whole pages of memory: each part of at most
PART_BYTES goes through a slot of memory of our own. The disk is given DEPTH parts at once, what is beyond waits here,
in order. Decides nothing about errors: what did not go smoothly in any part is handed back (`again`), to be done once
more by the threads, which tell what is wrong.
"""

from __future__ import annotations

import ctypes
import mmap
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from hast.daemon.io_uring import Ring
from hast.format.constants import Command
from hast.replication.types import READ, Request
from hast.worker.disk.decisions.begun import Begun
from hast.worker.disk.decisions.patience import Patience
from hast.worker.interfaces import Reactor
from hast.worker.ring_submit import submit

DEPTH = 32
"""How many operations a disk is given at once: what waits in hastd it can put in no better order."""
PART_BYTES = 256 * 1024
CLOSE_POLL_MS = 20


class Kernel(Protocol):
    """What is asked of a ring (`io_uring.Ring`)."""

    @property
    def fd(self) -> int: ...
    def transfer(self, to_fd: bool, fd: int, address: int, size_bytes: int, offset: int, user_data: int) -> None: ...
    def submit(self) -> None: ...
    def completions(self, limit: int) -> Iterator[tuple[int, int]]: ...
    def close(self) -> None: ...


class _Piece:
    """Requests that follow each other on the disk without a gap, of at most PART_BYTES, or a single one."""

    __slots__ = ("failed", "left", "number", "requests")

    def __init__(self, number: int, requests: list[Request], parts: int) -> None:
        self.number = number
        self.requests = requests
        self.left = parts
        self.failed = False


class _Part:
    """Of a piece: `size_bytes` from `start`, counted from the first byte of its first request. In words, should the
    disk not answer."""

    __slots__ = ("piece", "size_bytes", "start")

    def __init__(self, piece: _Piece, start: int, size_bytes: int) -> None:
        self.piece = piece
        self.start = start
        self.size_bytes = size_bytes

    def __str__(self) -> str:
        first = self.piece.requests[0]
        return f"{Command(first.op).name} at {first.offset + self.start}"


class DiskRing:
    """`done(batch)` is told what went well, `again(requests)` of what else ended."""

    def __init__(
        self,
        fd: int,
        base_bytes: int,
        reactor: Reactor,
        patience: Patience,
        done: Callable[[list[Request]], None],
        again: Callable[[list[Request]], None],
        make_ring: Callable[[int], Kernel] = Ring,
    ) -> None:
        """`fd` was opened with O_DIRECT, and its data area begins at `base_bytes`. `make_ring`: with room for so many.
        Raises OSError without io_uring."""
        self._fd = fd
        self._base = base_bytes
        self._reactor = reactor
        self._patience = patience
        self._done = done
        self._again = again
        self._ring = make_ring(DEPTH)
        memory = mmap.mmap(-1, DEPTH * PART_BYTES)
        self._memory = memoryview(memory)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._keys = [(self, slot) for slot in range(DEPTH)]
        self._free = list(range(DEPTH))
        self._under_way: dict[int, _Part] = {}
        self._waiting: deque[_Part] = deque()
        self._begun = Begun()
        self._abandoned = False
        self._closed = False
        reactor.add(self._ring.fd, select.EPOLLIN, self._ready)

    @property
    def pending(self) -> int:
        """Pieces begun and not yet reported."""
        return len(self._begun)

    def write(self, run: list[Request]) -> None:
        """WRITEs that follow each other without a gap; `begin` starts them."""
        chosen: list[Request] = []
        size_bytes = 0
        for request in run:
            if chosen and size_bytes + request.length > PART_BYTES:
                self._add(chosen, size_bytes)
                chosen, size_bytes = [], 0
            chosen.append(request)
            size_bytes += request.length
        self._add(chosen, size_bytes)

    def read(self, request: Request) -> None:
        """A READ; `begin` starts it."""
        self._add([request], request.length)

    def begin(self) -> None:
        """Give the disk what waits, as much as it may have at once."""
        waiting, free = self._waiting, self._free
        if not waiting or not free:
            return
        now_s = time.monotonic()
        while waiting and free:
            self._hand_over(waiting.popleft(), free.pop(), now_s)
        self._submit()

    def abandon(self) -> list[Request]:
        """Wait for nothing any more: returns the requests not reported, which never will be, and change no more."""
        self._abandoned = True
        self._waiting.clear()
        return self._begun.give_up()

    def close(self, timeout_s: float) -> bool:
        """Work off what is begun, then let go; False when the disk does not answer within `timeout_s`. Nothing is
        reported as done any more."""
        if self._closed:
            return True
        deadline_s = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._ring.fd, select.POLLIN)
        self._done = _nobody
        while self._under_way:
            if time.monotonic() >= deadline_s:
                return False
            self._submit()
            poll.poll(CLOSE_POLL_MS)
            self._ready(0)
        self._closed = True
        self._reactor.remove(self._ring.fd)
        self._ring.close()
        return True

    # -- one part

    def _add(self, requests: list[Request], size_bytes: int) -> None:
        if size_bytes <= PART_BYTES:
            self._waiting.append(_Part(_Piece(self._begun.begin(requests), requests, 1), 0, size_bytes))
            return
        starts = range(0, size_bytes, PART_BYTES)
        piece = _Piece(self._begun.begin(requests), requests, len(starts))
        for start in starts:
            self._waiting.append(_Part(piece, start, min(PART_BYTES, size_bytes - start)))

    def _hand_over(self, part: _Part, slot: int, now_s: float) -> None:
        first = part.piece.requests[0]
        op, at = first.op, slot * PART_BYTES
        if op != READ:
            self._fill(part, at)
        offset = self._base + first.offset + part.start
        self._under_way[slot] = part
        self._patience.begin(self._keys[slot], part, now_s)
        self._ring.transfer(op != READ, self._fd, self._address + at, part.size_bytes, offset, slot)

    def _fill(self, part: _Part, at: int) -> None:
        memory, requests = self._memory, part.piece.requests
        if len(requests) == 1:
            data = requests[0].data
            assert data is not None, f"{requests[0]} has no data"
            source = data if part.size_bytes == len(data) else memoryview(data)[part.start :][: part.size_bytes]
            memory[at : at + part.size_bytes] = source
            return
        for request in requests:
            assert request.data is not None, f"{request} has no data"
            memory[at : at + request.length] = request.data
            at += request.length

    def _submit(self) -> None:
        if not self._closed:
            submit(self._ring, self._reactor, self._submit)

    def _ready(self, _mask: int) -> None:
        """What the disk answered, in one batch; then it is given what waits."""
        finished: list[Request] = []
        failed: list[list[Request]] = []
        for slot, result in self._ring.completions(DEPTH):
            part = self._under_way.pop(slot)
            self._patience.end(self._keys[slot])
            self._free.append(slot)
            if self._abandoned:
                continue
            piece = part.piece
            if result != part.size_bytes:
                piece.failed = True
            elif piece.requests[0].op == READ:
                self._take(piece.requests[0], part, slot * PART_BYTES)
            piece.left -= 1
            if not piece.left:
                self._begun.end(piece.number)
                if piece.failed:
                    failed.append(piece.requests)
                else:
                    finished += piece.requests
        self.begin()
        for requests in failed:
            self._again(requests)
        if finished:
            self._done(finished)

    def _take(self, request: Request, part: _Part, at: int) -> None:
        view = self._memory[at : at + part.size_bytes]
        if part.size_bytes == request.length:
            request.data = bytes(view)
            return
        if request.data is None:
            request.data = bytearray(request.length)
        memoryview(request.data)[part.start : part.start + part.size_bytes] = view


def _nobody(_batch: list[Request]) -> None:
    """After the end nobody is told."""
