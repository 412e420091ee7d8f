"""hast-notify(8): command line of the notifier; the daemon is watch/notify/daemon.py."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config.model import ConfigError
from hast.config.notify_model import DEFAULT_NOTIFY_CONF, NotifyConfiguration

DEFAULT_STATE = "/var/lib/hast-notify/state.json"
DEFAULT_PIDFILE = "/var/run/hast-notify.pid"
EX_UNAVAILABLE = 69


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-notify", "Tells people and programs of what matters.")
    parser.add_argument("-c", "--config", default=DEFAULT_NOTIFY_CONF, help="who is told (default: %(default)s)")
    parser.add_argument("-F", "--foreground", action="store_true", help="stay in the foreground, log to the terminal")
    parser.add_argument("-d", "--debug", action="count", default=0, help="log more")
    parser.add_argument("-P", "--pidfile", default=DEFAULT_PIDFILE, help="default: %(default)s")
    parser.add_argument("-t", "--test", action="store_true", help="check the configuration and end")
    parser.add_argument("--try", dest="attempt", action="store_true", help="send a message to every receiver and end")
    parser.add_argument("--hastd", metavar="SOCKET", help="of hastd (default: observe.sock in /run/hast)")
    parser.add_argument("--state", metavar="FILE", default=DEFAULT_STATE, help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0; 64 usage, 69 a receiver was not reached, 71 and 75 pidfile, 72 and 78
    configuration."""
    completion.answer("hast-notify", _parser)
    options = _parser().parse_args(argv)
    from hast.config.notifyconf import load
    from hast.daemon.pidfile import PidfileError

    try:
        configuration = load(options.config)
        if options.test:
            print(f"{options.config}: good, {len(configuration.receivers)} receivers")
            return 0
        if options.attempt:
            return asyncio.run(_try(configuration))
        return _serve(options)
    except (ConfigError, PidfileError) as error:
        print(f"hast-notify: {error}", file=sys.stderr)
        return error.exit_code


async def _try(configuration: NotifyConfiguration) -> int:
    """One attempt each, side by side; one line each."""
    import socket

    from hast.config.notify_model import Receiver, Topic
    from hast.watch.notify.decisions.message import State, make
    from hast.watch.notify.receivers import Batch, DeliveryError, deliver

    host = configuration.host or socket.gethostname().split(".")[0]
    message = make(Topic.TRY, State.HAPPENED, "", "Sent by hand, to see whether messages arrive.", time.time())

    async def attempt(receiver: Receiver) -> str:
        try:
            await deliver(receiver, Batch([message], host, 0))
        except DeliveryError as error:
            return str(error)
        return ""

    outcomes = await asyncio.gather(*(attempt(receiver) for receiver in configuration.receivers))
    for receiver, trouble in zip(configuration.receivers, outcomes, strict=True):
        print(f"{receiver.name}: {trouble or 'sent'}", file=sys.stderr if trouble else sys.stdout)
    return EX_UNAVAILABLE if any(outcomes) else 0


def _serve(options: argparse.Namespace) -> int:
    from hast.config.notifyconf import load
    from hast.daemon import logs
    from hast.daemon.daemonize import daemonize
    from hast.daemon.notify import Notifier
    from hast.daemon.paths import observe_socket
    from hast.daemon.pidfile import Pidfile
    from hast.watch.notify.daemon import Settings, serve

    hastd = str(options.hastd or observe_socket()).removeprefix("uds://").removeprefix("unix://")
    settings = Settings(hastd, Path(options.state).absolute(), Notifier())
    pidfile = Pidfile(os.path.abspath(options.pidfile), "hast-notify")
    try:
        if options.foreground:
            pidfile.write()
        else:
            daemonize(pidfile.write)
        logs.setup(foreground=options.foreground, debug=options.debug, program="hast-notify")
        asyncio.run(serve(partial(load, os.path.abspath(options.config)), settings))
        logs.flush()
    finally:
        pidfile.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
