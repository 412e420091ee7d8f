"""hast-monitor(8): command line of the process that shows both nodes over HTTP; what it serves is watch/monitor/.

It stays in the foreground: the service manager has it.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import ssl
import sys
from pathlib import Path

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config.address import Address, AddressError, AddressKind, parse_address
from hast.config.host import this_host
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
    parser = make_parser("hast-monitor", "Shows both HAST nodes: a page for browsers, metrics for Prometheus.")
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more")
    parser.add_argument("-l", dest="listen", default=DEFAULT_LISTEN, help="address (default: %(default)s)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="serve by TLS, with this certificate (PEM)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key, where that is another file")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="who looks has to know the token in it")
    parser.add_argument("--name", action="append", default=[], help="another name by which this host is called")
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
    tls = _tls(arguments)
    logs.setup(foreground=True, debug=arguments.debug, program="hast-monitor")
    try:
        asyncio.run(_serve(arguments, address, tls, Notifier()))
    finally:
        logs.flush()
    return 0


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """None without a certificate. Raises MonitorError."""
    if arguments.certificate is None:
        if arguments.key is not None:
            raise MonitorError("--key is of no use without --certificate", EX_CONFIG)
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(arguments.certificate, arguments.key)
    except (OSError, ssl.SSLError) as error:
        said = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise MonitorError(f"certificate {arguments.certificate}: {said}", EX_CONFIG) from None
    return context


async def _serve(
    arguments: argparse.Namespace, address: Address, tls: ssl.SSLContext | None, notifier: Notifier
) -> None:
    try:
        from hast.watch.monitor.server import listen, make_application
        from hast.watch.source import Source
        from hast.watch.web.guard import Guard, TokenError, read_token
    except ImportError as error:
        text = f"{error.name} is missing: pip install hast[monitor], or the Debian package hast-monitor"
        raise MonitorError(text, EX_UNAVAILABLE) from None
    try:
        token = read_token(arguments.token_file) if arguments.token_file is not None else ""
    except TokenError as error:
        raise MonitorError(str(error), EX_CONFIG) from None
    if token and tls is None and not _is_loopback(address.host):
        _log.warning("Without --certificate the token crosses the network readable by everybody.")
    host = this_host()
    guard = Guard((host.name, host.short_name, *arguments.name), token)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    source = Source()
    try:
        runner, port = await listen(make_application(source, guard), address.host, address.port, tls)
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
