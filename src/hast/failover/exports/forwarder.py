"""A small daemon that carries TCP connections to hastd's NBD socket of one resource: NBD over the network.

It only moves bytes (splice, never copied into Python); hastd speaks NBD. Clients are cut off when it ends, so a demoted
node keeps none. One thread per direction; at most `--clients` connections; silent peers are dropped by TCP keepalive.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from hast.daemon.daemonize import daemonize

PIPE_BYTES = 1024 * 1024
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
UNACKNOWLEDGED_MS = 30_000
IP_FREEBIND = 15
"""Linux: listen on an address that this host does not have yet. Python's socket module does not know it before 3.12."""
EXIT_CANNOT_LISTEN = 75
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


class Forwarder:
    """Accepts on every listener and joins each client to a new connection to `target`."""

    def __init__(self, target: str, max_clients: int) -> None:
        self._target = target
        self._slots = threading.BoundedSemaphore(max_clients)

    def serve(self, server: socket.socket) -> None:
        """Accept for ever. Ends when the listener is closed."""
        while True:
            try:
                client, address = server.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                _log.warning("%s turned away: too many clients", address)
                client.close()
                continue
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as upstream:
                _prepare(client)
                upstream.settimeout(5.0)
                upstream.connect(self._target)
                upstream.settimeout(None)
                back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
                back.start()
                pump(client, upstream)
                back.join()
        except OSError as error:
            _log.warning("client ends: %s", error)
        finally:
            self._slots.release()


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
    parser.add_argument("--record", required=True)
    options = parser.parse_args(argv)
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
        settings = {"target": options.target, "listen": options.listen, "clients": options.clients}
        os.pwrite(record, json.dumps({"pid": os.getpid(), **settings}).encode(), 0)

    daemonize(claim)
    forwarder = Forwarder(options.target, options.clients)
    threads = [threading.Thread(target=forwarder.serve, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
