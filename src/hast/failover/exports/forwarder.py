"""A small daemon that carries TCP connections to hastd's NBD socket of one resource: NBD over the network.

It only moves bytes (splice, never copied into Python); hastd speaks NBD. In TLS it negotiates first and then decrypts.
Clients are cut off when it ends, so a demoted node keeps none. Who is not on the list is closed unheard; at most
`--clients` connections, a thread or two for each; silent peers are dropped by TCP keepalive.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from hast.config.failover_model import EVERYBODY, NbdTls
from hast.daemon.daemonize import daemonize
from hast.daemon.throttle import Throttle
from hast.failover.exports.nbd_tls import TlsSetupError, server_context
from hast.failover.exports.tls_join import carry, greet, negotiate
from hast.format.nbd import NbdError
from hast.format.text import printable

PIPE_BYTES = 1024 * 1024
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
UNACKNOWLEDGED_MS = 30_000
IP_FREEBIND = 15
"""Linux: listen on an address that this host does not have yet. Python's socket module does not know it before 3.12."""
EXIT_CANNOT_LISTEN = 75
CONNECT_S = 5.0
PAUSE_S = 0.2
LOG_INTERVAL_S = 5.0
_log = logging.getLogger("hast.forwarder")


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise ValueError(f"'{text}' is no address; expected HOST:PORT or [HOST]:PORT")
    return host.strip("[]"), int(port)


def listen(text: str) -> socket.socket:
    """A listening socket. Raises OSError, ValueError."""
    host, port = parse_address(text)
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    server = socket.socket(family, kind, protocol)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    try:
        server.bind(address)
        server.listen(16)
    except OSError:
        server.close()
        raise
    return server


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Who may come in. `tls`: None for a client in plain text."""

    allow: tuple[str, ...]
    tls: NbdTls | None = None

    def knows(self, address: str) -> bool:
        """Whether the list of clients has it."""
        where = ip_address(address.partition("%")[0])
        return any(each == EVERYBODY or where in ip_network(each) for each in self.allow)


class Forwarder:
    """Accepts on every listener and joins each client to a new connection to `target`."""

    def __init__(self, target: str, max_clients: int, door: Doorkeeper) -> None:
        self._target = target
        self._slots = threading.BoundedSemaphore(max_clients)
        self._door = door
        self._told = Throttle(LOG_INTERVAL_S, time.monotonic)

    def serve(self, server: socket.socket) -> None:
        """Accept for ever. Ends when the listener is closed."""
        while True:
            try:
                client, address = server.accept()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    time.sleep(PAUSE_S)
                    continue
                return
            where = str(address[0])
            if not self._door.knows(where):
                self._warn(f"{where} turned away: not in the list of clients")
                client.close()
            elif not self._slots.acquire(blocking=False):
                self._warn(f"{where} turned away: too many clients")
                client.close()
            else:
                threading.Thread(target=self._join, args=(client, where), daemon=True).start()

    def _warn(self, text: str) -> None:
        if self._told.count(text):
            _log.warning("%s", text)

    def _join(self, client: socket.socket, where: str) -> None:
        try:
            with client:
                _prepare(client)
                if self._door.tls is None:
                    self._join_plain(client)
                else:
                    self._join_in_tls(client, self._door.tls)
        except (OSError, NbdError, TlsSetupError) as error:
            self._warn(f"client {where} ends: {printable(str(error))}")
        finally:
            self._slots.release()

    def _join_plain(self, client: socket.socket) -> None:
        with self._upstream() as upstream:
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join()

    def _join_in_tls(self, client: socket.socket, tls: NbdTls) -> None:
        """The files are read for each client: renewed certificates count at once."""
        session, flags = negotiate(client, server_context(tls))
        with session, self._upstream() as upstream:
            greet(upstream, flags)
            carry(session, upstream)

    def _upstream(self) -> socket.socket:
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            upstream.settimeout(CONNECT_S)
            upstream.connect(self._target)
            upstream.settimeout(None)
        except OSError:
            upstream.close()
            raise
        return upstream


def _prepare(client: socket.socket) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Move bytes until `source` ends, then end `sink`'s direction. An error ends both."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        while moved := os.splice(source.fileno(), writer, PIPE_BYTES):
            while moved:
                moved -= os.splice(reader, sink.fileno(), moved)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
    finally:
        os.close(reader)
        os.close(writer)


def main(argv: Sequence[str] | None = None) -> int:
    """Bind, go into the background, write the record file (locked for as long as this lives), serve."""
    parser = argparse.ArgumentParser(description="NBD over TCP for one HAST resource")
    parser.add_argument("--target", required=True)
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--allow", action="append", default=[], help="address or network of clients, or ALL")
    parser.add_argument("--tls-certificates", default="")
    parser.add_argument("--tls-psk", default="")
    parser.add_argument("--any-peer", action="store_true", help="clients need no certificate")
    parser.add_argument("--record", required=True)
    options = parser.parse_args(argv)
    door = Doorkeeper(tuple(options.allow), _tls(options))
    try:
        if door.tls is not None:
            server_context(door.tls)
    except TlsSetupError as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_LISTEN
    try:
        record = os.open(options.record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        print(f"{options.record}: {error.strerror}; another forwarder may be running", file=sys.stderr)
        return EXIT_CANNOT_LISTEN
    servers = []
    for address in options.listen:
        try:
            servers.append(listen(address))
        except (OSError, ValueError) as error:
            print(f"cannot listen on {address}: {error}", file=sys.stderr)
            return EXIT_CANNOT_LISTEN
    os.ftruncate(record, 0)

    def claim() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        settings = {name: value for name, value in vars(options).items() if name != "record"}
        os.pwrite(record, json.dumps({"pid": os.getpid(), "settings": settings}).encode(), 0)

    daemonize(claim)
    forwarder = Forwarder(options.target, options.clients, door)
    threads = [threading.Thread(target=forwarder.serve, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def _tls(options: argparse.Namespace) -> NbdTls | None:
    if not (options.tls_certificates or options.tls_psk):
        return None
    return NbdTls(options.tls_certificates, options.tls_psk, not options.any_peer)


if __name__ == "__main__":
    sys.exit(main())
