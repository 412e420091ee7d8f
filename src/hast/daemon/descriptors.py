"""Open files: messages of a Unix socket that carry them, which no program that is started meanwhile inherits, and the
number that this process may have."""

from __future__ import annotations

import array
import contextlib
import resource
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


def limit() -> int:
    """How many this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow(wanted: int | None = None) -> int:
    """Let this process have so many, or all that the system lets it have where that is less, or None is wanted. Returns
    how many it may have now: never fewer than before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = hard if wanted is None or 0 <= hard < wanted else wanted
    if more > soft >= 0:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    return limit()
