"""hast-monitor(8): command line of the process that shows both nodes over HTTP; what it serves is watch/monitor/.

It stays in the foreground: the service manager has it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config.address import Address, AddressError, AddressKind, parse_address
from hast.daemon import logs
from hast.daemon.notify import Notifier

DEFAULT_PORT = 9457
DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_PORT}"
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
EX_CONFIG = 78

_log = logging.getLogger("hast.monitor")


class MonitorError(Exception):
    """It cannot serve. `str()` is one line."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-monitor", "Serves metrics of both HAST nodes to Prometheus.")
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more")
    parser.add_argument("-l", dest="listen", default=DEFAULT_LISTEN, help="address (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with a sysexits code."""
    completion.answer("hast-monitor", _parser)
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(_run(arguments))
    except AddressError as error:
        code, text = EX_CONFIG, str(error)
    except MonitorError as error:
        code, text = error.exit_code, str(error)
    print(f"hast-monitor: {text}", file=sys.stderr)
    sys.exit(code)


def _run(arguments: argparse.Namespace) -> int:
    address = parse_address(arguments.listen, DEFAULT_PORT)
    if address.kind is not AddressKind.TCP:
        raise AddressError(f"{arguments.listen} is no TCP address")
    logs.setup(foreground=True, debug=arguments.debug, program="hast-monitor")
    try:
        asyncio.run(_serve(address, Notifier()))
    finally:
        logs.flush()
    return 0


async def _serve(address: Address, notifier: Notifier) -> None:
    try:
        from hast.watch.monitor.server import listen, make_application
        from hast.watch.source import Source
    except ImportError as error:
        text = f"{error.name} is missing: pip install hast[monitor], or the Debian package hast-monitor"
        raise MonitorError(text, EX_UNAVAILABLE) from None
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    source = Source()
    try:
        runner, port = await listen(make_application(source), address.host, address.port)
    except OSError as error:
        raise MonitorError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}", EX_TEMPFAIL) from None
    beating = loop.create_task(notifier.beat())
    where = f"{address.host}, port {port}"
    _log.info("Serving on %s.", where)
    notifier.ready(f"Serving on {where}.")
    await stopping.wait()
    notifier.stopping()
    beating.cancel()
    await runner.cleanup()


if __name__ == "__main__":
    main()
