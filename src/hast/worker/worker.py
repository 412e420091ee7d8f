"""The worker process of one resource: `python -m hast.worker.worker FD`, started by the supervisor as messages.py says.

Reads its start message, takes its title, and runs the primary or the secondary shell until it ends. Always ends with an
exit code and at most one line in the log, never with a traceback.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from hast.daemon import logs
from hast.worker import messages
from hast.worker.reactor import EpollReactor
from hast.worker.worker_base import EXIT_OK, EXIT_TEMPORARY, Worker

log = logging.getLogger("hast.worker")

START_DEADLINE_S = 30.0
STOP_ON_SIGNAL_S = 20.0
EXIT_USAGE = 64
EXIT_SOFTWARE = 70


def main(arguments: list[str]) -> int:
    """The process. Returns its exit code."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("This program is started by hastd; it is no use on its own.", file=sys.stderr)
        return EXIT_USAGE
    try:
        control = socket.socket(fileno=int(arguments[0]))
        control.settimeout(START_DEADLINE_S)
        start, descriptors = messages.receive(control)
    except (OSError, ValueError) as error:
        print(f"No start message from hastd: {error}.", file=sys.stderr)
        return EXIT_USAGE
    if start is None:
        return EXIT_OK
    try:
        return run(control, start, descriptors)
    except Exception as error:
        log.critical("Internal error: %s. The worker ends; it is started again where that helps.", describe(error))
        return EXIT_SOFTWARE
    finally:
        logs.flush()


def describe(error: BaseException) -> str:
    """An exception and where it came from, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames[-4:]))
    return f"{type(error).__name__}: {error} ({places})"


def run(control: socket.socket, start: dict[str, Any], descriptors: list[int]) -> int:
    """Hold the role until told to stop or unable to go on."""
    resource = messages.resource_from_json(start["resource"])
    role = str(start["role"])
    setproctitle(f"hastd: {resource.name} ({role})")
    logs.setup(
        foreground=bool(start.get("foreground")), debug=int(start.get("debug") or 0), resource=resource.name, role=role
    )
    reactor = EpollReactor()
    worker = _make_worker(role, reactor, control, start, descriptors)
    _handle_signals(reactor, lambda: worker.stop(STOP_ON_SIGNAL_S))
    worker.open()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if worker.exit_code is None:
        reactor.call_soon_threadsafe(lambda: None)  # a first round at once, for the effects that open() left
        reactor.run()
    worker.close()
    worker.say_left()
    return EXIT_TEMPORARY if worker.exit_code is None else worker.exit_code


def _make_worker(
    role: str, reactor: EpollReactor, control: socket.socket, start: dict[str, Any], descriptors: list[int]
) -> Worker[Any]:
    if role == "primary":
        from hast.worker.worker_primary import PrimaryWorker

        return PrimaryWorker(reactor, control, start, descriptors)
    if role == "secondary":
        from hast.worker.worker_secondary import SecondaryWorker

        return SecondaryWorker(reactor, control, start, descriptors)
    raise ValueError(f"unknown role {role!a}")


def _handle_signals(reactor: EpollReactor, terminated: Callable[[], None]) -> None:
    """SIGTERM stops in order. SIGINT and SIGHUP of a terminal are the supervisor's business.

    It is read from a socket like anything else: handlers in Python run only between two steps of the interpreter, and a
    worker that is compiled may take none for long.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    told, tell = socket.socketpair()
    for sock in (told, tell):
        sock.setblocking(False)
    signal.set_wakeup_fd(tell.detach())

    def readable(_mask: int) -> None:
        if signal.SIGTERM in told.recv(64):
            terminated()

    reactor.add(told.fileno(), select.EPOLLIN, readable)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
