"""Unix sockets on which a daemon is spoken to: opened in place of a dead one, never in place of a live one."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from hast.config.address import AddressError, AddressKind, parse_address
from hast.daemon.paths import MAX_SOCKET_PATH_BYTES

UNIX_BACKLOG = 64


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
