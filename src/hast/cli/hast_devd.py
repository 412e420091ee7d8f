"""hast-devd: the command. Reads its arguments and rules, goes into the background, hands over to failover/devd."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial

from hast.cli.version import add_version
from hast.config.devd_model import DEFAULT_DEVD_CONF, DevdConfiguration
from hast.config.failover_model import DEFAULT_FAILOVER_CONF
from hast.config.model import ConfigError

DEADLINE_S = 600.0
MAX_DEADLINE_S = 86400.0
EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_NO_INPUT = 66
EXIT_SYSTEM = 71
DEFAULT_ACTIONS_PIDFILE = "/run/hast-action.pid"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        print(f"hast-devd: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0; 64 usage, 65 and 66 replay, 71 and 75 pidfile, 72 and 78 configuration."""
    from hast.cli import completion

    completion.answer("hast-devd", _parser)
    options = _parser().parse_args(argv)
    from hast.config.devdconf import load
    from hast.daemon.pidfile import PidfileError

    try:
        if options.actions or options.run_actions:
            return _serve(None, options)
        configuration = load(options.config)
        if options.test:
            print(f"{options.config}: {_found(len(configuration.rules))}")
            return 0
        if options.replay:
            return _replay(configuration, options.replay)
        return _serve(configuration, options)
    except (ConfigError, PidfileError) as error:
        print(f"hast-devd: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hast-devd", description="Run commands on events of carpd, hastd and the network.")
    add_version(parser)
    parser.add_argument("-c", "--config", default=DEFAULT_DEVD_CONF, help="rules (default: %(default)s)")
    parser.add_argument("-P", "--pidfile", help="pid file (default: as the configuration says)")
    parser.add_argument("-F", "--foreground", action="store_true", help="stay in the foreground, log to the terminal")
    parser.add_argument("-d", "--debug", action="count", default=0, help="log every event")
    parser.add_argument("-t", "--test", action="store_true", help="check the configuration and end")
    parser.add_argument(
        "--replay", metavar="FILE", help="print what the rules would do with recorded events ('-': stdin)"
    )
    parser.add_argument("--record", metavar="FILE", help="append every event to this file, for --replay")
    halves = parser.add_mutually_exclusive_group()
    halves.add_argument("--actions", metavar="SOCKET", help="have actions run by the service that listens there")
    halves.add_argument("--run-actions", metavar="SOCKET", help="be that service, and read no events")
    parser.add_argument("--carpd", metavar="SOCKET", help="control socket of carpd (default: carpd.sock in /run/hast)")
    parser.add_argument(
        "--hastd", metavar="SOCKET", default="/var/run/hastctl", help="control socket of hastd (default: %(default)s)"
    )
    parser.add_argument(
        "--failover",
        metavar="FILE",
        default=DEFAULT_FAILOVER_CONF,
        help="failover.conf of the node whose health is watched; empty: nobody watches (default: %(default)s)",
    )
    parser.add_argument(
        "--deadline", metavar="SECONDS", type=_seconds, default=DEADLINE_S, help="of one action (default: %(default)g)"
    )
    return parser


def _found(count: int) -> str:
    return f"good, {count} rule{'' if count == 1 else 's'}" if count else "no mistake, but no rule"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_DEADLINE_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {MAX_DEADLINE_S:g}")
    return value


def _replay(configuration: DevdConfiguration, path: str) -> int:
    from hast.failover.devd.replay import replay

    try:
        with sys.stdin if path == "-" else open(path, errors="replace") as file:
            good = True
            for fine, text in replay(configuration.rules, file):
                print(text, file=sys.stdout if fine else sys.stderr)
                good = good and fine
    except OSError as error:
        print(f"hast-devd: {path}: {error.strerror}", file=sys.stderr)
        return EXIT_NO_INPUT
    return 0 if good else EXIT_DATA


def _serve(configuration: DevdConfiguration | None, options: argparse.Namespace) -> int:
    """`configuration`: None where another process reads it."""
    from hast.config.devdconf import load
    from hast.daemon import logs, privileges
    from hast.daemon.daemonize import daemonize
    from hast.daemon.notify import Notifier
    from hast.daemon.paths import carpd_socket
    from hast.daemon.pidfile import Pidfile
    from hast.failover.devd import halves
    from hast.failover.devd.daemon import ActionsLost
    from hast.failover.devd.settings import Settings

    config = os.path.abspath(options.config)
    settings = Settings(
        load=partial(load, config),
        carpd=options.carpd or str(carpd_socket()),
        hastd=options.hastd.removeprefix("uds://").removeprefix("unix://"),
        deadline_s=options.deadline,
        failover=os.path.abspath(options.failover) if options.failover else None,
        notifier=Notifier(),
    )
    default = configuration.pidfile if configuration else DEFAULT_ACTIONS_PIDFILE
    pidfile = Pidfile(os.path.abspath(options.pidfile or default), "hast-devd")

    def set_up_logs() -> None:
        logs.setup(foreground=options.foreground, debug=options.debug, program="hast-devd")
        _log_to_file(os.environ.get("HAST_SYSLOG"))

    try:
        record = open(options.record, "a") if options.record else None  # noqa: SIM115
        if options.foreground:
            pidfile.write()
        else:
            daemonize(pidfile.write)
        if options.run_actions:
            set_up_logs()
            halves.actions(options.run_actions, settings, pidfile.close)
        elif configuration is None:
            set_up_logs()
            halves.remote(halves.connect(options.actions), settings, record)
        elif (user := halves.reader_identity()) is not None:
            sock = halves.fork_actions(settings, set_up_logs, pidfile.close)
            set_up_logs()
            privileges.become(user)
            halves.remote(sock, settings, record)
        else:
            set_up_logs()
            halves.together(configuration, settings, record)
    except ActionsLost as error:
        logging.getLogger("hast.devd").critical("%s", error)
        return error.exit_code
    except OSError as error:
        print(f"hast-devd: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_SYSTEM
    finally:
        pidfile.close()
        logs.flush()
    return 0


def _log_to_file(path: str | None) -> None:
    """Log lines of a host without syslog daemon go to the file that $HAST_SYSLOG names, in the form of syslog's."""
    if not path:
        return
    import socket

    from hast.daemon.logs import LineFormatter

    class Formatter(LineFormatter):
        def format(self, record: logging.LogRecord) -> str:
            from hast.failover.log import stamp

            host = socket.gethostname().split(".")[0]
            return f"{stamp(record.created)} {host} hast-devd: {super().format(record)}"

    try:
        handler = logging.FileHandler(path)
    except OSError as error:
        logging.getLogger("hast.devd").error("%s cannot be written: %s", path, error.strerror)
        return
    handler.setFormatter(Formatter(with_level=False))
    logging.getLogger().addHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
