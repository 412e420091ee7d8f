"""The half of hast-devd that runs actions, as root: by the rules that it has read itself, for the half without rights.

The other half says which rule an event matched, never what is to be run. The rule has to accept the event here, too,
and values of events reach an action as variables only: whoever takes the other half over can have carried out what
devd.conf says of some event, and can keep it from being carried out, no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine
from typing import Any

from hast.config.devd_model import DevdConfiguration, Rule
from hast.config.model import ConfigError
from hast.failover.devd.actions import CARPD, HASTD, LocalActions
from hast.failover.devd.channel import KEPT_GENERATIONS, Channel, rules_to_json
from hast.failover.devd.events import Event, from_object
from hast.failover.devd.runner import NOT_FOUND, Newer
from hast.failover.devd.settings import Settings
from hast.worker.successor import user_of

DRAIN_S = 10.0
MAX_RUNNING = 64
_PUMP_BYTES = 65536
_log = logging.getLogger("hast.devd")


class ActionServer:
    """For one other half, on one socket. `run` ends with it, and leaves running actions to `running`."""

    def __init__(self, sock: socket.socket, settings: Settings) -> None:
        self._settings = settings
        self._actions = LocalActions(settings)
        self._gone = asyncio.Event()
        self._channel = Channel(sock, self._received, self._gone.set)
        self._generations: dict[int, tuple[Rule, ...]] = {}
        self._newest = 0
        self._newer: dict[int, Newer] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the other half is gone."""
        try:
            self._tell_rules(self._settings.load())
        except ConfigError as error:
            self._channel.send({"error": str(error), "exit": error.exit_code})
            return
        await self._actions.begin(self._tell_event, self._tell_rules)
        try:
            await self._gone.wait()
        finally:
            await self._actions.end()

    async def drain(self, limit_s: float) -> None:
        """What runs goes on to its end, whatever became of who asked for it."""
        if self.running:
            await asyncio.wait(self.running, timeout=limit_s)

    def _tell_rules(self, configuration: DevdConfiguration) -> None:
        self._newest += 1
        self._generations[self._newest] = configuration.rules
        self._generations.pop(self._newest - KEPT_GENERATIONS, None)
        told = {"rules": rules_to_json(configuration.rules), "generation": self._newest, "path": configuration.path}
        self._channel.send(told)

    def _tell_event(self, event: Event) -> None:
        self._channel.send({"event": dict(event.variables)})

    def _received(self, message: dict[str, Any], descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            self._carry_out(message)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            _log.error("refused, not of hast-devd: %s: %s", type(error).__name__, error)
            self._channel.close()

    def _carry_out(self, message: dict[str, Any]) -> None:
        if "run" in message:
            self._spawn(self._execute(int(message["id"]), *self._found(message["run"]), from_object(message["event"])))
        elif "newer" in message:
            newer = self._newer.get(message["newer"])
            if newer is not None:
                newer.say()
        elif "open" in message:
            since = None if message["since"] is None else int(message["since"])
            self._spawn(self._open(int(message["id"]), str(message["open"]), since))
        elif "told" in message:
            self._actions.told(Event({"system": str(message["told"]["system"])}), bool(message["moves"]))
        elif "leave" in message:
            self._spawn(self._leave(int(message["leave"])))
        elif "reload" in message:
            self._actions.reload()
        else:
            raise ValueError(f"unknown request {list(message)[:3]!a}")

    def _found(self, place: list[int]) -> tuple[Rule, int]:
        generation, rule, number = (int(each) for each in place)
        if min(rule, number) < 0:
            raise ValueError("a number below 0")
        found = self._generations[generation][rule]
        _ = found.actions[number]
        return found, number

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self.running) >= MAX_RUNNING:
            work.close()
            raise ValueError(f"more than {MAX_RUNNING} requests at once")
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _execute(self, identifier: int, rule: Rule, number: int, event: Event) -> None:
        code = NOT_FOUND
        if rule.accepts(event.variables):
            newer = self._newer[identifier] = Newer()
            try:
                code = await self._actions.execute(rule, number, event, newer)
            finally:
                del self._newer[identifier]
        else:
            _log.error("%s: refused, the rule is not for this event: %s", rule.location, event)
        self._channel.send({"done": identifier, "code": code})

    async def _open(self, identifier: int, source: str, since: int | None) -> None:
        if source not in (CARPD, HASTD):
            self._channel.send({"opened": identifier, "error": "no such source"})
            return
        try:
            reader, writer = await self._actions.open(source, since)
        except (OSError, TimeoutError) as error:
            text = getattr(error, "strerror", None) or str(error) or "no answer"
            self._channel.send({"opened": identifier, "error": text})
            return
        ours, theirs = socket.socketpair()
        self._channel.send({"opened": identifier}, [theirs.detach()])
        try:
            await _pump(reader, ours)
        finally:
            writer.close()

    async def _leave(self, identifier: int) -> None:
        await self._actions.leave()
        self._channel.send({"left": identifier})


async def _pump(reader: asyncio.StreamReader, ours: socket.socket) -> None:
    """One way only: whoever reads events gives no orders."""
    _reader, writer = await asyncio.open_unix_connection(sock=ours)
    closed = asyncio.ensure_future(_reader.read())
    try:
        while True:
            piece = asyncio.ensure_future(reader.read(_PUMP_BYTES))
            await asyncio.wait((piece, closed), return_when=asyncio.FIRST_COMPLETED)
            if closed.done() or not piece.done() or not piece.result():
                piece.cancel()
                return
            writer.write(piece.result())
            await writer.drain()
    except OSError:
        pass
    finally:
        closed.cancel()
        writer.close()


async def serve_many(listening: socket.socket, user: int, settings: Settings, stop: asyncio.Event) -> None:
    """Each that comes as this user, until `stop`."""
    running: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def accept() -> None:
        while True:
            sock, _address = await loop.sock_accept(listening)
            pid, uid = user_of(sock)
            if uid not in (0, user):
                _log.warning("process %d of user %d wants actions to be run; refused", pid, uid)
                sock.close()
                continue
            server = ActionServer(sock, settings)
            task = loop.create_task(_serve(server, settings.deadline_s))
            running.add(task)
            task.add_done_callback(running.discard)

    accepting = loop.create_task(accept())
    await stop.wait()
    accepting.cancel()
    if running:
        await asyncio.wait(running, timeout=DRAIN_S)


async def _serve(server: ActionServer, limit_s: float) -> None:
    await server.run()
    await server.drain(limit_s)
