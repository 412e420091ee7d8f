"""Opens the sockets hastd listens on: control (Unix) and peers (TCP). Resolves `listen` names, so it may block: call it
before the event loop starts, or in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from hast.config.address import AddressError, AddressKind, Family, parse_address
from hast.config.model import Configuration
from hast.node.paths import MAX_SOCKET_PATH_BYTES

PEER_BACKLOG = 64
UNIX_BACKLOG = 64
_FAMILIES = {Family.ANY: socket.AF_UNSPEC, Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}


class SocketError(Exception):
    """A socket cannot be opened; `str()` is one line, `exit_code` the sysexits code."""

    def __init__(self, message: str, exit_code: int = 71) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def bind_unix(path: str, mode: int, backlog: int = UNIX_BACKLOG) -> socket.socket:
    """A listening Unix socket in place of a dead one of the same path. Raises SocketError when a live one is there."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SocketError(f"Unable to listen on {path}: longer than {MAX_SOCKET_PATH_BYTES} bytes.")
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        old_mask = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(old_mask)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise SocketError(f"Unable to listen on {path}: {error.strerror}.") from None
    sock.setblocking(False)
    return sock


def _remove_dead_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise SocketError(f"Unable to listen on {path}: {error.strerror}.") from None
        else:
            raise SocketError(f"Unable to listen on {path}: another process serves it.")
    if not _is_socket(path):
        raise SocketError(f"Unable to listen on {path}: a file of that name exists and is no socket.")
    try:
        os.unlink(path)
    except OSError as error:
        raise SocketError(f"Unable to remove old socket {path}: {error.strerror}.") from None


def _is_socket(path: str) -> bool:
    import stat

    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def control_path(address: str) -> str:
    """File name of a `control` address. Raises SocketError for anything but a Unix socket."""
    try:
        parsed = parse_address(address)
    except AddressError as error:
        raise SocketError(f"Unable to setup control connection to {address}: {error}.") from None
    if parsed.kind is not AddressKind.UNIX:
        raise SocketError(f"Unable to setup control connection to {address}: only Unix sockets are supported.")
    return parsed.path


def open_control(address: str) -> socket.socket:
    """The control socket, mode 0600. Raises SocketError."""
    return bind_unix(control_path(address), 0o600)


def unlink_control(address: str) -> None:
    """Remove the file of the control socket."""
    with contextlib.suppress(OSError, SocketError):
        os.unlink(control_path(address))


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
