"""carpd(8): command line, configuration, pid file, background; the daemon itself is net/carpd.py."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from setproctitle import setproctitle

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config import carpconf
from hast.config.carp_model import DEFAULT_CARP_CONF, CarpConfiguration
from hast.config.host import this_host
from hast.config.model import ConfigError
from hast.daemon import logs, privileges
from hast.daemon.daemonize import daemonize
from hast.daemon.notify import Notifier
from hast.daemon.pidfile import Pidfile, PidfileError
from hast.daemon.private_file import complaint
from hast.daemon.privileges import Capability
from hast.daemon.sockets import SocketError, bind_unix
from hast.format.carp import PROTOCOL
from hast.net.carpd import PASSWORDS, Carpd, control_path, vhids
from hast.net.netlink import NetworkError

EX_OSERR = 71
EX_NOPERM = 77
DEFAULT_HASTD_CONTROL = "/var/run/hastctl"


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("carpd", "Virtual addresses that move between hosts (CARP version 2).")
    parser.add_argument(
        "-F", dest="foreground", action="store_true", help="stay in the foreground, log to standard error"
    )
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more; may be given twice")
    parser.add_argument("-t", dest="test", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "-c", dest="config", default=DEFAULT_CARP_CONF, help=f"configuration (default {DEFAULT_CARP_CONF})"
    )
    parser.add_argument("-P", dest="pidfile", help="pid file (default: as the configuration says)")
    parser.add_argument(
        "-S",
        dest="hastd",
        default=DEFAULT_HASTD_CONTROL,
        help=f"control socket of hastd (default {DEFAULT_HASTD_CONTROL})",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with a sysexits code."""
    completion.answer("carpd", _parser)
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(_run(arguments))
    except (ConfigError, PidfileError, SocketError) as error:
        print(f"carpd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"carpd: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
        sys.exit(EX_OSERR)
    except NetworkError as error:
        print(f"carpd: {error}", file=sys.stderr)
        sys.exit(EX_OSERR)


def _found(count: int) -> str:
    return f"good, {vhids(count)} on this host" if count else "no mistake, but no vhid is for this host"


def _run(arguments: argparse.Namespace) -> int:
    path = str(Path(arguments.config).absolute())

    def load() -> CarpConfiguration:
        return carpconf.load(path, this_host())

    notifier = Notifier()
    configuration = load()
    if arguments.test:
        if said := complaint(path, PASSWORDS):
            print(f"warning: {said}", file=sys.stderr)
        print(f"{path}: {_found(len(configuration.groups))}")
        return 0
    if not _may_open_raw_sockets():
        print("carpd: raw sockets are not permitted: run it as root", file=sys.stderr)
        return EX_NOPERM
    pidfile = Pidfile(arguments.pidfile or configuration.pidfile, "carpd")
    try:
        sock = bind_unix(control_path(configuration), 0o600)
        if arguments.foreground:
            pidfile.write()
        else:
            daemonize(pidfile.write)
        setproctitle("carpd")
        if os.geteuid() == 0:
            privileges.keep_only([Capability.NET_ADMIN, Capability.NET_RAW])
        logs.setup(foreground=arguments.foreground, debug=arguments.debug, program="carpd")
        try:
            asyncio.run(_serve(configuration, load, sock, arguments.hastd, notifier))
        finally:
            logs.flush()
    finally:
        pidfile.close()
    return 0


def _may_open_raw_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL).close()
    except PermissionError:
        return False
    return True


async def _serve(
    configuration: CarpConfiguration,
    load: Callable[[], CarpConfiguration],
    sock: socket.socket,
    hastd: str,
    notifier: Notifier,
) -> None:
    await Carpd(configuration, load, sock, hastd, notifier).run()


if __name__ == "__main__":
    main()
