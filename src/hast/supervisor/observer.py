"""The socket on which this node can be looked at and not be changed, for programs without rights (docs/control.md).

`observe.sock` in the run directory, open to root and to the group `hast` where there is one.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
from typing import Any

from hast.daemon.paths import observe_socket
from hast.daemon.sockets import SocketError, bind_unix
from hast.supervisor.commands import Commands
from hast.supervisor.control_server import ControlServer
from hast.supervisor.events import EventBus

log = logging.getLogger("hast.control")

GROUP = "hast"
QUESTIONS = frozenset({"status", "report", "version"})
"""And `events`, which the server answers itself."""


class Questions:
    """Of `commands` those that change nothing."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    @property
    def events(self) -> EventBus:
        return self._commands.events

    async def run(self, request: dict[str, Any]) -> dict[str, Any]:
        command = str(request["command"])
        if command not in QUESTIONS:
            return {"error": f"This socket answers questions only; {command[:64]} is for the control socket."}
        return await self._commands.run({**request, "fresh": False})


def open_observer(commands: Commands) -> ControlServer | None:
    """None, and a line in the log, where the socket cannot be: nothing that serves data depends on it."""
    path = str(observe_socket())
    try:
        sock = bind_unix(path, 0o600)
    except SocketError as error:
        log.warning("This node cannot be observed: %s", error)
        return None
    _open_to_group(path)
    return ControlServer(Questions(commands), sock, anybody=True)


def _open_to_group(path: str) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        os.chmod(path, 0o660)
    except KeyError:
        pass
    except OSError as error:
        log.warning("%s is open to its owner alone: %s.", path, error.strerror)


def unlink_observer() -> None:
    """The file of a socket that nobody serves any more."""
    with contextlib.suppress(OSError):
        os.unlink(observe_socket())
