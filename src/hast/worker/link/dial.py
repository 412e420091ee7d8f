"""Opening connections to a peer without ever blocking the reactor: names resolved in a thread, deadlines everywhere.

A remote address may resolve to several endpoints; they are tried in order within one deadline. Speaks no protocol.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from hast.config.address import Address, AddressError, AddressKind, Family, parse_address
from hast.worker.interfaces import Reactor, Timer

KEEPALIVE_PROBES = 3
_FAMILIES = {Family.ANY: socket.AF_UNSPEC, Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


class Endpoint(NamedTuple):
    """An address as the socket module takes it."""

    family: int
    address: Any


Dialed = Callable[["socket.socket | None", str], None]
"""Called once: with the connected non-blocking socket and "", or with None and the reason."""


def resolve(address: Address) -> list[Endpoint]:
    """All endpoints of an address, in the resolver's order. Blocks for names. Raises OSError."""
    if address.kind is AddressKind.UNIX:
        return [Endpoint(socket.AF_UNIX, address.path)]
    found = socket.getaddrinfo(address.host, address.port, _FAMILIES[address.family], socket.SOCK_STREAM)
    return [Endpoint(family, target) for family, _type, _protocol, _name, target in found]


def tune(sock: socket.socket, timeout_s: float) -> None:
    """Options of every replication connection: no delay, and a silently dead peer is noticed within `timeout_s`."""
    if sock.family == socket.AF_UNIX:
        return
    idle_s = max(1, int(timeout_s / 2))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // KEEPALIVE_PROBES))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))


class Dialer:
    """One attempt at one remote address. `dialed` is called from the reactor, never from the constructor.

    `timeout_s` is for the name to be resolved, and then again for all endpoints to be tried.
    """

    def __init__(self, reactor: Reactor, remote: str, source: str | None, timeout_s: float, dialed: Dialed) -> None:
        self._reactor = reactor
        self._remote = remote
        self._timeout_s = timeout_s
        self._dialed: Dialed | None = dialed
        self._deadline_s = reactor.now() + timeout_s
        self._endpoints: list[Endpoint] = []
        self._source: list[Endpoint] = []
        self._sock: socket.socket | None = None
        self._reason = "no address"
        self._timer: Timer = reactor.call_at(self._deadline_s, self._too_late)
        try:
            target = parse_address(remote)
            origin = parse_address(source, 0) if source else None
        except AddressError as error:
            reason = str(error)
            reactor.call_soon_threadsafe(lambda: self._finish(None, reason))
            return
        threading.Thread(target=self._resolve, args=(target, origin), name="resolve", daemon=True).start()

    def cancel(self) -> None:
        """Give up; `dialed` is not called any more."""
        self._dialed = None
        self._timer.cancel()
        self._drop_socket()

    def _resolve(self, target: Address, origin: Address | None) -> None:
        """In a thread of its own, left alone when it takes too long."""
        try:
            endpoints = resolve(target)
            source = resolve(origin) if origin is not None else []
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._reactor.call_soon_threadsafe(lambda: self._finish(None, f"cannot resolve the address: {reason}"))
            return
        self._reactor.call_soon_threadsafe(lambda: self._resolved(endpoints, source))

    def _resolved(self, endpoints: list[Endpoint], source: list[Endpoint]) -> None:
        self._endpoints, self._source = endpoints, source
        self._deadline_s = self._reactor.now() + self._timeout_s
        self._try_next()

    def _try_next(self) -> None:
        """Begin to connect to the next endpoint, or report that none is left."""
        while self._dialed is not None:
            if not self._endpoints:
                self._finish(None, self._reason)
                return
            endpoint = self._endpoints.pop(0)
            try:
                if self._connect(endpoint):
                    return
            except OSError as error:
                self._reason = error.strerror or str(error)
                self._drop_socket()

    def _connect(self, endpoint: Endpoint) -> bool:
        """True when the connection is made or under way. Raises OSError."""
        self._sock = sock = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        source = next((known for known in self._source if known.family == endpoint.family), None)
        if source is not None:
            sock.bind(source.address)
        elif self._source and endpoint.family != socket.AF_UNIX:
            raise OSError(errno.EAFNOSUPPORT, "the source address is of another family than the remote address")
        number = sock.connect_ex(endpoint.address)
        if number == 0:
            self._connected()
            return True
        if number != errno.EINPROGRESS:
            raise OSError(number, os.strerror(number))
        self._reactor.add(sock.fileno(), select.EPOLLOUT, self._writable)
        left_s = max(0.0, self._deadline_s - self._reactor.now())
        self._timer.cancel()
        self._timer = self._reactor.call_at(self._reactor.now() + left_s / (len(self._endpoints) + 1), self._too_late)
        return True

    def _writable(self, _mask: int) -> None:
        assert self._sock is not None
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == 0:
            self._connected()
            return
        self._reason = os.strerror(number)
        self._drop_socket()
        self._try_next()

    def _connected(self) -> None:
        sock = self._sock
        assert sock is not None
        if sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername():
            self._reason = os.strerror(errno.ECONNREFUSED)  # a simultaneous open with ourselves
            self._drop_socket()
            self._try_next()
            return
        self._reactor.remove(sock.fileno())
        self._sock = None
        try:
            tune(sock, self._timeout_s)
        except OSError as error:
            sock.close()
            self._reason = error.strerror or str(error)
            self._try_next()
            return
        self._finish(sock, "")

    def _too_late(self) -> None:
        if self._sock is not None and _is_ready(self._sock):
            self._writable(select.EPOLLOUT)  # the answer came in time, this process is late
            return
        self._reason = f"no answer within {self._timeout_s:g} s"
        self._drop_socket()
        if self._endpoints:
            self._try_next()
        else:
            self._finish(None, self._reason)

    def _finish(self, sock: socket.socket | None, reason: str) -> None:
        dialed, self._dialed = self._dialed, None
        self._timer.cancel()
        if dialed is not None:
            dialed(sock, reason)
        elif sock is not None:
            sock.close()

    def _drop_socket(self) -> None:
        if self._sock is not None:
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None


def _is_ready(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))
