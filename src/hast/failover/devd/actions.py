"""What hast-devd needs root for: actions, the sockets of carpd and hastd, the look at the node, the inhibitor.

`Actions` says it for both ways: `LocalActions` does it in this process; `remote_actions.py` has it done by another one
(`action_server.py`), while this one, which reads what others wrote, is a user without rights.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from hast.config.devd_model import DevdConfiguration, Rule
from hast.config.model import ConfigError
from hast.failover.devd.events import Event
from hast.failover.devd.health_watch import HealthWatch
from hast.failover.devd.inhibit import Inhibitor
from hast.failover.devd.runner import Newer, leave, run_here
from hast.failover.devd.settings import Settings
from hast.failover.devd.sources import Stream, open_carpd, open_hastd

CARPD, HASTD = "carpd", "hastd"
_log = logging.getLogger("hast.devd")


class Actions(Protocol):
    """Used from one event loop, between `begin` and `end`."""

    async def begin(self, take: Callable[[Event], None], follow: Callable[[DevdConfiguration], None]) -> None:
        """`take` gets the events of the look at the node, `follow` the rules whenever they were read again."""

    async def execute(self, rule: Rule, number: int, event: Event, newer: Newer) -> int:
        """Run one action of a rule to its end; its exit code."""

    async def open(self, source: str, since: int | None) -> Stream:
        """The events of carpd or hastd. Raises OSError, TimeoutError."""

    def told(self, event: Event, moves: bool) -> None:
        """An event was taken. `moves`: the service of this host moves by the rules."""

    async def leave(self) -> None:
        """Move the service away before the end, if it moves by the rules."""

    def reload(self) -> None:
        """Read the rules again."""

    async def end(self) -> None:
        """Nobody is watched any more."""


class LocalActions:
    """`Actions` by this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._moves = False
        self._leaving = asyncio.Lock()
        self._inhibitor = Inhibitor(settings.hastd, self.leave)
        self._tasks: list[asyncio.Task[None]] = []
        self._follow: Callable[[DevdConfiguration], None] = lambda _configuration: None

    async def begin(self, take: Callable[[Event], None], follow: Callable[[DevdConfiguration], None]) -> None:
        self._follow = follow
        settings = self._settings
        watching: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [("inhibitor", self._inhibitor.run)]
        if settings.failover is not None:
            watch = HealthWatch(settings.failover, settings.carpd, take, settings.deadline_s)
            watching.append(("health", watch.run))
        self._tasks = [asyncio.create_task(guard(name, run)) for name, run in watching]

    async def execute(self, rule: Rule, number: int, event: Event, newer: Newer) -> int:
        return await run_here(self._settings.deadline_s, rule, number, event, newer)

    async def open(self, source: str, since: int | None) -> Stream:
        return await (open_carpd(self._settings.carpd) if source == CARPD else open_hastd(self._settings.hastd, since))

    def told(self, event: Event, moves: bool) -> None:
        self._moves = moves
        if event.variables.get("system") == "HAST":
            self._inhibitor.wake()

    async def leave(self) -> None:
        async with self._leaving:
            if self._moves:
                await leave("hast-devd", f"--carpd {shlex.quote(self._settings.carpd)}")

    def reload(self) -> None:
        try:
            configuration = self._settings.load()
        except ConfigError as error:
            _log.error("rules not changed: %s", error)
            return
        self._follow(configuration)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def guard(name: str, follow: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a source going whatever happens in it."""
    while True:
        try:
            await follow()
        except Exception as error:
            _log.error("source %s failed: %s: %s; started again", name, type(error).__name__, error)
        await asyncio.sleep(1.0)


def opener(actions: Actions, source: str) -> Callable[[int | None], Coroutine[Any, Any, Stream]]:
    """For `sources.py`."""
    return partial(actions.open, source)
