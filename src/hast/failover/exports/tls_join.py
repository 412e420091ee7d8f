"""Carries one client of NBD in TLS to hastd's NBD socket: negotiates STARTTLS, then moves bytes both ways.

One thread a client: a session of OpenSSL may not be read and written by two at once. A client that is not known within
NEGOTIATE_S is dropped; until then hastd hears nothing of it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time

from hast.failover.exports.nbd_tls import Before, BeforeTls
from hast.format import nbd

NEGOTIATE_S = 10.0
ROOM_BYTES = 256 * 1024
SERVER_FLAGS_BYTES = 2


def negotiate(client: socket.socket, context: ssl.SSLContext) -> tuple[ssl.SSLSocket, int]:
    """The client in TLS, and the flags with which it greeted. Raises OSError, NbdError; then the client is closed."""
    until_s = time.monotonic() + NEGOTIATE_S
    before = BeforeTls()
    client.settimeout(NEGOTIATE_S)
    client.sendall(nbd.SERVER_GREETING)
    then = Before.MORE
    while then is Before.MORE:
        client.settimeout(max(0.01, until_s - time.monotonic()))
        data = client.recv(4096)
        if not data:
            raise ConnectionAbortedError(0, "it left before TLS")
        answer, then = before.receive(data)
        client.sendall(answer)
    if then is Before.CLOSE:
        raise ConnectionAbortedError(0, "it left before TLS")
    assert before.flags is not None
    return _handshake(client, context, until_s), before.flags


def _handshake(client: socket.socket, context: ssl.SSLContext, until_s: float) -> ssl.SSLSocket:
    """By `until_s` in all, however slowly its bytes come."""
    session = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
    try:
        session.setblocking(False)
        while True:
            try:
                session.do_handshake()
                return session
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            poll = select.poll()
            poll.register(session, wanted)
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise TimeoutError(0, "no TLS in time")
    except BaseException:
        session.close()
        raise


def greet(upstream: socket.socket, flags: int) -> None:
    """Stand for the client in the greeting that it has had already. Raises OSError."""
    greeting = upstream.recv(len(nbd.GREETING) + SERVER_FLAGS_BYTES, socket.MSG_WAITALL)
    if not greeting.startswith(nbd.GREETING):
        raise ConnectionAbortedError(0, "hastd does not serve")
    upstream.sendall(nbd.CLIENT_FLAGS.pack(flags))


class _Way:
    """One direction, with what was received and not sent yet."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source, self._sink = source, sink
        self._view = memoryview(bytearray(ROOM_BYTES))
        self._start = self._end = 0
        self.ended = False
        self.needs_read = self.needs_write = False
        """What the session waits for, whichever way its bytes go."""

    @property
    def waiting(self) -> bool:
        return self._start < self._end

    def move(self) -> bool:
        """As far as it goes. False when nothing moved. Raises OSError."""
        moved = self._receive()
        return self._send() or moved

    def _receive(self) -> bool:
        moved = False
        while not self.ended and self._end < ROOM_BYTES:
            try:
                count = self._source.recv_into(self._view[self._end :])
            except (BlockingIOError, ssl.SSLWantReadError):
                return moved
            except ssl.SSLWantWriteError:
                self.needs_write = True
                return moved
            moved = True
            self.ended = not count
            self._end += count
        return moved

    def _send(self) -> bool:
        moved = False
        while self.waiting:
            try:
                self._start += self._sink.send(self._view[self._start : self._end])
                moved = True
            except (BlockingIOError, ssl.SSLWantWriteError):
                return moved
            except ssl.SSLWantReadError:
                self.needs_read = True
                return moved
        self._start = self._end = 0
        return moved


def carry(client: ssl.SSLSocket, upstream: socket.socket) -> None:
    """Until hastd ends, or the client and all that it was owed. Raises OSError."""
    client.setblocking(False)
    upstream.setblocking(False)
    up, down = _Way(client, upstream), _Way(upstream, client)
    told = False
    while not (down.ended and not down.waiting):
        up.needs_write = down.needs_read = False
        moved = up.move()
        moved = down.move() or moved
        if up.ended and not up.waiting and not told:
            upstream.shutdown(socket.SHUT_WR)
            told = True
        if not moved:
            _wait(client, upstream, up, down)


def _wait(client: ssl.SSLSocket, upstream: socket.socket, up: _Way, down: _Way) -> None:
    """Until one of them can be read or written that is to be; the other one's end is no news."""
    from_client = down.needs_read or not (up.ended or up.waiting)
    to_client = up.needs_write or down.waiting
    from_upstream = not (down.ended or down.waiting)
    poll = select.poll()
    for sock, reads, writes in ((client, from_client, to_client), (upstream, from_upstream, up.waiting)):
        if reads or writes:
            poll.register(sock, select.POLLIN * reads | select.POLLOUT * writes)
    poll.poll()
