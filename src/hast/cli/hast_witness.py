"""hast-witness(8): command line of the witness; the server is failover/arbiters/witness_server.py."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config.address import AddressError, parse_address
from hast.daemon import logs
from hast.daemon.daemonize import daemonize
from hast.daemon.notify import Notifier
from hast.daemon.pidfile import Pidfile, PidfileError
from hast.failover.arbiters.witness import DEFAULT_WITNESS_PORT
from hast.failover.arbiters.witness_server import StateError, StateFile, Witness, WitnessServer

DEFAULT_STATE = "/var/lib/hast/witness.json"
DEFAULT_PIDFILE = "/var/run/hast-witness.pid"
EX_OSERR = 71
EX_TEMPFAIL = 75
EX_CONFIG = 78


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-witness", "Remembers which of two HAST nodes may go on alone.")
    parser.add_argument(
        "-F", dest="foreground", action="store_true", help="stay in the foreground, log to the terminal"
    )
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more")
    parser.add_argument(
        "-l", dest="listen", default="", help=f"address, default any address, port {DEFAULT_WITNESS_PORT}"
    )
    parser.add_argument("-f", dest="state", default=DEFAULT_STATE, help=f"state file, default {DEFAULT_STATE}")
    parser.add_argument("-P", dest="pidfile", default=DEFAULT_PIDFILE, help=f"default {DEFAULT_PIDFILE}")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with a sysexits code."""
    completion.answer("hast-witness", _parser)
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(_run(arguments))
    except AddressError as error:
        code, text = EX_CONFIG, str(error)
    except StateError as error:
        code, text = EX_CONFIG, str(error)
    except PidfileError as error:
        code, text = error.exit_code, str(error)
    except OSError as error:
        code, text = EX_TEMPFAIL, f"cannot listen on {arguments.listen or 'any address'}: {error.strerror}"
    print(f"hast-witness: {text}", file=sys.stderr)
    sys.exit(code)


def _run(arguments: argparse.Namespace) -> int:
    host, port = "", DEFAULT_WITNESS_PORT
    if arguments.listen:
        address = parse_address(arguments.listen, DEFAULT_WITNESS_PORT)
        host, port = address.host, address.port
    state = StateFile(Path(arguments.state).absolute())
    state.load(0.0)
    notifier = Notifier()
    pidfile = Pidfile(str(Path(arguments.pidfile).absolute()), "hast-witness")
    try:
        if arguments.foreground:
            pidfile.write()
        else:
            daemonize(pidfile.write)
        logs.setup(foreground=arguments.foreground, debug=arguments.debug, program="hast-witness")
        try:
            asyncio.run(_serve(state, host, port, notifier))
        finally:
            logs.flush()
    finally:
        pidfile.close()
    return 0


async def _serve(state: StateFile, host: str, port: int, notifier: Notifier) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await WitnessServer(Witness(state, loop.time())).start(host, port)
    beating = loop.create_task(notifier.beat())
    notifier.ready(f"Listening on {host or 'any address'}, port {port}.")
    await stopping.wait()
    notifier.stopping()
    beating.cancel()
    server.close()


if __name__ == "__main__":
    main()
