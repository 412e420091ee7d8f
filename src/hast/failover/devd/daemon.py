"""The running hast-devd: sources feeding the runner until a signal ends it; SIGHUP reads the rules again.

Nobody moves the service of this host once hast-devd is gone: it moves away first, while the rules are still followed.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.config.devd_model import DevdConfiguration
from hast.config.model import ConfigError
from hast.daemon.notify import Notifier
from hast.failover.devd.events import Event
from hast.failover.devd.health_watch import HealthWatch
from hast.failover.devd.inhibit import Inhibitor
from hast.failover.devd.runner import Runner, is_carpd, leave
from hast.failover.devd.sources import follow_carpd, follow_hastd, follow_links

STOP_S = 10.0
_log = logging.getLogger("hast.devd")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the sources are and how long an action may take. `load` reads the configuration again."""

    load: Callable[[], DevdConfiguration]
    carpd: str
    hastd: str
    deadline_s: float
    notifier: Notifier
    record: str | None = None
    failover: str | None = None
    """failover.conf of the node that is watched; None: nobody watches."""


async def serve(configuration: DevdConfiguration, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; then hand the service over and wait a little for actions that still run."""
    runner = Runner(configuration.rules, settings.deadline_s)
    leaving = asyncio.Lock()

    async def move_away() -> None:
        async with leaving:
            if runner.moves_service():
                await leave("hast-devd", f"--carpd {shlex.quote(settings.carpd)}")

    inhibitor = Inhibitor(settings.hastd, move_away)

    def act(event: Event) -> None:
        runner.take(event)
        if event.variables.get("system") == "HAST":
            inhibitor.wake()

    take = act if settings.record is None else _recording(act, settings.record)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, runner, settings)
    _log.info("%d rules of %s", len(configuration.rules), configuration.path)

    def gone() -> None:
        runner.carpd_gone()

    def restarted() -> None:
        _log.warning("hastd was restarted and has no roles: acting once more on what carpd said last")
        runner.repeat(is_carpd)

    sources = [
        asyncio.create_task(_guard("carpd", lambda: follow_carpd(settings.carpd, take, gone))),
        asyncio.create_task(_guard("hastd", lambda: follow_hastd(settings.hastd, take, restarted))),
        asyncio.create_task(_guard("network links", lambda: follow_links(take))),
        asyncio.create_task(_guard("inhibitor", inhibitor.run)),
    ]
    if settings.failover is not None:
        watch = HealthWatch(settings.failover, settings.carpd, take, settings.deadline_s)
        sources.append(asyncio.create_task(_guard("health", watch.run)))
    beating = asyncio.create_task(settings.notifier.beat())
    settings.notifier.ready(f"{len(configuration.rules)} rules.")
    await stop.wait()
    settings.notifier.stopping()
    await move_away()
    for source in sources:
        source.cancel()
    await asyncio.gather(*sources, return_exceptions=True)
    await runner.drain(STOP_S)
    beating.cancel()
    _log.info("ended")


async def _guard(name: str, follow: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a source going whatever happens in it."""
    while True:
        try:
            await follow()
        except Exception as error:
            _log.error("source %s failed: %s: %s; started again", name, type(error).__name__, error)
        await asyncio.sleep(1.0)


def _reload(runner: Runner, settings: Settings) -> None:
    try:
        configuration = settings.load()
    except ConfigError as error:
        _log.error("rules not changed: %s", error)
        return
    runner.rules = configuration.rules
    _log.info("%d rules of %s, read again", len(configuration.rules), configuration.path)


def _recording(take: Callable[[Event], None], path: str) -> Callable[[Event], None]:
    def record(event: Event) -> None:
        try:
            with Path(path).open("a") as file:
                file.write(event.record() + "\n")
        except OSError as error:
            _log.error("event not recorded in %s: %s", path, error.strerror)
        take(event)

    return record
