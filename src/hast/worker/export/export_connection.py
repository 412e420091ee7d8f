"""One client of the NBD export: handshake, then requests in batches, replies in batches.

One wake-up receives once, decodes every whole request and submits one list; completions are sent with one call. The
client's memory is bounded: bytes asked for or sent and not yet answered count against its own limit and the export's,
and a client over the limit is not read. May not block, may not know how a request is carried out.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from hast.format import nbd
from hast.format.constants import MAX_DATA_BYTES
from hast.format.nbd import CommandFlag, CommandType, NbdError
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Buffer, Request
from hast.worker.buffers import ReceiveBuffer
from hast.worker.export.export_negotiate import ExportDescription, Negotiation, Phase
from hast.worker.export.limits import ExportLimits
from hast.worker.interfaces import Reactor, Timer

HANDSHAKE_CHUNK_BYTES = 16 * 1024
"""Receive chunk until the handshake is done, so that a client that never finishes it costs next to nothing."""
MAX_BATCH_REQUESTS = 256
MAX_SEND_BUFFERS = 1000
"""Less than IOV_MAX."""

log = logging.getLogger(__name__)

_CMD_READ = int(CommandType.READ)
_CMD_WRITE = int(CommandType.WRITE)
_FUA = int(CommandFlag.FUA)
_OPERATIONS = {
    CommandType.READ: READ,
    CommandType.WRITE: WRITE,
    CommandType.FLUSH: FLUSH,
    CommandType.TRIM: DELETE,
    CommandType.WRITE_ZEROES: ZERO,
}
_FLAGS_ALLOWED = {
    READ: int(CommandFlag.DF | CommandFlag.FUA),
    WRITE: _FUA,
    FLUSH: _FUA,
    DELETE: _FUA,
    ZERO: int(CommandFlag.FUA | CommandFlag.NO_HOLE),
}


class _Pieces:
    """A READ or WRITE longer than MAX_DATA_BYTES: the requests it became, and the answer they add up to."""

    __slots__ = ("cookie", "error", "left", "length", "offset", "op", "requests")

    def __init__(self, connection: Connection, whole: Request) -> None:
        self.cookie: int = whole.cookie
        self.op = whole.op
        self.offset = whole.offset
        self.length = whole.length
        self.error = 0
        self.requests: list[Request] = []
        view = memoryview(whole.data) if whole.data is not None else None
        for start in range(0, whole.length, MAX_DATA_BYTES):
            size = min(MAX_DATA_BYTES, whole.length - start)
            data = view[start : start + size] if view is not None else None
            self.requests.append(Request(whole.op, whole.offset + start, size, data, connection, self, whole.fua))
        self.left = len(self.requests)

    def finished(self, request: Request) -> bool:
        """Count one piece; True when all are done."""
        self.error = self.error or request.error
        self.left -= 1
        return self.left == 0


class Export(Protocol):
    """The export, as one of its connections sees it."""

    reactor: Reactor
    limits: ExportLimits
    description: ExportDescription
    congested: Callable[[], bool]
    held_bytes: int
    """Of all connections together."""

    def submit(self, batch: list[Any]) -> None:
        """Requests for the engine."""
        ...

    def budget_bytes(self, held_bytes: int, reserved_bytes: int) -> int:
        """How much more a connection may have in flight that holds so much."""
        ...

    def released(self) -> None:
        """Some memory is free again."""
        ...

    def forget(self, connection: Connection) -> None:
        """This connection is closed."""
        ...


class Connection:
    """A client for the engine; `go_on`, `close` and `closed` are for the export."""

    def __init__(self, export: Export, sock: socket.socket, peer: str) -> None:
        self._export = export
        self._reactor = export.reactor
        self._sock = sock
        self._fd = sock.fileno()
        self.peer = peer
        self._buffer = ReceiveBuffer(HANDSHAKE_CHUNK_BYTES)
        self._negotiation: Negotiation | None = Negotiation(export.description)
        self._structured = False
        self._mask_block = export.description.block_size_bytes - 1
        self._size_bytes = export.description.size_bytes
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._reserved_bytes = 0
        self._held_bytes = 0
        self._reading = True
        self._leaving = False
        self._continuing = False
        self._mask = select.EPOLLIN
        self.in_flight = 0
        self.closed = False
        self._reactor.add(self._fd, self._mask, self._ready)
        self._deadline: Timer | None = None
        self._set_deadline(export.limits.handshake_s)
        self._send([nbd.SERVER_GREETING])

    @property
    def negotiating(self) -> bool:
        return self._negotiation is not None

    def close(self, reason: str = "") -> None:
        """End this conversation; requests in the engine are completed into the void."""
        if self.closed:
            return
        if reason:
            log.warning("NBD client %s: %s; connection closed", self.peer, reason)
        self.closed = True
        self._set_deadline(None)
        self._reactor.remove(self._fd)
        self._sock.close()
        self._out.clear()
        self._hold(-self._out_bytes - self._reserved_bytes)
        self._out_bytes = self._reserved_bytes = 0
        self._export.forget(self)

    def go_on(self) -> None:
        """What held this client up may be over: look again, in the reactor's next round."""
        if not (self._reading or self._continuing or self.closed):
            self._continuing = True
            self._reactor.call_at(self._reactor.now(), self._continue)

    def _continue(self) -> None:
        self._continuing = False
        if not self.closed:
            self._process()

    def _hold(self, delta_bytes: int) -> None:
        self._held_bytes += delta_bytes
        self._export.held_bytes += delta_bytes

    def _set_deadline(self, limit_s: float | None) -> None:
        """The handshake, or a large payload, is to be complete within `limit_s`."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        if limit_s is not None:
            self._deadline = self._reactor.call_at(self._reactor.now() + limit_s, lambda: self._took_too_long(limit_s))

    def _took_too_long(self, limit_s: float) -> None:
        what = "no complete handshake" if self.negotiating else "the payload of a WRITE did not arrive"
        self.close(f"{what} within {limit_s:g} s")

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush_out()
        if self.closed:
            return
        if events & select.EPOLLIN and self._reading:
            self._receive()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.close()

    def _receive(self) -> None:
        try:
            received = self._buffer.recv(self._sock)
        except OSError:
            self.close()
            return
        if received:
            self._process()
        elif received == 0:
            self.close()

    def _process(self) -> None:
        """Take from the buffer what is whole and within the limits; then read on or wait."""
        try:
            if self._negotiation is not None:
                self._negotiate(self._negotiation)
            if self._negotiation is None and not self.closed:
                self._reading = not self._leaving and self._take_requests()
        except NbdError as error:
            self.close(str(error))
            return
        self._update_mask()

    def _negotiate(self, negotiation: Negotiation) -> None:
        self._send([negotiation.advance(self._buffer)])
        if negotiation.phase is Phase.CLOSED:
            self._leaving = True
            self._reading = False
            self._end_if_idle()
        elif negotiation.phase is Phase.TRANSMISSION:
            self._structured = negotiation.structured
            self._negotiation = None
            self._set_deadline(None)
            handshake, self._buffer = self._buffer, ReceiveBuffer(self._export.limits.chunk_bytes)
            self._buffer.feed(handshake.pending())

    def _take_requests(self) -> bool:
        """Submit whole requests until there are none (True: read on) or a limit is reached (False)."""
        buffer, export = self._buffer, self._export
        while len(buffer) >= nbd.REQUEST_SIZE_BYTES:
            budget = export.budget_bytes(self._held_bytes, self._reserved_bytes)
            count = export.limits.requests - self.in_flight
            if budget <= 0 or count <= 0 or export.congested():
                return False
            requests, used, needed = nbd.decode_requests(
                buffer.view, buffer.start, buffer.end, budget, min(count, MAX_BATCH_REQUESTS)
            )
            if not requests:
                self._reserve(needed)
                return True
            buffer.consume(used)
            if self._reserved_bytes:
                self._reserve(0)
            self._start(requests)
            if self.closed or self._leaving:
                return False
        return not export.congested()

    def _reserve(self, needed_bytes: int) -> None:
        """Make room for a request whose payload is on its way; large ones count as held."""
        large = needed_bytes if needed_bytes > self._export.limits.chunk_bytes else 0
        if large != self._reserved_bytes:
            self._hold(large - self._reserved_bytes)
            self._reserved_bytes = large
            self._set_deadline(self._export.limits.payload_s if large else None)
        if needed_bytes:
            self._buffer.reserve(needed_bytes)

    def _start(self, requests: list[nbd.NbdRequest]) -> None:
        """Turn wire requests into requests of the engine and submit them as one batch. The hot path."""
        batch: list[Request] = []
        append = batch.append
        mask, size_bytes, held = self._mask_block, self._size_bytes, 0
        for wire in requests:
            flags, kind, cookie, offset, length, data = wire
            if (
                kind <= _CMD_WRITE
                and flags <= kind  # FUA is flag 1 and means something to WRITE only, which is type 1
                and not (offset | length) & mask
                and offset + length <= size_bytes
                and 0 < length <= MAX_DATA_BYTES
            ):
                append(
                    Request(WRITE if kind == _CMD_WRITE else READ, offset, length, data, self, cookie, flags == _FUA)
                )
                held += length
            elif kind == CommandType.DISC:
                self._leaving = True
                break
            else:
                held += self._start_unusual(wire, batch)
        if batch:
            self.in_flight += len(batch)
            self._hold(held)
            self._export.submit(batch)
        self._end_if_idle()

    def _start_unusual(self, wire: nbd.NbdRequest, batch: list[Request]) -> int:
        """Anything but a plain READ or WRITE: refuse it or add it to the batch. Returns the bytes it holds."""
        flags, kind, cookie, offset, length, data = wire
        op = _OPERATIONS.get(kind)  # type: ignore[call-overload]
        problem = errno.EINVAL if op is None else self._problem(op, flags, offset, length)
        if op is None or problem:
            self._refuse(kind, cookie, problem)
            return 0
        if op == FLUSH:
            offset = length = 0
        request = Request(op, offset, length, data, self, cookie, bool(flags & _FUA) and op != READ)
        if op not in (READ, WRITE):
            batch.append(request)
            return 0
        if length > MAX_DATA_BYTES:
            batch.extend(_Pieces(self, request).requests)
        else:
            batch.append(request)
        return length

    def _problem(self, op: int, flags: int, offset: int, length: int) -> int:
        """Why a request cannot be carried out, as an errno; 0 when it can."""
        if flags & ~_FLAGS_ALLOWED[op]:
            return errno.EINVAL
        if op == FLUSH:
            return 0
        if offset + length > self._size_bytes:
            return errno.ENOSPC if op in (WRITE, ZERO) else errno.EINVAL
        too_long = op == READ and length > nbd.MAX_PAYLOAD_BYTES
        return errno.EINVAL if not length or too_long or (offset | length) & self._mask_block else 0

    def _refuse(self, kind: int, cookie: int, error: int) -> None:
        structured = self._structured and kind == CommandType.READ
        self._send([nbd.error_chunk(cookie, error) if structured else nbd.simple_reply(error, cookie)])

    def completed(self, batch: list[Request]) -> None:
        """Answer these requests in one send."""
        self.in_flight -= len(batch)
        released = 0
        out: list[Buffer] = []
        pack, magic = nbd.SIMPLE_REPLY.pack, nbd.SIMPLE_REPLY_MAGIC
        for request in batch:
            op, cookie = request.op, request.cookie
            if op in (READ, WRITE):
                released += request.length
            if type(cookie) is not int:
                if cookie.finished(request):
                    self._answer_pieces(cookie, out)
            elif request.error:
                self._answer_error(op, cookie, request.error, out)
            elif op == READ:
                self._answer_read(cookie, request.offset, request.length, [request.data or b""], out)
            else:
                out.append(pack(magic, 0, cookie))
        self._hold(-released)
        if self.closed:
            self._export.released()
            return
        self._send(out)
        if not self._reading:
            self.go_on()
            self._end_if_idle()
        self._export.released()

    def _answer_error(self, op: int, cookie: int, error: int, out: list[Buffer]) -> None:
        number = nbd.ERRORS.get(error, errno.EIO)
        structured = self._structured and op == READ
        out.append(nbd.error_chunk(cookie, number) if structured else nbd.simple_reply(number, cookie))

    def _answer_read(self, cookie: int, offset: int, length: int, data: list[Buffer], out: list[Buffer]) -> None:
        out.append(nbd.read_chunk(cookie, offset, length) if self._structured else nbd.simple_reply(0, cookie))
        out.extend(data)

    def _answer_pieces(self, pieces: _Pieces, out: list[Buffer]) -> None:
        if pieces.error:
            self._answer_error(pieces.op, pieces.cookie, pieces.error, out)
        elif pieces.op == READ:
            data = [request.data or b"" for request in pieces.requests]
            self._answer_read(pieces.cookie, pieces.offset, pieces.length, data, out)
        else:
            out.append(nbd.simple_reply(0, pieces.cookie))

    def _send(self, buffers: list[Buffer]) -> None:
        """Send now what the socket takes, queue the rest."""
        if self.closed or not buffers:
            return
        if not self._out:
            try:
                buffers = self._send_now(buffers)
            except OSError:
                self.close()
                return
        for buffer in buffers:
            self._out.append(memoryview(buffer))
            self._out_bytes += len(buffer)
            self._hold(len(buffer))
        if buffers:
            self._update_mask()

    def _send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Returns what is left. Raises OSError."""
        while buffers:
            some = buffers[:MAX_SEND_BUFFERS]
            try:
                sent = self._sock.sendmsg(some)
            except BlockingIOError:
                return buffers
            if sent < sum(map(len, some)):
                return _after(buffers, sent)
            buffers = buffers[MAX_SEND_BUFFERS:]
        return buffers

    def _flush_out(self) -> None:
        before = self._out_bytes
        queue: list[Buffer] = list(self._out)
        self._out.clear()
        try:
            left = self._send_now(queue)
        except OSError:
            self.close()
            return
        self._out.extend(memoryview(buffer) for buffer in left)
        self._out_bytes = sum(len(buffer) for buffer in left)
        self._hold(self._out_bytes - before)
        self._update_mask()
        self.go_on()
        self._end_if_idle()
        self._export.released()

    def _update_mask(self) -> None:
        mask = (select.EPOLLIN if self._reading else 0) | (select.EPOLLOUT if self._out else 0)
        if mask != self._mask and not self.closed:
            self._mask = mask
            self._reactor.modify(self._fd, mask)

    def _end_if_idle(self) -> None:
        """A client that said good-bye gets its answers, then the connection is closed."""
        if self._leaving and not self.in_flight and not self._out:
            self.close()


def _after(buffers: list[Buffer], count: int) -> list[Buffer]:
    """What is left of them behind `count` bytes."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []
