"""Entries with fields of their own for systemd's journal (systemd.journal-fields(7)), by its datagram socket.

The protocol is a list of NAME=value lines, so no library is needed for it. Does nothing where there is no journal, and
never waits: an entry that the journal cannot take now is the caller's to log otherwise.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
MAX_VALUE_BYTES = 8192
_LENGTH = struct.Struct("<Q")


def send(fields: Mapping[str, str], path: str = SOCKET) -> bool:
    """Whether the journal has taken the entry. Names are of A-Z, 0-9 and _, and begin with a letter."""
    data = b"".join(_field(name, value) for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(data, path)
    except OSError:
        return False
    return True


def _field(name: str, value: str) -> bytes:
    """A value with line ends in it is told with its length."""
    content = value.encode("utf-8", "backslashreplace")[:MAX_VALUE_BYTES]
    if b"\n" not in content:
        return name.encode() + b"=" + content + b"\n"
    return name.encode() + b"\n" + _LENGTH.pack(len(content)) + content + b"\n"
