"""Messages of a Unix socket that carry open files, which no program that is started meanwhile inherits."""

from __future__ import annotations

import array
import socket


def receive(sock: socket.socket, most_bytes: int, most: int) -> tuple[bytes, list[int]]:
    """One message and at most `most` descriptors, which are the caller's; nothing at the end. Raises OSError."""
    found = array.array("i")
    space = socket.CMSG_SPACE(most * found.itemsize)
    payload, ancillary, _flags, _address = sock.recvmsg(most_bytes, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return payload, list(found)
