"""failover master | slave | leave | status: reads its arguments and configuration, prints, gives the exit code."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hast.cli.version import add_version

if TYPE_CHECKING:
    from hast.config.failover_model import FailoverConfiguration
    from hast.failover.state import RunFiles

EXIT_FAILED = 1
EXIT_ALONE = 2
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_SYSTEM = 71
EXIT_GAVE_WAY = 75
EXIT_CONFIG = 78
REASON_VARIABLE = "HAST_EVENT_reason"
"""From hast-devd: why carpd's state changed."""
NEWER_VARIABLE = "HAST_DEVD_NEWER_FD"
"""Descriptor from hast-devd that can be read as soon as a newer event of the same subsystem waits."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        print(f"failover: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Exit codes: 0 done, 1 failed, 64 usage, 69 hastd, 71 system, 72 and 78 file, 75 gave way.

    Of `status`: 0 as it should be, 1 not so, 75 a run is in progress; with `--check` 0 to 3, as Nagios reads them.
    Of `leave`: 0 handed over or nothing to do, 1 something could not be taken down, 2 stopped without a successor.
    """
    from hast.cli import completion

    completion.answer("failover", _parser)
    options = _parser().parse_args(argv)
    if options.verb == "status" and options.check:
        return _status_check(options)
    return _carry_out(options)


def _carry_out(options: argparse.Namespace) -> int:
    from hast.config.model import ConfigError
    from hast.daemon.paths import run_directory
    from hast.failover.hastd import HastdError
    from hast.failover.state import RunFiles, StateError

    try:
        if options.verb == "leave":
            return _leave(options)
        from hast.config.failoverconf import load

        if options.verb == "check":
            return _check(load(options.config))
        if options.verb in ("master", "slave") and not options.plan:
            files = RunFiles(run_directory())
            return _run(_load_or_remember(options.config, files), files, options)
        configuration = load(options.config)
        files = RunFiles(run_directory())
        if options.verb == "status":
            return _status(configuration, files, options.json)
        return _plan(configuration, files, options.verb)
    except ConfigError as error:
        print(f"failover: {error}", file=sys.stderr)
        return error.exit_code
    except HastdError as error:
        print(f"failover: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except StateError as error:
        print(f"failover: {error}", file=sys.stderr)
        return EXIT_SYSTEM


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="failover", description="Make this node master or slave of its HAST resources.")
    add_version(parser)
    parser.add_argument("verb", choices=("master", "slave", "leave", "status", "check"))
    parser.add_argument("-c", "--config", default="/etc/failover.conf", help="configuration (default: %(default)s)")
    parser.add_argument("-p", "--plan", action="store_true", help="print what would be done and do nothing")
    parser.add_argument("-j", "--json", action="store_true", help="status as JSON")
    parser.add_argument("--check", action="store_true", help="status as one line for Nagios, exit code 0-3")
    parser.add_argument("-l", "--log", help="also write log lines to this file (default: $HAST_SYSLOG)")
    parser.add_argument("-r", "--repair", action="store_true", help="do nothing unless this verb was asked last")
    leave = parser.add_argument_group("leave")
    leave.add_argument("--deadline", type=float, metavar="S", help="seconds that it may take (default: 120)")
    leave.add_argument("--stopping", choices=("hastd", "hast-devd", "carpd"), help="the daemon that is about to end")
    leave.add_argument("--hastd", metavar="SOCKET", help="control socket of hastd (default: as failover.conf says)")
    leave.add_argument("--carpd", metavar="SOCKET", help="control socket of carpd (default: as carp.conf says)")
    return parser


def _check(configuration: FailoverConfiguration) -> int:
    from hast.failover.exports.problems import export_problems

    problems = export_problems(configuration)
    for problem in problems:
        print(f"failover: {problem}", file=sys.stderr)
    if not problems:
        print(f"{configuration.path}: ok")
    return EXIT_CONFIG if problems else 0


def _leave(options: argparse.Namespace) -> int:
    from hast.daemon.paths import run_directory
    from hast.election.leaving import Outcome, Program
    from hast.failover.leave import DEADLINE_S, Leaving, Overruled, Request, control_of
    from hast.failover.log import LOG_VARIABLE, Log
    from hast.failover.state import RunFiles
    from hast.net.client import control_path

    file = options.log or os.environ.get(LOG_VARIABLE)
    log = Log(os.path.abspath(file) if file else None)
    config = os.path.abspath(options.config)

    files = RunFiles(run_directory())

    def load() -> FailoverConfiguration | None:
        return _load_if_there(config, files)

    request = Request(
        load,
        options.hastd or control_of(config, load),
        options.carpd or control_path(),
        Program(options.stopping) if options.stopping else None,
        DEADLINE_S if options.deadline is None else options.deadline,
    )
    os.chdir("/")
    leaving = Leaving(request, files, log, _told_to_end())
    if options.plan:
        decision, lines = leaving.foresee()
        print("\n".join([f"{decision.way}:", *(f"{number}. {line}" for number, line in enumerate(lines, 1))]))
        return EXIT_ALONE if decision.reasons else 0
    started = time.monotonic()
    try:
        outcome = leaving.execute()
    except Overruled:
        _say("failover leave: gave way to a later request.")
        return EXIT_GAVE_WAY
    for name, why in leaving.failures.items():
        log.error(f"failover leave: {name}: {why}")
        _say(f"failover leave: {name}: {why}")
    if outcome is not Outcome.NOTHING or sys.stderr.isatty():
        _say(f"failover leave: {outcome}, after {time.monotonic() - started:.1f} s.")
    return {Outcome.HELD: EXIT_FAILED, Outcome.ALONE: EXIT_ALONE}.get(outcome, 0)


def _load_if_there(path: str, files: RunFiles) -> FailoverConfiguration | None:
    """The configuration; None where there is none, or none that can be used: the address is given up even so."""
    from hast.config.model import ConfigError

    try:
        return _load_or_remember(path, files)
    except ConfigError as error:
        if Path(path).exists():
            _say(f"failover: {error}")
        return None


def _load_or_remember(path: str, files: RunFiles) -> FailoverConfiguration:
    """The configuration, or that of the last run where today's has a mistake: a node fails over all the same."""
    from hast.config.failoverconf import load, parse
    from hast.config.model import ConfigError
    from hast.failover.former import WHERE, last_text

    try:
        return load(path)
    except ConfigError as error:
        text = last_text(files.load())
        if text is None:
            raise
        _say(f"failover: {error} What the last run read counts.")
        return parse(text, WHERE)


def _run(configuration: FailoverConfiguration, files: RunFiles, options: argparse.Namespace) -> int:
    from hast.election.failover import Outcome, Verb
    from hast.failover.build import build
    from hast.failover.former import leftover, remembered
    from hast.failover.hastd import Hastd
    from hast.failover.isolation import LOST_LINK, Isolation
    from hast.failover.log import LOG_VARIABLE, Log
    from hast.failover.run import Run

    verb = Verb(options.verb)
    file = options.log or configuration.log or os.environ.get(LOG_VARIABLE)
    log = Log(os.path.abspath(file) if file else None)
    os.chdir("/")
    if not files.ask(verb, again=options.repair):
        log.debug(f"failover {verb} --repair: something else was asked meanwhile; nothing was done.")
        return EXIT_GAVE_WAY
    isolation = None
    if verb is Verb.SLAVE and os.environ.get(REASON_VARIABLE) in LOST_LINK:
        isolation = Isolation(Hastd(configuration.control), log)
        isolation.begin()
    last = files.load()
    left = leftover(configuration, last) if verb is Verb.SLAVE else None
    stages = build(configuration, remembered(last), isolation, left)
    run = Run(configuration, verb, stages, files, log, _told_to_end())
    started = time.monotonic()
    ending = run.execute()
    if ending.outcome is Outcome.DONE:
        return 0
    if not sys.stderr.isatty():
        for name, why in ending.failures.items():
            _say(f"failover {verb}: {name}: {why}")
    _say(f"failover {verb}: {ending.outcome} after {time.monotonic() - started:.1f} s.")
    return EXIT_GAVE_WAY if ending.outcome is Outcome.GAVE_WAY else EXIT_FAILED


def _say(text: str) -> None:
    """A line on standard error, if anybody still listens there; unbuffered: what is left would spoil the exit code."""
    try:
        os.write(2, f"{text}\n".encode(errors="replace"))
    except OSError:
        pass


def _told_to_end() -> Callable[[], bool]:
    """Installs handlers for TERM and INT; the result tells whether one came or hast-devd has a newer event.

    A lost terminal (HUP) ends nothing: half a fail-over is worse than a whole one that nobody watches.
    """
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    text = os.environ.pop(NEWER_VARIABLE, "")
    newer = int(text) if text.isdecimal() else None
    if newer is not None:
        try:
            os.set_inheritable(newer, False)
        except OSError:
            newer = None
    return lambda: ended or (newer is not None and bool(select.select([newer], [], [], 0)[0]))


def _plan(configuration: FailoverConfiguration, files: RunFiles, verb: str) -> int:
    from hast.election.failover import Verb
    from hast.failover.build import build
    from hast.failover.former import leftover, remembered
    from hast.failover.report import look, plan_lines

    last = files.load()
    left = leftover(configuration, last) if verb == Verb.SLAVE else None
    stages = build(configuration, remembered(last), left=left)
    print("\n".join(plan_lines(Verb(verb), stages, look(stages, files))))
    return 0


def _status(configuration: FailoverConfiguration, files: RunFiles, as_json: bool) -> int:
    import json

    from hast.failover.report import see, status_lines

    sight = see(configuration, files)
    found = sight.verdict
    if as_json:
        told = {"good": found.good, "state": str(found), "wanted": "master" if found.wanted else "slave"}
        last = {key: value for key, value in sight.last.items() if key not in ("configuration", "former")}
        about = {"wrong": list(found.wrong), "last": last or None, "running_pid": sight.pid or None}
        print(json.dumps(told | about | {"parts": sight.states}, indent=2))
    else:
        blind = [name for name, part in sight.stages.parts.items() if part.blind]
        print("\n".join(status_lines(sight.last, sight.pid, sight.states, blind, found)))
    return 0 if found.good else EXIT_GAVE_WAY if found.running else EXIT_FAILED


def _status_check(options: argparse.Namespace) -> int:
    """One line, and 0 OK, 1 WARNING (a run is in progress), 2 CRITICAL, 3 UNKNOWN (nobody can look)."""
    from hast.config.failoverconf import load
    from hast.config.model import ConfigError
    from hast.daemon.paths import run_directory
    from hast.failover.hastd import HastdError
    from hast.failover.report import see
    from hast.failover.state import RunFiles, StateError
    from hast.watch import check
    from hast.watch.catalogue import Level

    try:
        sight = see(load(options.config), RunFiles(run_directory()))
    except (ConfigError, HastdError, StateError) as error:
        print(check.line("FAILOVER", Level.UNKNOWN, str(error)))
        return Level.UNKNOWN
    found, states = sight.verdict, sight.states
    level = Level.OK if found.good else Level.WARNING if found.running else Level.CRITICAL
    reasons = [f"{name}: {states[name]}" for name in found.wrong if isinstance(states[name], str)]
    figures = [
        check.figure("parts", str(len(states)), None, 0),
        check.figure("wrong", str(len(found.wrong)), None if found.running else 0, 0),
    ]
    print(check.line("FAILOVER", level, "; ".join([str(found), *reasons]), figures))
    return level


if __name__ == "__main__":
    sys.exit(main())
