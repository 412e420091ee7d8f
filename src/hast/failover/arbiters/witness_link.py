"""A node's way to its witness: one question, one answer, in plain text or with both sides known by their keys.

Secured, the node accepts the TLS session on the connection that it has opened, so that each side can hold the other to
a fingerprint (witness_listener.py says why), with the certificate of the witness that it has fetched before. There is
no way down from there: what cannot prove itself gets no question.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import weakref
from collections.abc import Sequence
from typing import Any

from hast.config.address import Address, Family
from hast.daemon.logs import in_words
from hast.daemon.tls import TlsError, client_context, keep_certificate, known_certificates, require, server_context
from hast.daemon.tls_stream import PlainStream, Stream, TlsStream, read_line
from hast.format.text import printable_json

SECURE = b"S"
"""First byte of a connection on which the other side then begins a TLS session, and both prove who they are."""
FETCH = b"F"
"""First byte of a connection on which this side then begins a TLS session, to see a certificate."""
MAX_LINE_BYTES = 16 * 1024
MAX_IDLE = 16
FRESH_S = 5.0
"""How long a session may have been idle to be used again; the witness ends it later."""
ADVICE = (
    "if it does not serve this node, its file of nodes needs the fingerprint that hastctl keygen --show prints here"
)
_FAMILIES = {Family.ANY: socket.AF_UNSPEC, Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


async def ask(address: Address, request: dict[str, Any]) -> dict[str, Any]:
    """In plain text, of whoever answers. Raises OSError, ValueError."""
    with await _connected(address) as sock:
        return await _converse(PlainStream(sock), request)


async def ask_known(address: Address, request: dict[str, Any], fingerprints: Sequence[str]) -> dict[str, Any]:
    """Of the witness with one of these fingerprints. Raises OSError, ValueError.

    A session that ended while nobody used it is found out by asking, and the question repeated in a new one.
    """
    idle = _idle_sessions(address, fingerprints)
    stream = idle.take()
    if stream is not None:
        with contextlib.suppress(OSError):
            return await _ask_in(stream, idle, request)
    stream = await _open(address, fingerprints)
    try:
        return await _ask_in(stream, idle, request)
    except OSError as error:
        raise TlsError(f"{in_words(error)}; {ADVICE}") from None


class _Idle:
    """Sessions with one witness that wait for their next question: a handshake costs as much as many of them."""

    def __init__(self) -> None:
        self._streams: list[tuple[float, TlsStream]] = []

    def take(self) -> TlsStream | None:
        """The one used last."""
        while self._streams:
            since_s, stream = self._streams.pop()
            if asyncio.get_running_loop().time() - since_s < FRESH_S:
                return stream
            stream.sock.close()
        return None

    def give(self, stream: TlsStream) -> None:
        self._streams.append((asyncio.get_running_loop().time(), stream))
        if len(self._streams) > MAX_IDLE:
            self._streams.pop(0)[1].sock.close()

    def drop(self) -> None:
        """What happened to one session has probably happened to all."""
        for _since_s, stream in self._streams:
            stream.sock.close()
        self._streams.clear()


_Sessions = dict[tuple[Address, tuple[str, ...]], _Idle]
_sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Sessions] = weakref.WeakKeyDictionary()


def _idle_sessions(address: Address, fingerprints: Sequence[str]) -> _Idle:
    """Shared by all resources: they ask one after another, mostly."""
    of_loop = _sessions.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault((address, tuple(fingerprints)), _Idle())


async def _ask_in(stream: TlsStream, idle: _Idle, request: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = await _converse(stream, request)
    except BaseException:
        stream.sock.close()
        idle.drop()
        raise
    idle.give(stream)
    return reply


async def _open(address: Address, fingerprints: Sequence[str]) -> TlsStream:
    """A session with the witness. Raises OSError."""
    known = known_certificates(fingerprints)
    if known:
        try:
            return await _accept(address, known, fingerprints)
        except TlsError:
            if len(known) == len(fingerprints):
                raise
    await _fetch(address, fingerprints)
    return await _accept(address, known_certificates(fingerprints), fingerprints)


async def _accept(address: Address, known: Sequence[str], fingerprints: Sequence[str]) -> TlsStream:
    sock = await _connected(address)
    try:
        await asyncio.get_running_loop().sock_sendall(sock, SECURE)
        stream = TlsStream(sock, server_context(known))
        await stream.handshake()
        require(stream.peer, fingerprints)
    except BaseException:
        sock.close()
        raise
    return stream


async def _fetch(address: Address, fingerprints: Sequence[str]) -> None:
    """Keep the certificate that the witness shows, if it is the right one. Raises OSError."""
    with await _connected(address) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, FETCH)
        stream = TlsStream(sock, client_context(), server=False)
        await stream.handshake()
        require(stream.peer, fingerprints)
        keep_certificate(stream.certificate)


async def _connected(address: Address) -> socket.socket:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    family = _FAMILIES[address.family]
    found = await loop.getaddrinfo(address.host, address.port, family=family, type=socket.SOCK_STREAM)
    failure = OSError(0, "no address")
    for number, kind, protocol, _name, where in found:
        sock = socket.socket(number, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


async def _converse(stream: Stream, request: dict[str, Any]) -> dict[str, Any]:
    await stream.send(json.dumps(request).encode() + b"\n")
    reply = printable_json(json.loads(await read_line(stream, MAX_LINE_BYTES)))
    if not isinstance(reply, dict):
        raise ValueError("the answer is not a JSON object")
    return reply
