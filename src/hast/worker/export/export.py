"""The NBD export: serves the device to several clients at once on listening sockets that the supervisor owns.

Accepts, limits and forgets connections; each conversation is a `Connection`. One export is one device; its sockets
are `paths.nbd_socket(NAME)` and, where configured, TCP. A client can cost at most what `ExportLimits` says.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from hast.worker.export.export_connection import Connection
from hast.worker.export.export_negotiate import ExportDescription
from hast.worker.export.limits import ExportLimits
from hast.worker.interfaces import Reactor, Submit

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
SO_SNDBUFFORCE = 32
TCP_DEAD_AFTER_MS = 60_000
ACCEPT_BATCH = 16

log = logging.getLogger(__name__)


class NbdExport:
    """Front end that serves NBD. `congested` and `submit` are the engine's."""

    def __init__(
        self,
        reactor: Reactor,
        submit: Submit,
        congested: Callable[[], bool],
        size_bytes: int,
        block_size_bytes: int,
        *,
        name: str,
        listeners: Sequence[socket.socket],
        limits: ExportLimits | None = None,
    ) -> None:
        """The listeners become this object's: a descriptor that was passed is `socket.socket(fileno=fd)`."""
        self.reactor = reactor
        self.congested = congested
        self.limits = limits or ExportLimits()
        self.description = ExportDescription(name, size_bytes, block_size_bytes)
        self.held_bytes = 0
        self.requests = 0
        """Received in all."""
        self._submit = submit
        self._listeners = list(listeners)
        self._connections: dict[Connection, None] = {}
        self._refused = 0
        self._serving = False

    def start(self) -> None:
        """Begin to accept. Raises OSError."""
        self._serving = True
        for listener in self._listeners:
            self._listen(listener)

    def add_listener(self, listener: socket.socket) -> None:
        """Serve another listening socket, such as a TCP one, while running."""
        self._listeners.append(listener)
        if self._serving:
            self._listen(listener)

    def resume(self) -> None:
        """Congestion has ended: read again."""
        for connection in list(self._connections):
            connection.go_on()

    def close(self) -> None:
        """Stop accepting and close every connection."""
        if self._serving:
            self._serving = False
            for listener in self._listeners:
                self.reactor.remove(listener.fileno())
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            connection.close()

    def status(self) -> dict[str, Any]:
        """Figures for the worker's status."""
        return {
            "clients": len(self._connections),
            "refused_clients": self._refused,
            "requests": self.requests,
            "in_flight": sum(connection.in_flight for connection in self._connections),
            "held_bytes": self.held_bytes,
        }

    def submit(self, batch: list[Any]) -> None:
        """A connection's batch, to the engine."""
        self.requests += len(batch)
        self._submit(batch)

    def budget_bytes(self, held_bytes: int, reserved_bytes: int) -> int:
        """How much more a client may have in flight that holds so much, of which `reserved_bytes` are what it wants."""
        limits = self.limits
        return reserved_bytes + min(limits.client_bytes - held_bytes, limits.export_bytes - self.held_bytes)

    def released(self) -> None:
        """Some memory is free again: clients that wait for it may go on."""
        if self.held_bytes < self.limits.export_bytes and len(self._connections) > 1:
            for connection in self._connections:
                connection.go_on()

    def forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.reactor.add(listener.fileno(), select.EPOLLIN, lambda _events: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("cannot accept an NBD client: %s", error.strerror)
                return
            if len(self._connections) >= self.limits.clients:
                self._refused += 1
                log.warning("NBD client refused: there are %d already", len(self._connections))
                sock.close()
                continue
            self._welcome(sock, address)

    def _welcome(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            peer = "on the Unix socket"
            for option in (socket.SO_SNDBUF, SO_SNDBUFFORCE):
                try:
                    sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
                except OSError:
                    pass
        else:
            peer = f"{address[0]} port {address[1]}"
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_DEAD_AFTER_MS)
        connection = Connection(self, sock, peer)
        if not connection.closed:
            self._connections[connection] = None
