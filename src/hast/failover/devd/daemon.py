"""The running hast-devd: sources feeding the runner until a signal ends it; SIGHUP reads the rules again.

Nobody moves the service of this host once hast-devd is gone: it moves away first, while the rules are still followed.
What needs root for all this is asked of `Actions`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import TextIO

from hast.config.devd_model import DevdConfiguration
from hast.failover.devd.actions import CARPD, HASTD, Actions, guard, opener
from hast.failover.devd.events import Event
from hast.failover.devd.runner import Runner, is_carpd
from hast.failover.devd.settings import Settings
from hast.failover.devd.sources import follow_carpd, follow_hastd, follow_links

STOP_S = 10.0
_log = logging.getLogger("hast.devd")


class ActionsLost(Exception):
    """Nobody runs actions any more: this daemon is of no use, and ends. `str()` is one line."""

    exit_code = 75


async def serve(
    configuration: DevdConfiguration,
    actions: Actions,
    settings: Settings,
    lost: asyncio.Event,
    record: TextIO | None = None,
) -> None:
    """Run until SIGTERM or SIGINT; then hand the service over and wait a little for actions that still run. Raises
    ActionsLost when `lost` is set."""
    runner = Runner(configuration.rules, actions.execute)

    def take(event: Event) -> None:
        runner.take(event)
        actions.told(event, runner.moves_service())

    def follow(configuration: DevdConfiguration) -> None:
        runner.rules = configuration.rules
        _log.info("%d rules of %s, read again", len(configuration.rules), configuration.path)

    taken = take if record is None else _recording(take, record)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, actions.reload)
    _log.info("%d rules of %s", len(configuration.rules), configuration.path)
    await actions.begin(taken, follow)

    def restarted() -> None:
        _log.warning("hastd was restarted and has no roles: acting once more on what carpd said last")
        runner.repeat(is_carpd)

    notifier = settings.notifier
    carpd = partial(follow_carpd, settings.carpd, taken, runner.carpd_gone, opener(actions, CARPD))
    hastd = partial(follow_hastd, settings.hastd, taken, restarted, opener(actions, HASTD))
    named = (("carpd", carpd), ("hastd", hastd), ("network links", partial(follow_links, taken)))
    sources = [asyncio.create_task(guard(name, source)) for name, source in named]
    beating = asyncio.create_task(notifier.beat())
    notifier.ready(f"{len(configuration.rules)} rules.")
    ends = [asyncio.create_task(event.wait()) for event in (stop, lost)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    notifier.stopping()
    if not lost.is_set():
        await actions.leave()
    for task in (*sources, *ends):
        task.cancel()
    await asyncio.gather(*sources, return_exceptions=True)
    await actions.end()
    await runner.drain(STOP_S)
    beating.cancel()
    if lost.is_set() and not stop.is_set():
        raise ActionsLost("who runs the actions is gone; ended")
    _log.info("ended")


def _recording(take: Callable[[Event], None], file: TextIO) -> Callable[[Event], None]:
    def record(event: Event) -> None:
        try:
            file.write(event.record() + "\n")
            file.flush()
        except OSError as error:
            _log.error("event not recorded in %s: %s", file.name, error.strerror)
        take(event)

    return record
