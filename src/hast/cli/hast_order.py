"""hast-order(8): command line of the service that carries out what is ordered from the page; the service is order/.

systemd starts it when hast-monitor asks (hast-order.socket). It stays in the foreground, and ends when idle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hast.cli import completion, programs
from hast.cli.arguments import EX_USAGE, make_parser
from hast.cli.session import Failure
from hast.daemon import activation, elsewhere, logs
from hast.daemon.notify import Notifier
from hast.daemon.sockets import SocketError, bind_unix
from hast.order.secret import DEFAULT_TOKEN_FILE, make

if TYPE_CHECKING:
    from hast.order.server import Settings

EX_CANTCREAT = 73
IDLE_S = 300.0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-order", "Carries out what is ordered from the page of hast-monitor, with the token.")
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more")
    parser.add_argument(
        "--token-file", type=Path, default=DEFAULT_TOKEN_FILE, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--make-token", action="store_true", help="make a new token, print it, and end")
    parser.add_argument("-c", dest="config", metavar="FILE", help="hast.conf of this hastd, if not the usual one")
    parser.add_argument("--listen", metavar="PATH", help="open this socket, where systemd hands none over")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0; 64 usage; 71 the socket; 73 the token file cannot be made."""
    completion.answer("hast-order", _parser)
    arguments = _parser().parse_args(argv)
    if arguments.make_token:
        return _make_token(arguments.token_file)
    try:
        more = programs.of_this_hastd(arguments.config)
        listening, idle_s = _listening(arguments.listen)
    except (Failure, SocketError, OSError) as error:
        print(f"hast-order: {logs.in_words(error)}", file=sys.stderr)
        return getattr(error, "exit_code", 71)
    if listening is None:
        print("hast-order: no socket: systemctl enable --now hast-order.socket, or --listen", file=sys.stderr)
        return EX_USAGE
    from hast.order.server import Settings
    from hast.watch.source import Source

    def command(words: Sequence[str]) -> list[str]:
        """`failover` takes down what needs every right: it runs where hastd has it run. The others only ask daemons."""
        argv = programs.command(words, more)
        return elsewhere.through(argv) if words[0] == "failover" else argv

    logs.setup(foreground=True, debug=arguments.debug, program="hast-order")
    try:
        asyncio.run(_serve(listening, Settings(arguments.token_file, Source(keep_s=0.0), command), idle_s))
    finally:
        listening.close()
        if arguments.listen:
            Path(arguments.listen).unlink(missing_ok=True)
        logs.flush()
    return 0


def _make_token(path: Path) -> int:
    try:
        token = make(path)
    except OSError as error:
        print(f"hast-order: {path}: {error.strerror}", file=sys.stderr)
        return EX_CANTCREAT
    print(token)
    print(f"Keep it now: {path} holds only its hash. A former token is no longer good.", file=sys.stderr)
    return 0


def _listening(path: str | None) -> tuple[socket.socket | None, float | None]:
    """Also after which idle time to end: only where systemd keeps the socket open. Raises SocketError, OSError."""
    if path is not None:
        return bind_unix(os.path.abspath(path), 0o600), None
    found = activation.handed_over()
    return (found[0], IDLE_S) if len(found) == 1 else (None, None)


async def _serve(listening: socket.socket, settings: Settings, idle_s: float | None) -> None:
    from hast.order.server import OrderServer

    notifier = Notifier()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    beating = loop.create_task(notifier.beat())
    notifier.ready("Waiting for an order.")
    await OrderServer(settings).serve(listening, stop, idle_s)
    notifier.stopping()
    beating.cancel()


if __name__ == "__main__":
    sys.exit(main())
