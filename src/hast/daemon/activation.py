"""The sockets that systemd opened before it started this process (sd_listen_fds(3)). Opens none itself."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def handed_over(environment: MutableMapping[str, str] | None = None) -> list[socket.socket]:
    """Takes the variables out of the environment: they are not for our children. Raises OSError for what is none."""
    variables = os.environ if environment is None else environment
    pid, count, _names = (variables.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        found.append(sock)
    return found
