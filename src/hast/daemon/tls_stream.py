"""A socket of the event loop as a conversation reads and writes it: plain, or one side of a TLS session.

Never reads a byte more than it must, because the socket is handed on to another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Protocol

from hast.daemon.tls import Channel, TlsError
from hast.daemon.waiting import readable
from hast.format.kernel_tls import MAX_RECORD_BYTES, RECORD_HEADER_BYTES


class Stream(Protocol):
    """`receive(most)` returns no more than `most` bytes, and none at the end. Both raise OSError."""

    async def receive(self, most: int) -> bytes: ...
    async def send(self, data: bytes) -> None: ...


class PlainStream:
    """The socket itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = ""

    async def receive(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, most)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def leave(self) -> None:
        """Nothing to be ended."""


class TlsStream:
    """`peer` is the fingerprint of the other side, once `handshake` is over."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server: bool = True) -> None:
        self.sock = sock
        self.peer = ""
        self._begins = not server
        self._channel = Channel(context, server=server)
        self._plain = b""

    @property
    def certificate(self) -> bytes:
        """What the other side shows, as DER; empty where it shows none."""
        return self._channel.certificate

    async def handshake(self) -> None:
        """Raises TlsError, OSError."""
        channel = self._channel
        if self._begins:
            await self._put(channel.handshake())
        while not channel.established:
            await self._next_record()
            try:
                answer = channel.handshake()
            except TlsError:
                with contextlib.suppress(OSError):
                    await self._put(channel.last_words())
                raise
            await self._put(answer)
        self.peer = channel.peer

    async def receive(self, most: int) -> bytes:
        while not self._plain and not self._channel.ended:
            self._plain = self._take()
            if not self._plain and not self._channel.ended:
                await self._next_record()
        piece, self._plain = self._plain[:most], self._plain[most:]
        return piece

    async def send(self, data: bytes) -> None:
        await self._put(self._channel.seal([data]))

    async def leave(self) -> None:
        """End the session in order: what comes next on the socket belongs to another. Raises TlsError, OSError."""
        await self._put(self._channel.end())
        while not self._channel.ended:
            if self._take():
                raise TlsError("it went on in a session that was over")
            if not self._channel.ended:
                await self._next_record()

    def _take(self) -> bytes:
        view = memoryview(bytearray(MAX_RECORD_BYTES))
        return bytes(view[: self._channel.open_into(view)])

    async def _put(self, data: bytes) -> None:
        if data:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _next_record(self) -> None:
        header = await self._exactly(RECORD_HEADER_BYTES)
        size = int.from_bytes(header[3:5], "big")
        if size > MAX_RECORD_BYTES:
            raise TlsError("it does not speak TLS")
        self._channel.receive(header + await self._exactly(size))

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        found = bytearray()
        while len(found) < count:
            piece = await loop.sock_recv(self.sock, count - len(found))
            if not piece:
                raise TlsError("it closed the connection in the middle of a TLS session")
            found += piece
        return bytes(found)


async def read_line(stream: Stream, most: int) -> bytes:
    """Up to the first line end, or `most` bytes and some more; what comes after is nobody's. Raises OSError."""
    found = b""
    while b"\n" not in found and len(found) <= most:
        piece = await stream.receive(most)
        if not piece:
            break
        found += piece
    line, end, _rest = found.partition(b"\n")
    return line + end


async def first_byte(sock: socket.socket) -> int:
    """What the other side begins with, left where it is; -1 at the end. Raises OSError."""
    while True:
        try:
            found = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await readable(sock)
            continue
        return found[0] if found else -1
