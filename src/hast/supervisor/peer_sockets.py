"""Opens the sockets on which peers are awaited. Resolves `listen` names, so it may block: call it before the event
loop starts, or in a thread.
"""

from __future__ import annotations

import errno
import socket

from hast.config.address import AddressError, AddressKind, Family, parse_address
from hast.config.model import Configuration
from hast.daemon.sockets import SocketError

PEER_BACKLOG = 64
_FAMILIES = {Family.ANY: socket.AF_UNSPEC, Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}


def open_listener(address: str) -> list[socket.socket]:
    """Listening TCP sockets for one `listen` address, one per IP address it means. Raises SocketError."""
    try:
        parsed = parse_address(address)
    except AddressError as error:
        raise SocketError(f"Unable to listen on {address}: {error}.") from None
    if parsed.kind is not AddressKind.TCP:
        raise SocketError(f"Unable to listen on {address}: peers connect by TCP only.")
    opened: list[socket.socket] = []
    try:
        answers = socket.getaddrinfo(
            parsed.host, parsed.port, _FAMILIES[parsed.family], socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, where in dict.fromkeys((answer[0], answer[4]) for answer in answers):
            opened.append(_listen_tcp(family, where))
    except OSError as error:
        for sock in opened:
            sock.close()
        raise _listen_error(address, error) from error
    return opened


def _listen_tcp(family: int, where: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)  # type: ignore[arg-type]
        sock.listen(PEER_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_error(address: str, error: OSError) -> SocketError:
    return SocketError(f"Unable to listen on {address}: {error.strerror or error}.")


def open_listeners(addresses: tuple[str, ...]) -> dict[str, list[socket.socket]]:
    """All `listen` addresses. A default address is left out where the kernel lacks its family. Raises SocketError."""
    defaults = Configuration("").listen
    opened: dict[str, list[socket.socket]] = {}
    for address in addresses:
        try:
            opened[address] = open_listener(address)
        except SocketError as error:
            cause = error.__cause__
            if address in defaults and isinstance(cause, OSError) and cause.errno in _NO_FAMILY:
                continue
            close_all(opened)
            raise
    if not opened:
        raise SocketError("No address to listen on.", 75)
    return opened


def close_all(opened: dict[str, list[socket.socket]]) -> None:
    for group in opened.values():
        for sock in group:
            sock.close()
