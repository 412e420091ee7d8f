"""What both kinds of worker share: the channel to the supervisor, the exit, the provider, and carrying out effects.

A worker is a shell around one engine: it hands batches in and carries `Effects` out, once per wake-up of the reactor,
and decides nothing about data. Whatever a supervisor asks is answered in the round in which it is read.
"""

from __future__ import annotations

import logging
import math
import os
import select
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from hast.config.model import Resource
from hast.daemon import paths, privileges
from hast.daemon.logs import LEVELS, in_words
from hast.daemon.release import RELEASE
from hast.replication.types import Effects, Request, Store
from hast.worker import messages
from hast.worker.disk.decisions.patience import Hang
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.flush_witness import Locker, nothing_failed
from hast.worker.disk.last_close import let_go
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import OpenedProvider
from hast.worker.interfaces import Timer
from hast.worker.reactor import EpollReactor, on_beat
from hast.worker.successor import STATE_VERSION, Offer, Successor

log = logging.getLogger("hast.worker")

MAX_PASSES = 64
"""Passes over the effects in one round; what is left after that waits for the next round."""
MAX_QUEUED_MESSAGES = 1000
LOOK_EVERY_S, LOOK_IDLE_EVERY_S = 0.5, 1.0
"""How often the disk is looked at, whether it answers."""
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
EXIT_SYSTEM = 71
EXIT_TEMPORARY = 75
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ORPHAN_LIMIT_S = float(os.environ.get("HAST_ORPHAN_LIMIT_S", "inf"))
"""How long a worker goes on without hastd. For tests, which leave nothing behind."""


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


E = TypeVar("E", bound=Engine)


class Worker(ABC, Generic[E]):
    """One resource in one role, from the start message to the exit. Subclasses set `engine` and `provider`."""

    role = ""

    def __init__(self, reactor: EpollReactor, control: socket.socket, start: dict[str, Any]) -> None:
        self.reactor = reactor
        self.resource = resource = messages.resource_from_json(start["resource"])
        self._user = privileges.Identity(*start["user"]) if start.get("user") else None
        self.engine: E | None = None
        self.provider: LocalProvider | None = None
        self.lingers = False
        """Threads of this process sleep in the disk: its end is not seen before they are back."""
        self.exit_code: int | None = None
        self.stopping = False
        self.orphaned = False
        """It ends because its supervisor is gone."""
        self.ready: dict[str, Any] | None = None
        """The message that said so, once the role is held."""
        self.leaving = False
        """It stops because its node gives the role up, and the peer is told so."""
        self._control = control
        self._hang_text = ""
        self._outgoing: deque[tuple[dict[str, Any], list[int]]] = deque()
        self.locker: Locker | None = None
        """Where a second opening of the disk outlives this worker (`flush_witness.py`)."""
        self._ticker: Timer | None = None
        self._received: list[int] = []
        self._letting_go = False
        """It was told to prepare for its end."""
        path = paths.worker_file(resource.name, "adopt")
        self._successor = Successor(reactor, path, self._make_offer, self._adopted)
        self._orphan_timer: Timer | None = None
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

    def note_lead(self, effects: Effects) -> None:
        """Before anything that it may lead to leaves this process."""
        if effects.lead is not None and self.provider is not None:
            self.provider.note_lead(effects.lead)
        effects.lead = None

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

    @abstractmethod
    def disk_hung(self, text: str) -> None:
        """The local disk was given up; what it was given fails now."""

    def supervisor_changed(self, there: bool) -> None:
        """It goes on without a supervisor for now, or another one has taken over."""
        del there

    def handed_over(self) -> Offer:
        """What of this role the next supervisor has to know, and the descriptors that it has to own."""
        return {}, []

    def extra_message(self, message: dict[str, Any]) -> bool:
        """A message that only this kind of worker knows; False when it does not."""
        return False

    # Rights

    def give_up_rights(self) -> bool:
        """Become the user that hastd's workers run as, once the disk is open and before a byte of anybody else is
        read. False: it could not be, and this worker ends."""
        kept = privileges.to_lock_memory()
        if self._user is None:
            return True
        try:
            privileges.become(self._user, kept)
        except OSError as error:
            self.refuse(f"Unable to give up the rights of root: {in_words(error)}.", EXIT_SYSTEM)
            return False
        return True

    # The provider

    def use_provider(self, opened: OpenedProvider, data_offset_bytes: int) -> LocalProvider:
        mark = FlushMark(paths.worker_file(self.resource.name, "flush"))
        self._hear(mark, opened)
        self.provider = LocalProvider(
            opened,
            data_offset_bytes,
            self.reactor,
            self._local_done,
            self._stored,
            mark,
            float(self.resource.disk_timeout_s),
            self.resource.disk_cache,
        )
        self._hang_text = ""
        self._watch_disk(self.provider)
        return self.provider

    def _hear(self, mark: FlushMark, opened: OpenedProvider) -> None:
        """Did a flush fail of which the worker before this one can tell nobody? And leave the same for the next one.

        Asked before anything is served only: the disk may take its time.
        """
        if self.locker is None:
            let_go([opened.witness_fd] if opened.witness_fd >= 0 else [])
            return
        witness = self.locker.take() if self.provider is None and mark.doubtful else -1
        if witness >= 0 and nothing_failed(witness, opened.fd, self.disk_limit_s()):
            mark.believe()
        self.locker.put(opened.witness_fd)

    def drop_witness(self) -> None:
        """The disk is let go: nobody keeps it open."""
        if self.locker is not None:
            self.locker.drop()

    def change_provider(self, opened: OpenedProvider, data_offset_bytes: int) -> LocalProvider:
        """Another one takes the place of the one that was closed, or that hangs."""
        self.close_provider()
        return self.use_provider(opened, data_offset_bytes)

    def _watch_disk(self, provider: LocalProvider) -> None:
        if provider is not self.provider:
            return
        if provider.look(lambda hang: self._disk_lost(provider.path, hang)) is None:
            now = self.reactor.now()
            next_s = now + (LOOK_IDLE_EVERY_S if provider.idle else LOOK_EVERY_S)
            self.reactor.call_at(on_beat(now, next_s), lambda: self._watch_disk(provider))

    def _disk_lost(self, path: str, hang: Hang) -> None:
        self._hang_text = _hang_in_words(path, hang, time.time() - self.reactor.now())
        self.say_event("disk-hung", self._hang_text, "error")
        self.disk_hung(self._hang_text)

    def close_provider(self) -> bool:
        """Release the disk, or note that it cannot be released."""
        released = self.provider is None or self.provider.close()
        self.lingers = self.lingers or not released
        return released

    def disk_limit_s(self) -> float:
        """How long the disk may take."""
        return float(self.resource.disk_timeout_s)

    def say_left(self) -> None:
        """After the end of all else: this process goes as soon as its disk lets it."""
        if self.lingers:
            reason = self._hang_text or f"Disk {self.resource.local} does not answer."
            self.say({"say": "left", "exit": self.exit_code, "reason": reason})

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
        now = self.reactor.now()
        self._ticker = self.reactor.call_at(on_beat(now, self.engine.tick(now)), self.start_ticking)

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

    def say(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send to the supervisor, with copies of these descriptors; queued while it does not read, dropped oldest first
        when it never does."""
        if len(self._outgoing) >= MAX_QUEUED_MESSAGES:
            self._outgoing.popleft()
        self._outgoing.append((message, list(descriptors)))
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
        self._successor.close()
        self.reactor.stop()

    def _send_messages(self) -> None:
        if self._control.fileno() < 0:
            self._outgoing.clear()
            return
        while self._outgoing:
            try:
                messages.send(self._control, *self._outgoing[0])
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
            message, descriptors = messages.receive(self._control)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            log.error("Bad message from the supervisor: %s.", in_words(error))
            message, descriptors = None, []
        self._received = descriptors
        if message is None:
            self._supervisor_gone()
            return
        try:
            self._dispatch(message)
        except (KeyError, TypeError, ValueError) as error:
            log.error("Bad message from the supervisor: %s: %s.", type(error).__name__, error)
            if "id" in message:
                self.say({"reply": message["id"], "error": f"bad message: {error}"})
        for descriptor in self.take_received():
            os.close(descriptor)

    def take_received(self) -> list[int]:
        """The descriptors that came with the message at hand: the caller's from now on."""
        taken, self._received = self._received, []
        return taken

    def say_ready(self, **more: Any) -> None:
        """The role is held."""
        self.ready = {"say": "ready", **more}
        if self._control.fileno() < 0:
            self._wait_for_the_next_supervisor()
        else:
            self.say(self.ready)

    def may_begin_alone(self) -> bool:
        """Whether its role is held once it is ready, though the supervisor that started it is gone."""
        return False

    def _supervisor_gone(self) -> None:
        """Whoever begins or ends ends; a role that is held is held on, if the next supervisor can be waited for."""
        self.reactor.remove(self._control.fileno())
        self._control.close()
        if self.stopping or self._letting_go or (self.ready is None and not self.may_begin_alone()):
            self.end_orphaned("hastd is gone; ending in order.")
        elif self.ready is not None:
            self._wait_for_the_next_supervisor()

    def _wait_for_the_next_supervisor(self) -> None:
        try:
            self._successor.wait()
        except OSError as error:
            self.end_orphaned(f"hastd is gone and cannot be waited for ({in_words(error)}); ending in order.")
            return
        log.warning("hastd is gone; this worker goes on and waits for the next one.")
        if math.isfinite(ORPHAN_LIMIT_S):
            limit = f"hastd did not come back within {ORPHAN_LIMIT_S:g} s; ending in order."
            self._orphan_timer = self.reactor.call_later(ORPHAN_LIMIT_S, lambda: self.end_orphaned(limit))
        self.supervisor_changed(there=False)

    def end_orphaned(self, reason: str) -> None:
        """End in order, with nobody to wait for it."""
        log.warning("%s", reason)
        self._successor.close()
        self.leaving = self.orphaned = True
        self.stop(float(self.resource.timeout_s))

    def _make_offer(self) -> Offer:
        more, descriptors = self.handed_over()
        offer = {
            "say": "offer",
            "version": STATE_VERSION,
            "role": self.role,
            "resource": messages.resource_to_json(self.resource),
            "ready": self.ready,
            "release": RELEASE,
        }
        return offer | more, descriptors

    def _adopted(self, control: socket.socket, message: dict[str, Any]) -> None:
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
            self._orphan_timer = None
        self._control = control
        self.reactor.add(control.fileno(), select.EPOLLIN, self._control_ready)
        log.info("The next hastd has taken this worker over.")
        self.say({"reply": message.get("id"), "error": None})
        self.supervisor_changed(there=True)

    def _dispatch(self, message: dict[str, Any]) -> None:
        do, number = message.get("do"), message.get("id")
        self._letting_go = self._letting_go or do in ("leave", "withhold")
        if do == "status":
            self.say({"reply": number, "status": self.status()})
        elif do == "stop":
            self.leaving = bool(message.get("leaving"))
            self.stop(float(message.get("deadline_s") or 0.0))
        elif do == "give-way":
            self.finish(EXIT_TEMPORARY)
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
        if self.provider is not None:
            self.provider.disk_timeout_s = float(resource.disk_timeout_s)


def _hang_in_words(path: str, hang: Hang, wall_offset_s: float) -> str:
    """For the event and for status. `wall_offset_s` added to `began_s` gives seconds since 1970."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(hang.began_s + wall_offset_s))
    return f"Disk {path} does not answer since {since} ({hang.operation}, {hang.age_s:.0f} s)."


def _nothing() -> None:
    """Keeps the loop going for one more round."""
