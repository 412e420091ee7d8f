"""Lets nodes reach the witness: a question, an answer, and a deadline.

The first byte says what is spoken:

- `S`: TLS, and both sides prove who they are; then any number of questions. TLS can tell a peer by its fingerprint
  alone only where that peer is the server, so the witness, which learns of new nodes from its file, is the client of
  the session, and the node, which has fetched the certificate of its one witness, is the server. A stranger is neither
  read nor answered.
- `F`: the witness shows its certificate, in a session that says nothing else.
- anything else: one question, a line of JSON, believed as it stands. Only where there is no file of nodes.

Connections are bounded, by origin and in all: the oldest gives way. Nodes that have proven themselves are counted by
pair and give way to no stranger.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from hast.config.witness_nodes import Member, Nodes
from hast.daemon.accepting import connections
from hast.daemon.logs import in_words
from hast.daemon.node_key import CERTIFICATE, KEY
from hast.daemon.paths import state_directory
from hast.daemon.throttle import Throttle
from hast.daemon.tls import TlsError, client_context, showing_context
from hast.daemon.tls_stream import PlainStream, Stream, TlsStream, first_byte, read_line
from hast.failover.arbiters.witness_link import FETCH, SECURE
from hast.failover.arbiters.witness_server import Witness

MAX_REQUEST_BYTES = 4096
REQUEST_DEADLINE_S = 5.0
IDLE_S = 10.0
"""Between two questions of a node."""
MAX_CONNECTIONS_PER_ORIGIN = 256
MAX_STRANGERS = 1024
"""Connections that have proven nothing, in all."""
BACKLOG = 1024
LOG_INTERVAL_S = 5.0
"""Between two lines of one cause."""
_IPV6_NETWORK_BITS = 64

_log = logging.getLogger("hast.witness")


class WitnessServer:
    """Serves listening TCP sockets. `nodes` may be replaced at any time; None: whoever comes is believed. `keys` is the
    directory of the witness's own key."""

    def __init__(self, witness: Witness, nodes: Nodes | None = None, keys: Path | None = None) -> None:
        self.nodes = nodes
        self.sockets: list[socket.socket] = []
        self._witness = witness
        self._strangers: dict[asyncio.Task[None], str] = {}
        self._members: dict[asyncio.Task[None], str] = {}
        self._acceptors: list[asyncio.Task[None]] = []
        self._asking, self._showing = OwnContext(client_context, keys), OwnContext(showing_context, keys)
        self._told = Throttle(LOG_INTERVAL_S, asyncio.get_running_loop().time)

    async def start(self, host: str, port: int) -> WitnessServer:
        """Raises OSError."""
        self.sockets = await _listening(host, port)
        self._acceptors = [asyncio.create_task(self._accept(sock)) for sock in self.sockets]
        return self

    def close(self) -> None:
        for task in (*self._acceptors, *self._strangers, *self._members):
            task.cancel()
        for sock in self.sockets:
            sock.close()

    async def _accept(self, listening: socket.socket) -> None:
        async for sock, address in connections(listening, partial(self._warn, "accept")):
            self._make_room(_network(address))
            task = asyncio.create_task(self._serve(sock, address))
            self._strangers[task] = _network(address)
            task.add_done_callback(partial(self._served, sock))

    def _served(self, sock: socket.socket, done: asyncio.Task[None]) -> None:
        """A victim may have been cancelled before its first step."""
        self._strangers.pop(done, None)
        self._members.pop(done, None)
        sock.close()

    def _make_room(self, network: str) -> None:
        """For a stranger: at the cost of its own network, or of the one that has most."""
        _dismiss_oldest(self._strangers, network, MAX_CONNECTIONS_PER_ORIGIN)
        if len(self._strangers) >= MAX_STRANGERS:
            [(greatest, count)] = Counter(self._strangers.values()).most_common(1)
            _dismiss_oldest(self._strangers, greatest, count)

    def _proven(self, member: Member) -> None:
        """The task that runs serves a node of this pair."""
        task = asyncio.current_task()
        assert task is not None
        if self._members.pop(task, None) is None:
            _dismiss_oldest(self._members, member.pair.name, MAX_CONNECTIONS_PER_ORIGIN)
        self._strangers.pop(task, None)
        self._members[task] = member.pair.name

    async def _serve(self, sock: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S) as deadline:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._converse(sock, address, deadline)
        except TimeoutError:
            _log.debug("Connection from %s ended: no question came in time.", address)
        except OSError as error:
            _log.debug("Connection from %s dropped: %s.", address, in_words(error))
        except Exception:
            _log.exception("Connection from %s dropped", address)

    async def _converse(self, sock: socket.socket, address: str, deadline: asyncio.Timeout) -> None:
        first = await first_byte(sock)
        if first == SECURE[0]:
            sock.recv(1)
            await self._converse_securely(sock, address, deadline)
        elif first == FETCH[0]:
            sock.recv(1)
            if context := self._own(self._showing):
                await TlsStream(sock, context).handshake()
        elif self.nodes is None:
            stream = PlainStream(sock)
            if line := await read_line(stream, MAX_REQUEST_BYTES):
                await self._answer(stream, line, None)
        elif first != -1:
            self._warn(f"plain {_network(address)}", f"{address} asked without a key and was refused: {ADVICE_PLAIN}.")

    async def _converse_securely(self, sock: socket.socket, address: str, deadline: asyncio.Timeout) -> None:
        if self.nodes is None:
            self._warn(f"no file {_network(address)}", f"{address} wants to prove who it is: {ADVICE_NO_FILE}.")
            return
        if not (context := self._own(self._asking)):
            return
        stream = TlsStream(sock, context, server=False)
        await stream.handshake()
        line: bytes = b""
        while (member := self.nodes.get(stream.peer)) is not None:
            self._proven(member)
            if line:
                await self._answer(stream, line, member)
                deadline.reschedule(asyncio.get_running_loop().time() + IDLE_S)
            line = await read_line(stream, MAX_REQUEST_BYTES)
            if not line:
                return
        text = f"{address} was refused: no pair has the fingerprint {stream.peer}"
        self._warn(f"stranger {_network(address)}", f"{text} (file of nodes).")

    def _own(self, of: OwnContext) -> ssl.SSLContext | None:
        """None, and a word in the log, where the witness cannot show its key."""
        try:
            return of.get()
        except TlsError as error:
            self._warn("own key", f"The key of this witness cannot be used: {error.strerror}.")
            return None

    async def _answer(self, stream: Stream, line: bytes, member: Member | None) -> None:
        await stream.send(json.dumps(await self._reply(line, member)).encode() + b"\n")
        if len(line) > MAX_REQUEST_BYTES:
            raise OSError(0, "its request was too long")

    async def _reply(self, line: bytes, member: Member | None) -> dict[str, Any]:
        if len(line) > MAX_REQUEST_BYTES:
            return {"error": f"the request is longer than {MAX_REQUEST_BYTES} bytes"}
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        return await self._witness.answer(request, asyncio.get_running_loop().time(), member)

    def _warn(self, cause: str, text: str) -> None:
        """Log it, but not each of many."""
        count = self._told.count(cause)
        if count:
            _log.warning("%s%s", text, f" ({count} such connections)" if count > 1 else "")


class OwnContext:
    """A context with the witness's own key, made again when that was changed: making one costs as much as a session."""

    def __init__(self, make: Callable[[Path | None], ssl.SSLContext], keys: Path | None) -> None:
        self._make = make
        self._keys = keys
        self._made: ssl.SSLContext | None = None
        self._of: tuple[int, ...] = ()

    def get(self) -> ssl.SSLContext:
        """Raises TlsError."""
        files = ((self._keys or state_directory()) / name for name in (KEY, CERTIFICATE))
        try:
            found = tuple(each for file in files for each in (file.stat().st_ino, file.stat().st_mtime_ns))
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}") from None
        if self._made is None or found != self._of:
            self._made, self._of = self._make(self._keys), found
        return self._made


ADVICE_PLAIN = "its hast.conf needs the fingerprint of this witness (hast-witness --show-key)"
ADVICE_NO_FILE = "this witness has no file of nodes, see hast-witness(8)"


def _dismiss_oldest(tasks: dict[asyncio.Task[None], str], origin: str, limit: int) -> None:
    """Unless this origin has fewer than `limit`. It is closed before the next connection is accepted."""
    same = [task for task, where in tasks.items() if where == origin]
    if len(same) >= limit:
        tasks.pop(same[0])
        same[0].cancel()


def _network(address: str) -> str:
    """Whom a limit is for: an IPv4 address, or the IPv6 network of which one host may have every address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))


async def _listening(host: str, port: int) -> list[socket.socket]:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, _type, _protocol, _name, where in dict.fromkeys(found):
            opened += _bound(family, where, needed=len(found) == 1)
        if not opened:
            raise OSError(0, "no address can be used")
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def _bound(family: int, where: Any, *, needed: bool) -> Iterable[socket.socket]:
    """None on a host without this family of addresses, where there is another."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if needed:
            raise
        return []
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return [sock]
