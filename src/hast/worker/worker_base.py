"""What both kinds of worker share: the channel to the supervisor, the exit, the provider, and carrying out effects.

A worker is a shell around one engine: it hands batches in and carries `Effects` out, once per wake-up of the reactor,
and decides nothing about data. Whatever a supervisor asks is answered in the round in which it is read.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from hast.config.model import Resource
from hast.daemon import paths
from hast.daemon.logs import LEVELS, in_words
from hast.replication.types import Effects, Request, Store
from hast.worker import messages
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import OpenedProvider
from hast.worker.interfaces import Timer
from hast.worker.reactor import EpollReactor

log = logging.getLogger("hast.worker")

MAX_PASSES = 64
"""Passes over the effects in one round; what is left after that waits for the next round."""
MAX_QUEUED_MESSAGES = 1000
COPIED_STATE = (
    "status",
    "dirty",
    "datasize",
    "extentsize",
    "keepdirty",
    "resuid",
    "localcnt",
    "remotecnt",
    "inconsistent",
    "stale",
)
"""What the status object takes from either engine as it is."""
EXIT_OK = 0
EXIT_TEMPORARY = 75
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Engine(Protocol):
    """What both engines have in common."""

    effects: Effects

    def local_done(self, batch: list[Request], now: float) -> None: ...
    def stored(self, job: Store, error: int, now: float) -> None: ...
    def tick(self, now: float) -> float: ...


def wall_offset_s(monotonic_s: float) -> float:
    """What has to be added to the reactor's time for seconds since 1970."""
    return time.time() - monotonic_s


def read_boot_id() -> bytes:
    """Changes when this kernel restarts; empty where the kernel does not tell."""
    try:
        return bytes.fromhex(BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return b""


class Worker(ABC):
    """One resource in one role, from the start message to the exit. Subclasses set `engine` and `provider`."""

    role = ""

    def __init__(self, reactor: EpollReactor, control: socket.socket, resource: Resource) -> None:
        self.reactor = reactor
        self.resource = resource
        self.engine: Engine | None = None
        self.provider: LocalProvider | None = None
        self.exit_code: int | None = None
        self.stopping = False
        self.orphaned = False
        """Its supervisor is gone."""
        self.leaving = False
        """It stops because its node gives the role up, and the peer is told so."""
        self._control = control
        self._outgoing: deque[dict[str, Any]] = deque()
        self._ticker: Timer | None = None
        control.setblocking(False)
        reactor.add(control.fileno(), select.EPOLLIN, self._control_ready)
        reactor.at_round_end(self._round_end)

    # To be provided

    @abstractmethod
    def open(self) -> None:
        """Take the role, or call `refuse`."""

    @abstractmethod
    def close(self) -> None:
        """After the loop: release everything."""

    @abstractmethod
    def carry_out(self, effects: Effects) -> None:
        """Carry out what is specific to the role."""

    @abstractmethod
    def more_to_do(self, effects: Effects) -> bool:
        """Whether `carry_out` has work again."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """The `status` object of worker/messages.py."""

    @abstractmethod
    def stop(self, deadline_s: float) -> None:
        """End in order within `deadline_s`."""

    @abstractmethod
    def reload(self, resource: Resource) -> None:
        """Live changes of section 8.6."""

    @abstractmethod
    def set_sync_rate(self, bytes_s: int) -> None:
        """Limit synchronisation; 0 is no limit."""

    def extra_message(self, message: dict[str, Any]) -> bool:
        """A message that only this kind of worker knows; False when it does not."""
        return False

    # The provider

    def use_provider(self, opened: OpenedProvider, data_offset_bytes: int) -> LocalProvider:
        mark = FlushMark(paths.resource_file(self.resource.name, "flush"))
        self.provider = LocalProvider(
            opened, data_offset_bytes, self.reactor.call_soon_threadsafe, self._local_done, self._stored, mark
        )
        return self.provider

    def _local_done(self, batch: list[Request]) -> None:
        assert self.engine is not None
        self.engine.local_done(batch, self.reactor.now())

    def _stored(self, job: Store, error: int) -> None:
        assert self.engine is not None
        self.engine.stored(job, error, self.reactor.now())

    # The engine

    def start_ticking(self) -> None:
        """Call the engine's `tick` from now on, whenever it wants to be called."""
        assert self.engine is not None
        self._ticker = self.reactor.call_at(self.engine.tick(self.reactor.now()), self.start_ticking)

    def _round_end(self) -> None:
        engine = self.engine
        if engine is None:
            return
        effects, provider = engine.effects, self.provider
        for _ in range(MAX_PASSES):
            self.carry_out(effects)
            if effects.stores:
                assert provider is not None
                stores, effects.stores = effects.stores, []
                for job in stores:
                    provider.store(job)
            if effects.local:
                assert provider is not None
                local, effects.local = effects.local, []
                done = provider.submit(local)
                if done:
                    engine.local_done(done, self.reactor.now())
            if effects.events:
                events, effects.events = effects.events, []
                for event in events:
                    self.say_event(event.name, event.text, event.level, event.details)
            if not (effects.local or effects.stores or effects.events or self.more_to_do(effects)):
                return
        self.reactor.call_soon_threadsafe(_nothing)

    # The supervisor

    def say(self, message: dict[str, Any]) -> None:
        """Send to the supervisor; queued while it does not read, dropped oldest first when it never does."""
        if len(self._outgoing) >= MAX_QUEUED_MESSAGES:
            self._outgoing.popleft()
        self._outgoing.append(message)
        self._send_messages()

    def say_event(self, name: str, text: str, level: str = "info", details: dict[str, Any] | None = None) -> None:
        """An event, for the supervisor's log, hooks and history. Without a supervisor it is logged here."""
        if self._control.fileno() < 0:
            log.log(LEVELS.get(level, logging.INFO), "%s", text)
            return
        more = {} if details is None else {"details": details}
        self.say({"say": "event", "name": name, "text": text, "level": level, **more})

    def refuse(self, text: str, exit_code: int) -> None:
        """The role cannot be held: tell why, and end. The supervisor logs it; without one it is logged here."""
        if self._control.fileno() < 0:
            log.error("%s", text)
        self.say({"say": "refused", "text": text, "exit": exit_code})
        self.finish(exit_code)

    def finish(self, exit_code: int) -> None:
        """End the loop; the first exit code given counts."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.reactor.stop()

    def _send_messages(self) -> None:
        if self._control.fileno() < 0:
            self._outgoing.clear()
            return
        while self._outgoing:
            try:
                messages.send(self._control, self._outgoing[0])
            except BlockingIOError:
                self.reactor.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except (OSError, ValueError) as error:
                log.error("Unable to tell the supervisor: %s.", in_words(error))
            self._outgoing.popleft()

    def _control_ready(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self.reactor.modify(self._control.fileno(), select.EPOLLIN)
            self._send_messages()
        if mask & ~select.EPOLLOUT:
            self._receive_message()

    def _receive_message(self) -> None:
        try:
            message, _descriptors = messages.receive(self._control)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            log.error("Bad message from the supervisor: %s.", in_words(error))
            message = None
        if message is None:
            self._supervisor_gone()
            return
        try:
            self._dispatch(message)
        except (KeyError, TypeError, ValueError) as error:
            log.error("Bad message from the supervisor: %s: %s.", type(error).__name__, error)
            if "id" in message:
                self.say({"reply": message["id"], "error": f"bad message: {error}"})

    def _supervisor_gone(self) -> None:
        log.warning("The supervisor is gone; ending in order.")
        self.reactor.remove(self._control.fileno())
        self._control.close()
        self.leaving = self.orphaned = True
        self.stop(float(self.resource.timeout_s))

    def _dispatch(self, message: dict[str, Any]) -> None:
        do, number = message.get("do"), message.get("id")
        if do == "status":
            self.say({"reply": number, "status": self.status()})
        elif do == "stop":
            self.leaving = bool(message.get("leaving"))
            self.stop(float(message.get("deadline_s") or 0.0))
        elif do == "reload":
            self._reload(messages.resource_from_json(message["resource"]))
            self.say({"reply": number, "error": None})
        elif do == "sync-rate":
            self.set_sync_rate(int(message["bytes_s"]))
            self.say({"reply": number, "error": None})
        elif not self.extra_message(message):
            self.say({"reply": number, "error": f"unknown request {str(do)[:40]!a}"})

    def _reload(self, resource: Resource) -> None:
        self.reload(resource)
        self.resource = resource


def _nothing() -> None:
    """Keeps the loop going for one more round."""
