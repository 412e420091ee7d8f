"""Which processes hast-devd is made of: one that reads events as a user without rights and one that runs actions.

Where systemd starts them they are two services with a socket between (`remote`, `actions`). Without it a hast-devd that
root starts makes the second by itself (`fork_actions`), where there is a user for the first; else it is one process
(`together`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from setproctitle import setproctitle

from hast.config.devd_model import DevdConfiguration
from hast.daemon import elsewhere, logs, privileges
from hast.failover.devd import action_server
from hast.failover.devd.actions import LocalActions
from hast.failover.devd.daemon import ActionsLost, serve
from hast.failover.devd.remote_actions import RemoteActions
from hast.failover.devd.settings import Settings

USER_VARIABLE = "HAST_DEVD_USER"
USER = "hast-devd"
TITLE = "hast-devd: actions"
CONNECT_S = 5.0
PROGRAMS = "programs.sock"
"""Where hastd has hooks run: beside the other socket."""


def reader_identity() -> privileges.Identity | None:
    """Of the half that reads events; None where there is no such user, or this process is not root."""
    return privileges.identity(os.environ.get(USER_VARIABLE, USER))


def together(configuration: DevdConfiguration, settings: Settings, record: TextIO | None) -> None:
    """Both halves in this process. Returns after the end in order."""

    async def run() -> None:
        await serve(configuration, LocalActions(settings), settings, asyncio.Event(), record)

    asyncio.run(run())


def fork_actions(settings: Settings, set_up_logs: Callable[[], None], over: Callable[[], None]) -> socket.socket:
    """Start the half that runs actions; `over` is called at its end, as root. Returns the socket to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    setproctitle(TITLE)
    set_up_logs()
    code = 0
    try:
        asyncio.run(_until_left(theirs, settings, over))
    except Exception as error:
        code = 70
        logging.getLogger("hast.devd").critical("%s failed: %s: %s", TITLE, type(error).__name__, error)
    logs.flush()
    os._exit(code)


async def _until_left(sock: socket.socket, settings: Settings, over: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)  # it ends with the other half
    server = action_server.ActionServer(sock, settings)
    await server.run()
    over()
    await server.drain(settings.deadline_s)


def remote(sock: socket.socket, settings: Settings, record: TextIO | None) -> None:
    """The half that reads events, in this process. Raises ActionsLost, ConfigError."""

    async def run() -> None:
        actions = RemoteActions(sock)
        try:
            configuration = await actions.configuration()
        except (OSError, TimeoutError):
            raise ActionsLost("who runs the actions tells no rules") from None
        await serve(configuration, actions, settings, actions.lost, record)

    asyncio.run(run())


def connect(path: str) -> socket.socket:
    """To the service that runs actions. Raises ActionsLost."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(CONNECT_S)
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise ActionsLost(f"{path}: {error.strerror or 'no answer'}; is hast-action.service running?") from None
    return sock


def actions(path: str, settings: Settings, over: Callable[[], None]) -> None:
    """Run actions for those that come to this socket as the user of the other half, or root, until SIGTERM; beside it
    programs of hastd. `over` is called at the end. Raises OSError."""
    user = reader_identity() or privileges.Identity(os.geteuid(), os.getegid())
    Path(path).parent.mkdir(mode=0o755, exist_ok=True)
    with _listen(path, user) as listening, elsewhere.listen(str(Path(path).with_name(PROGRAMS))) as programs:
        asyncio.run(_serve_actions(listening, programs, user, settings, over))


async def _serve_actions(
    listening: socket.socket,
    programs: socket.socket,
    user: privileges.Identity,
    settings: Settings,
    over: Callable[[], None],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    beating = asyncio.create_task(settings.notifier.beat())
    running = asyncio.create_task(elsewhere.serve(programs))
    settings.notifier.ready("Running actions, and hooks of hastd.")
    await action_server.serve_many(listening, user.uid, settings, stop)
    for sock in (listening, programs):
        os.unlink(sock.getsockname())
    over()
    logs.flush()
    del beating, running
    os._exit(0)  # an event loop that is closed kills the processes it started


def _listen(path: str, user: privileges.Identity) -> socket.socket:
    """Raises OSError."""
    listening = elsewhere.listen(path)
    os.chown(path, user.uid, user.gid)
    return listening
