"""What a worker does when its hastd died: it goes on, and waits on a socket of its own for the next hastd.

Whoever connects has to run as root or as the same user, which the kernel tells. It is sent one message, the offer, with
the descriptors that a supervisor owns; it says `adopt`, and the connection is the worker's channel to its supervisor
from then on. Anybody who closes instead changes nothing. The socket exists only while there is no hastd.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hast.daemon.logs import in_words
from hast.worker import messages
from hast.worker.reactor import EpollReactor

log = logging.getLogger("hast.worker")

STATE_VERSION = 1
"""Of what is handed over. A hastd that does not know it leaves the worker alone and does not start."""
_CREDENTIALS = struct.Struct("3i")

Offer = tuple[dict[str, Any], list[int]]


def user_of(sock: socket.socket) -> tuple[int, int]:
    """(process id, user id) of the other end of a Unix socket, as the kernel knows them."""
    pid, uid, _gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid), int(uid)


class Successor:
    """`make_offer` is called for each that asks; `adopted(socket, message)` once, and takes the socket."""

    def __init__(
        self,
        reactor: EpollReactor,
        path: Path,
        make_offer: Callable[[], Offer],
        adopted: Callable[[socket.socket, dict[str, Any]], None],
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._make_offer = make_offer
        self._adopted = adopted
        self._door: socket.socket | None = None
        self._asking: socket.socket | None = None

    def wait(self) -> None:
        """Open the socket. Raises OSError."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._unlink()
            old_mask = os.umask(0o177)
            try:
                door.bind(str(self._path))
            finally:
                os.umask(old_mask)
            door.listen(1)
            door.setblocking(False)
        except OSError:
            door.close()
            raise
        self._door = door
        self._reactor.add(door.fileno(), select.EPOLLIN, self._asked)

    def close(self) -> None:
        """Wait no longer."""
        self._drop()
        if self._door is not None:
            self._reactor.remove(self._door.fileno())
            self._door.close()
            self._door = None
            self._unlink()

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _asked(self, _mask: int) -> None:
        assert self._door is not None
        try:
            sock, _address = self._door.accept()
        except OSError:
            return
        pid, uid = user_of(sock)
        if uid not in (0, os.geteuid()):
            log.warning("Process %d of user %d wants to take this worker over; refused.", pid, uid)
            sock.close()
            return
        self._drop()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.MAX_MESSAGE_BYTES * 2)
        try:
            messages.send(sock, *self._make_offer())
        except (OSError, ValueError) as error:
            log.error("Unable to offer this worker to hastd: %s.", in_words(error))
            sock.close()
            return
        self._asking = sock
        self._reactor.add(sock.fileno(), select.EPOLLIN, self._answered)

    def _answered(self, _mask: int) -> None:
        assert self._asking is not None
        try:
            message, _descriptors = messages.receive(self._asking)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if message is None or message.get("do") != "adopt":
            self._drop()
            return
        sock, self._asking = self._asking, None
        self._reactor.remove(sock.fileno())
        self.close()
        self._adopted(sock, message)

    def _drop(self) -> None:
        if self._asking is not None:
            self._reactor.remove(self._asking.fileno())
            self._asking.close()
            self._asking = None
