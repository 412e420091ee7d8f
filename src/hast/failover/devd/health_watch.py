"""hast-devd's periodic look at the node: is all as failover was last asked to make it, and does it work?

Gathers facts, in threads with deadlines so that nothing that hangs holds up the event loop, and carries out what
election/health.py decides: a run of `failover --repair`, the addresses given away, a word in the log and an event.
Looks only on a host where failover was run since it started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import threading
import time
from collections.abc import Callable

from hast.config.failover_model import FailoverConfiguration
from hast.config.failoverconf import load
from hast.config.model import ConfigError
from hast.daemon import logs
from hast.daemon.in_thread import in_thread
from hast.daemon.paths import run_directory
from hast.election.failover import Verb
from hast.election.health import Action, Facts, Health, Kind, Repair, Tell
from hast.failover.build import build
from hast.failover.devd.events import Event
from hast.failover.devd.runner import run_command
from hast.failover.former import leftover, remembered
from hast.failover.hastd import Hastd, HastdError
from hast.failover.report import last_run, look, verdict, word
from hast.failover.state import RunFiles, StateError
from hast.failover.successor import can_take_over
from hast.net.client import Carpd, CarpdError

OFF_POLL_S = 5.0
"""How often the configuration is looked for where there is none, or where it says that nobody is to look."""
LOOK_S = 20.0
"""More than the deadlines of a look add up to."""
ASK_S = 3.0
BEGINS_S = 30.0
"""A request that no run has taken up after this time is one that nobody carries out."""
AWAY_S = 120.0
"""A host that was handed over takes no address back for so long."""
GAVE_WAY = 75
"""Exit code of failover when something else was asked."""
ORIGIN = "health"
_log = logging.getLogger("hast.devd")
_LEVELS = {
    Kind.ILL: logging.ERROR,
    Kind.WELL: logs.NOTICE,
    Kind.HANDED_OVER: logging.ERROR,
    Kind.HELPLESS: logging.CRITICAL,
}


class ConfigurationFile:
    """failover.conf, read again when it changes. A mistake is told once, and the old one counts on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, ...] = ()
        self._read: FailoverConfiguration | None = None

    def get(self) -> FailoverConfiguration | None:
        """The configuration; None while there is no file, or never was one without a mistake."""
        try:
            found = os.stat(self.path)
        except OSError:
            self._identity, self._read = (), None
            return None
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if identity != self._identity:
            self._identity = identity
            try:
                self._read = load(self.path)
            except ConfigError as error:
                _log.error("%s: %s%s", ORIGIN, error, " What was read before counts." if self._read else "")
        return self._read


class HealthWatch:
    """One watch. `take` gets its events; `carpd` is the path of carpd's control socket."""

    def __init__(self, path: str, carpd: str, take: Callable[[Event], None], deadline_s: float) -> None:
        self._file = ConfigurationFile(path)
        self._carpd = Carpd(carpd)
        self._take = take
        self._deadline_s = deadline_s
        self._health = Health()
        self._hanging: dict[str, threading.Thread] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            configuration = self._file.get()
            if configuration is None or configuration.health_s <= 0:
                self._health = Health()
                await asyncio.sleep(OFF_POLL_S)
                continue
            await self._once(configuration)
            await asyncio.sleep(self._health.look_again_s(configuration.health_s))

    async def _once(self, configuration: FailoverConfiguration) -> None:
        try:
            facts = await in_thread(lambda: self._look(configuration), LOOK_S)
        except TimeoutError:
            _log.error("%s: the node cannot be looked at within %g s", ORIGIN, LOOK_S)
            return
        except StateError as error:
            _log.error("%s: %s", ORIGIN, error)
            return
        for action in self._health.look(facts, time.monotonic()):
            await self._carry_out(action)

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Tell(kind, text):
                _log.log(_LEVELS[kind], "%s: %s", ORIGIN, text)
                self._take(Event({"system": "FAILOVER", "subsystem": ORIGIN, "type": str(kind), "text": text}))
                if kind is Kind.HANDED_OVER:
                    await self._hand_over()
            case Repair(verb):
                command = f"failover {verb} --repair -c {shlex.quote(self._file.path)}"
                code = await run_command(ORIGIN, command, command, self._deadline_s, {})
                self._health.repaired(code in (0, GAVE_WAY), time.monotonic())

    async def _hand_over(self) -> None:
        try:
            await in_thread(lambda: self._carpd.leave(AWAY_S), ASK_S)
        except (CarpdError, TimeoutError) as error:
            _log.error("%s: the addresses cannot be given away: %s", ORIGIN, error or "no answer")

    # Looking: in a thread

    def _look(self, configuration: FailoverConfiguration) -> Facts:
        files = RunFiles(run_directory())
        last, pid = last_run(files)
        number, asked, age_s = files.newest()
        begins = number > int(last.get("request") or 0) and age_s < BEGINS_S
        if asked not in tuple(Verb) or pid or begins:
            return Facts(None, busy=True)
        wanted = Verb(asked)
        vhids = self._vhids()
        if vhids and ("MASTER" in vhids) is not (wanted is Verb.MASTER):
            return Facts(None, busy=True)
        hastd = Hastd(configuration.control)
        try:
            entries = hastd.roles(ASK_S)
            stages = build(configuration, remembered(last), left=leftover(configuration, last))
        except HastdError as error:
            return Facts(wanted, ill={"hastd": str(error)}, hastd_answers=False)
        states = look(stages, files, self._hanging)
        files.note_parts(states)
        found = verdict({**last, "verb": wanted}, 0, stages, states)
        ill = {name: word(states[name]) for name in found.wrong}
        may_ask = bool(ill) and wanted is Verb.MASTER and bool(vhids)
        can_move = may_ask and can_take_over(entries.get(name, {}) for name in stages.resources)
        return Facts(wanted, ill=ill, can_hand_over=can_move)

    def _vhids(self) -> list[str]:
        """States of those of carpd's vhids that serve resources; none without a carpd. Roles follow them."""
        try:
            return [str(each.get("state")) for each in self._carpd.vhids() if each.get("resources")]
        except CarpdError:
            return []
