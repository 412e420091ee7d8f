"""hastd: command line, configuration, sockets, pidfile, going into the background (specification section 8.1).

`main` is the console script. Everything that can fail at start fails here, on the terminal, with one line and a
sysexits code; from then on `supervisor/supervisor.py` runs.
"""

from __future__ import annotations

import getopt
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hast.cli import completion, version

if TYPE_CHECKING:
    import argparse

    from hast.config.model import Configuration, Resource
    from hast.daemon.pidfile import Pidfile
    from hast.election.arbiter import Verdict
    from hast.supervisor.arbiter_link import Dealings
    from hast.supervisor.supervisor import Opened, Options

USAGE = "usage: hastd [-dFht] [-c config] [-P pidfile]"
DEFAULT_CONFIG = "/etc/hast.conf"
EX_USAGE = 64
EX_SOFTWARE = 70
GENERATION_VARIABLE = "HAST_GENERATION"
"""How often this process has replaced itself; told by one to the next."""
STARTED_IN = os.getcwd()


@dataclass(slots=True)
class Arguments:
    """The command line."""

    config: str = DEFAULT_CONFIG
    foreground: bool = False
    debug: int = 0
    pidfile: str | None = None
    test_only: bool = False


def _fail(message: str, code: int) -> NoReturn:
    print(f"hastd: {message}" if not message.startswith("usage:") else message, file=sys.stderr)
    raise SystemExit(code)


def parse_arguments(argv: list[str]) -> Arguments:
    """Read the options. Exits with 64 and the usage for -h and for anything not understood."""
    try:
        options, rest = getopt.getopt(argv, "c:dFhP:t", ["version"])
    except getopt.GetoptError as error:
        _fail(f"{error}\n{USAGE}", EX_USAGE)
    arguments = Arguments()
    for option, value in options:
        match option:
            case "-c":
                arguments.config = value
            case "-d":
                arguments.debug += 1
            case "-F":
                arguments.foreground = True
            case "-P":
                arguments.pidfile = os.path.abspath(value)
            case "-t":
                arguments.test_only = True
            case "-h":
                _fail(USAGE, EX_USAGE)
            case "--version":
                print(version.line("hastd"))
                raise SystemExit(0)
    if rest:
        _fail(f"unexpected argument {rest[0]!r}\n{USAGE}", EX_USAGE)
    arguments.config = os.path.abspath(arguments.config)
    return arguments


def _parser() -> argparse.ArgumentParser:
    """The same options for the shell's completion; getopt reads them as the reference does."""
    import argparse

    parser = argparse.ArgumentParser(prog="hastd", add_help=False)
    parser.add_argument("-c", dest="config", help="configuration")
    parser.add_argument("-P", dest="pidfile", help="pidfile")
    flags = {"-d": "log more", "-F": "stay in the foreground", "-h": "usage", "-t": "check the configuration and end"}
    for flag, text in {**flags, "--version": "print the version and end"}.items():
        parser.add_argument(flag, action="store_true", dest=f"flag_{flag.strip('-')}", help=text)
    return parser


def main(argv: list[str] | None = None) -> NoReturn:
    """Run hastd; never returns."""
    completion.answer("hastd", _parser)
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    code = _run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(arguments: Arguments) -> int:
    from hast.config import hastconf
    from hast.config.host import this_host
    from hast.config.model import ConfigError
    from hast.daemon.pidfile import Pidfile, PidfileError
    from hast.daemon.sockets import SocketError, open_control, unlink_control
    from hast.supervisor.peer_sockets import open_listeners
    from hast.supervisor.supervisor import Opened, Options

    def load() -> Configuration:
        return hastconf.load(arguments.config, this_host())

    pidfile: Pidfile | None = None
    control: str | None = None
    try:
        configuration = load()
        if arguments.test_only:
            from hast.cli.output import checked

            print(checked(arguments.config, len(configuration.resources)))
            return 0
        if arguments.pidfile or not arguments.foreground:
            pidfile = Pidfile(arguments.pidfile or configuration.pidfile)
        listeners = open_listeners(configuration.listen)
        control_socket = open_control(configuration.control)
        control = configuration.control
        opened = Opened(control_socket, listeners, pidfile, _claim_run_directory())
    except (ConfigError, PidfileError, SocketError) as error:
        if pidfile is not None:
            pidfile.close()
        if control is not None:
            unlink_control(control)
        print(f"hastd: {error}", file=sys.stderr)
        return error.exit_code
    fixed = arguments.pidfile is not None or pidfile is None
    options = Options(
        load,
        arguments.foreground,
        arguments.debug,
        fixed,
        _dealings,
        _starts_again,
        int(os.environ.pop(GENERATION_VARIABLE, "0")),
        _hand_over,
    )
    return _serve(arguments, configuration, options, opened)


def _claim_run_directory() -> Pidfile | None:
    """One hastd for each run directory, because a start clears away what is there. None where it cannot be written."""
    from hast.daemon import paths
    from hast.daemon.pidfile import Pidfile

    try:
        directory = paths.make_run_directory()
    except OSError:
        return None
    return Pidfile(str(directory / "hastd.lock")) if os.access(directory, os.W_OK) else None


def _dealings(resource: Resource, changed: Callable[[Verdict, str], None]) -> Dealings:
    """Arbiter and fence program of a resource, as hast.conf names them."""
    from hast.config.host import this_host
    from hast.failover import arbiters
    from hast.failover.arbitration import Arbitration

    return Arbitration(resource.name, this_host().name, arbiters.make(resource.arbiter), resource.fence_path, changed)


async def _starts_again() -> bool:
    """systemd is about to end this hastd as the first half of a restart."""
    from hast.daemon.in_thread import in_thread
    from hast.election.leaving import Job, Program
    from hast.failover import jobs

    try:
        return (await in_thread(jobs.jobs, jobs.ASK_S + 1.0)).get(Program.HASTD) is Job.RESTART
    except TimeoutError:
        return False


async def _hand_over(control: str) -> None:
    """`failover leave`, on a host where a fail-over is set up; where roles are given by hand they end by hand."""
    from hast.config.failover_model import DEFAULT_FAILOVER_CONF
    from hast.failover.devd.runner import leave

    if Path(DEFAULT_FAILOVER_CONF).exists():
        await leave("hastd", f"--hastd {shlex.quote(control)}")


def _serve(arguments: Arguments, configuration: Configuration, options: Options, opened: Opened) -> int:
    import asyncio
    import logging

    import setproctitle

    from hast.daemon import daemonize, logs
    from hast.daemon.notify import Notifier
    from hast.daemon.sockets import unlink_control
    from hast.supervisor.adoption import NotUnderstood
    from hast.supervisor.decisions.ending import End
    from hast.supervisor.supervisor import Supervisor

    environment = dict(os.environ)
    notifier = Notifier()

    def claim() -> None:
        for pidfile in (opened.pidfile, opened.run_lock):
            if pidfile is not None:
                pidfile.write()

    if arguments.foreground or options.generation:
        claim()
    else:
        daemonize.daemonize(claim)
    setproctitle.setproctitle("hastd")
    logs.setup(foreground=arguments.foreground, debug=arguments.debug)

    if sys.version_info < (3, 12):  # where it became the default: no thread for every child
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())

    async def serve() -> None:
        end = await Supervisor(configuration, options, opened, notifier).run()
        logs.flush()
        if end is End.LEAVE_RUNNING:
            os._exit(0)  # an event loop that is closed kills the processes it started
        if end is End.BECOME_NEXT:
            environment[GENERATION_VARIABLE] = str(options.generation + 1)
            os.chdir(STARTED_IN)
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)

    log = logging.getLogger("hast.supervisor")
    try:
        asyncio.run(serve())
    except NotUnderstood as error:
        log.critical("%s", error)
        unlink_control(configuration.control)
        return error.exit_code
    except Exception as error:
        log.critical("hastd failed: %s: %s", type(error).__name__, error)
        return EX_SOFTWARE
    finally:
        logs.flush()
    return 0


if __name__ == "__main__":
    main()
