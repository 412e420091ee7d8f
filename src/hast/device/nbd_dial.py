"""The client's side of the NBD handshake, done before a connection is given to the kernel. Sends no requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hast.daemon.logs import in_words
from hast.format import nbd

HANDSHAKE_S = 10.0
_REPLY = struct.Struct(">QIII")
_MAX_REPLY_BYTES = 64 * 1024


class DialError(Exception):
    """The export did not answer as expected; `str()` says how."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connection in the transmission phase, and what the server said about the export."""

    socket: socket.socket
    size_bytes: int
    flags: int


async def dial(path: str, name: str, timeout_s: float = HANDSHAKE_S) -> Dialled:
    """Connect to the Unix socket and ask for export `name`, with simple replies. Raises DialError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    with _closed_on_error(sock):
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, path)
                return await _handshake(sock, name.encode())
        except TimeoutError:
            raise DialError(f"no NBD handshake on {path} within {timeout_s:g} s") from None
        except (OSError, struct.error) as error:
            raise DialError(f"NBD handshake on {path} failed: {in_words(error)}") from None


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


async def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not more:
            raise DialError("the NBD export closed the connection")
        data += more
    return data


async def _handshake(sock: socket.socket, name: bytes) -> Dialled:
    loop = asyncio.get_running_loop()
    if (await _receive(sock, len(nbd.SERVER_GREETING)))[:16] != nbd.GREETING:
        raise DialError("the server does not speak NBD")
    flags = nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE | nbd.HANDSHAKE_FLAG_NO_ZEROES
    data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    option = nbd.OPTION.pack(nbd.OPTION_MAGIC, nbd.Option.GO, len(data)) + data
    await loop.sock_sendall(sock, nbd.CLIENT_FLAGS.pack(flags) + option)
    size_bytes = transmission_flags = -1
    while True:
        magic, _option, kind, length = _REPLY.unpack(await _receive(sock, _REPLY.size))
        if magic != nbd.OPTION_REPLY_MAGIC or length > _MAX_REPLY_BYTES:
            raise DialError("the server's answer is not NBD")
        body = await _receive(sock, length)
        if kind == nbd.OptionReply.INFO and struct.unpack_from(">H", body)[0] == nbd.Info.EXPORT:
            _info, size_bytes, transmission_flags = struct.unpack(">HQH", body)
        elif kind == nbd.OptionReply.ACK and size_bytes >= 0:
            return Dialled(sock, size_bytes, transmission_flags)
        elif kind != nbd.OptionReply.INFO:
            raise DialError(f"the server refuses export {name.decode()!r} (reply {kind:#x})")
