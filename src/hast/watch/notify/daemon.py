"""The running hast-notify: looks and events go into the watch, its messages to the journal and to every receiver.

Nothing here is waited for by another daemon. Receivers do not wait for each other either: each has a task and a queue.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.config.notify_model import NotifyConfiguration, Receiver
from hast.daemon.notify import Notifier
from hast.daemon.paths import failover_record
from hast.watch.notify import journal, sources
from hast.watch.notify.decisions.message import Message
from hast.watch.notify.decisions.outbox import Outbox
from hast.watch.notify.decisions.watch import Watch
from hast.watch.notify.memory import Memory
from hast.watch.notify.receivers import Batch, DeliveryError, deliver
from hast.watch.source import NoAnswer, Source

LOOK_S = 10.0
RUNS_S = 1.0
SAVE_S = 1.0
STOP_S = 5.0
"""What receivers get at the end; the rest waits in the file."""
_log = logging.getLogger("hast.notify")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are."""

    hastd: str
    state: Path
    notifier: Notifier


class _Post:
    """One receiver and what waits for it."""

    def __init__(self, receiver: Receiver, host: str) -> None:
        self.receiver = receiver
        self.outbox = Outbox(receiver)
        self._host = host
        self._wake = asyncio.Event()
        self._why = ""

    def add(self, message: Message) -> None:
        self.outbox.add(time.time(), message)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            due_s = self.outbox.due_s(time.time())
            if due_s is None or due_s > 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), due_s)
                except TimeoutError:
                    pass
                continue
            await self._send()

    async def _send(self) -> None:
        messages, lost = self.outbox.batch()
        try:
            await deliver(self.receiver, Batch(messages, self._host, lost))
        except DeliveryError as error:
            gone = self.outbox.failed(time.time())
            if str(error) != self._why:
                self._why = str(error)
                _log.warning("%s was not reached: %s; trying again", _shown(self.receiver), error)
            for message in gone:
                _log.error("%s: given up: %s", _shown(self.receiver), message.line)
            return
        if self._why:
            _log.info("%s is reached again", _shown(self.receiver))
        self._why = ""
        self.outbox.sent(time.time(), messages, lost)


class Notify:
    """One configuration's time. What it knows is in the file when it ends."""

    def __init__(self, configuration: NotifyConfiguration, settings: Settings) -> None:
        self._configuration = configuration
        self._settings = settings
        self._memory = Memory(settings.state)
        self._watch = Watch(configuration.degraded_s)
        self._place = sources.Place()
        host = configuration.host or socket.gethostname().split(".")[0]
        self._posts = [_Post(receiver, host) for receiver in configuration.receivers]
        self._source = Source(settings.hastd)
        self._runs = failover_record()
        self._look_now = asyncio.Event()
        self._restore(self._memory.load())

    # --- state ------------------------------------------------------------------------------------------------------

    def _restore(self, known: dict[str, Any]) -> None:
        if not known:
            self._watch.pass_over(sources.last_run(self._runs))
            return
        try:
            place = known["place"]
            self._place = sources.Place(place["seq"], int(place["pid"]), float(place["time_s"]))
            self._watch.restore(known["watch"])
            for post in self._posts:
                if (waiting := known["waiting"].get(post.receiver.name)) is not None:
                    post.outbox.restore(waiting)
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("%s is not as it was written: %s", self._settings.state, error)

    def save(self) -> None:
        place = {"seq": self._place.seq, "pid": self._place.pid, "time_s": self._place.time_s}
        waiting = {post.receiver.name: post.outbox.record() for post in self._posts}
        self._memory.save({"place": place, "watch": self._watch.record(), "waiting": waiting})

    # --- work -------------------------------------------------------------------------------------------------------

    def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            journal.tell(message)
            for post in self._posts:
                post.add(message)

    def _event(self, record: dict[str, Any]) -> None:
        """Also a reason to look: the status says what an event means."""
        self._tell(self._watch.event(record))
        self._look_now.set()

    async def _look(self) -> None:
        while True:
            self._look_now.clear()
            self._tell(self._watch.look(time.time(), await self._status()))
            try:
                await asyncio.wait_for(self._look_now.wait(), LOOK_S)
                await asyncio.sleep(0.2)
            except TimeoutError:
                pass

    async def _status(self) -> list[dict[str, Any]] | None:
        """None where hastd does not answer."""
        try:
            reply = await self._source.ask({"command": "status", "resources": ["all"]})
        except NoAnswer as error:
            _log.debug("%s", error)
            return None
        found = reply.get("resources")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else None

    async def _follow(self) -> None:
        def lost(count: int) -> None:
            self._tell(self._watch.lost(time.time(), count))

        await sources.follow(self._source, self._place, self._event, lost)

    async def _failovers(self) -> None:
        while True:
            self._tell(self._watch.failover(sources.last_run(self._runs)))
            await asyncio.sleep(RUNS_S)

    async def _save(self) -> None:
        while True:
            self.save()
            await asyncio.sleep(SAVE_S)

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop`; what waits and can be delivered at once still is."""
        tasks = [
            asyncio.create_task(_guard(work))
            for work in (self._look, self._follow, self._failovers, self._save, *(post.run for post in self._posts))
        ]
        await stop.wait()
        until_s = time.monotonic() + STOP_S
        while time.monotonic() < until_s and any(post.outbox.due_s(time.time()) == 0 for post in self._posts):
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_S)
        self.save()


async def _guard(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a task going whatever happens in it."""
    while True:
        try:
            await work()
        except Exception as error:
            _log.exception("failed (%s); started again", type(error).__name__)
        await asyncio.sleep(1.0)


async def serve(load: Callable[[], NotifyConfiguration], settings: Settings) -> None:
    """Until SIGTERM or SIGINT. SIGHUP reads the configuration again. Raises ConfigError at the beginning only."""
    from hast.config.model import ConfigError

    loop = asyncio.get_running_loop()
    ending, change = asyncio.Event(), asyncio.Event()
    configuration = load()

    def end() -> None:
        ending.set()
        change.set()

    def again() -> None:
        nonlocal configuration
        try:
            configuration = load()
        except ConfigError as error:
            _log.error("configuration not changed: %s", error)
            return
        change.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, again)
    beating = asyncio.create_task(settings.notifier.beat())
    while not ending.is_set():
        change.clear()
        count = len(configuration.receivers)
        _log.info("%d receivers of %s", count, configuration.path)
        hastd = configuration.hastd or settings.hastd
        notify = Notify(configuration, Settings(hastd, settings.state, settings.notifier))
        settings.notifier.ready(f"{count} receivers.")
        await notify.serve(change)
    settings.notifier.stopping()
    beating.cancel()
    _log.info("ended")


def _shown(receiver: Receiver) -> str:
    """A URL or a command may hold a secret: the host, or the program."""
    if receiver.kind == "mail":
        return receiver.name
    if receiver.kind == "webhook":
        from urllib.parse import urlsplit

        return f"webhook {urlsplit(receiver.target).hostname}"
    return f"command {receiver.target.split()[0]}"
