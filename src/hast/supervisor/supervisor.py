"""hastd's parent process: holds the resources, serves control requests, accepts peers, reloads, stops in order.

One asyncio loop that never blocks: providers are touched only by workers and probes, names are looked up in threads,
hooks are processes of their own. The sockets are opened before the loop starts (and before the daemon forks).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hast.config.model import ConfigError, Configuration, Resource
from hast.daemon import config_record, descriptors, sockets
from hast.daemon.in_thread import in_thread
from hast.daemon.logs import context
from hast.daemon.notify import Notifier
from hast.daemon.pidfile import Pidfile, PidfileError
from hast.daemon.release import RELEASE
from hast.format.constants import PROTOCOL_VERSION, Role
from hast.supervisor import adoption, memory, peer_sockets, worker_places
from hast.supervisor.arbiter_link import MakeDealings
from hast.supervisor.commands import Commands
from hast.supervisor.control_server import MAX_CLIENTS, ControlServer
from hast.supervisor.decisions import descriptor_share, reload_plan, role_change
from hast.supervisor.decisions.ending import End, end, to_renew
from hast.supervisor.environment import Environment
from hast.supervisor.events import EventBus
from hast.supervisor.hooks import HookRunner
from hast.supervisor.listener import MAX_HALF_OPEN, PeerListener
from hast.supervisor.memory import Journal
from hast.supervisor.observer import open_observer, unlink_observer
from hast.supervisor.peer_certificates import PeerCertificates
from hast.supervisor.peer_names import PeerNames
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.renewal import Renewal
from hast.supervisor.resource_state import ResourceState
from hast.supervisor.worker_pool import WorkerPool
from hast.supervisor.worker_talk import RoleError

log = logging.getLogger("hast.supervisor")

HOOK_GRACE_S = 5.0
LOAD_DEADLINE_S = 10.0
OPEN_DEADLINE_S = 10.0
MAX_STANDBYS = 3
STOP_LIMIT_S = 60.0
"""For the whole of an orderly end; a resource whose `timeout` asks for more is given it, up to MAX_STOP_LIMIT_S."""
MAX_STOP_LIMIT_S = 90.0
STOP_OVERTIME_S = 30.0
"""After it: for devices to be closed over users that do not let go. packaging/systemd/hastd.service allows 180 s."""
ABANDON_LIMIT_S = 10.0
SETTLE_LIMIT_S = 10.0
REPLY_S = 0.1
"""For the answer to whoever ordered it."""
TELL_AWAITED_S = 5.0
"""How often the log says what the end waits for."""


@dataclass(slots=True)
class Opened:
    """What was opened before the loop started; the supervisor owns it from then on."""

    control: socket.socket
    listeners: dict[str, list[socket.socket]]
    pidfile: Pidfile | None = None
    run_lock: Pidfile | None = None
    """Held on the run directory, which belongs to one hastd."""


async def _never() -> bool:
    return False


@dataclass(slots=True)
class Options:
    """Command line of hastd, as far as the supervisor needs it."""

    load: Callable[[], Configuration]
    """Reads the configuration again; raises ConfigError."""
    foreground: bool = False
    debug: int = 0
    fixed_pidfile: bool = False
    """The pidfile was given on the command line, or there is none: a reload does not move it."""
    make_dealings: MakeDealings | None = None
    starts_again: Callable[[], Awaitable[bool]] = _never
    """Whether the service manager, which ends this hastd, is about to start the next one."""
    generation: int = 0
    """How often this process has replaced itself."""
    hand_over: Callable[[str], Awaitable[object]] | None = None
    """Moves what primaries of this host serve to the other host before the end; is given the control socket's path."""


class Supervisor:
    """Runs until SIGTERM, SIGINT or `stop`."""

    def __init__(
        self, configuration: Configuration, options: Options, opened: Opened, notifier: Notifier | None = None
    ) -> None:
        self.configuration = configuration
        self.events = EventBus()
        self._options = options
        self._notifier = notifier or Notifier({})
        self._opened = opened
        self._states: dict[str, ResourceState] = {}
        self._renewal = Renewal(self._states, options.generation)
        resolver = PoolResolver(self._states, lambda: self.configuration.path)
        self._environment = Environment(
            self.events,
            HookRunner(options.foreground),
            WorkerPool(min(MAX_STANDBYS, len(configuration.resources)), worker_places.prepare()),
            resolver,
            PoolLeave(self._states, resolver),
            options.foreground,
            options.debug,
            options.make_dealings,
        )
        self._commands = Commands(
            self._states,
            self.events,
            resolver,
            self._environment.leaves,
            lambda: self.configuration.path,
            self.reload,
            self.replace,
            self._renewal,
        )
        self._journal = Journal()
        self._releases: dict[str, str] = {}
        """Of the workers that were taken over."""
        self._names = PeerNames()
        self._listeners: dict[str, PeerListener] = {}
        self._certificates: PeerCertificates | None = None
        self._control: ControlServer | None = None
        self._observer: ControlServer | None = None
        self._stopping = asyncio.Event()
        self._replaces_itself = False
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def states(self) -> Mapping[str, ResourceState]:
        return self._states

    async def run(self) -> End:
        """Serve until told to stop, then end as is returned. Raises adoption.NotUnderstood."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        plan = await self._take_over() if self._opened.run_lock is not None else None
        for resource in self.configuration.resources.values():
            if resource.name not in self._states:
                self._states[resource.name] = ResourceState(resource, self._environment)
        self._names.configure(self._remotes())
        self._certificates = PeerCertificates(self._states)
        for address, listening in self._opened.listeners.items():
            self._listeners[address] = self._listen(listening)
        self._control = ControlServer(self._commands, self._opened.control)
        self._observer = open_observer(self._commands)
        config_record.write(self.configuration.path, self.configuration.control)
        self._environment.pool.fill_later(0.0)
        log.info("Started successfully, running protocol version %d.", PROTOCOL_VERSION)
        worker_places.tell_rights()
        self._look_at_links()
        self._spawn(self._notifier.beat())
        self._spawn(self._catch_up(plan))
        self._notifier.ready(f"{len(self._states)} resources, {_roles(self._states.values())}.")
        await self._stopping.wait()
        return await self._end()

    async def _end(self) -> End:
        comes = not self._replaces_itself and await self._options.starts_again()
        kind = end(self._replaces_itself, comes)
        if kind is not End.BECOME_NEXT:
            self._notifier.stopping()
        if kind is not End.LET_GO:
            await self._leave_running()
            return kind
        if self._options.hand_over and any(state.role is Role.PRIMARY for state in self._states.values()):
            await self._options.hand_over(self.configuration.control)
        await self._stop()
        return kind

    async def _take_over(self) -> reload_plan.ReloadPlan:
        """Adopt what a hastd that died left running, end the rest. Returns how adopted resources follow a configuration
        that has changed since. Raises adoption.NotUnderstood."""
        offers = await adoption.find()
        await adoption.end_others(offers)
        self.events.restore(self._journal.read())
        self.events.written = self._journal.write
        for name, offer in offers.items():
            self._states[name] = ResourceState(offer.resource, self._environment)
        await asyncio.gather(
            *(self._states[name].adopt(offer, memory.recorded_role(name)) for name, offer in offers.items())
        )
        for offer in offers.values():
            for descriptor in offer.take_descriptors():
                os.close(descriptor)
        for name, resource in self.configuration.resources.items():
            if name not in offers:
                self._states[name] = ResourceState(resource, self._environment)
                self._states[name].remember(memory.recorded_role(name))
        self._releases = {name: offer.release for name, offer in offers.items()}
        old = replace(self.configuration, resources={n: s.resource for n, s in self._states.items()})
        roles = {name: state.role for name, state in self._states.items()}
        return reload_plan.plan(old, self.configuration, roles)

    async def _catch_up(self, plan: reload_plan.ReloadPlan | None) -> None:
        """What was taken over follows the configuration, then the code, of this hastd."""
        if plan is not None:
            async with self._reloading:
                await self._change_resources(plan, self.configuration)
        replaced = self._options.generation > 0
        if (names := to_renew(self._releases, RELEASE, replaced)) or replaced:
            await self._renewal.run(names)

    def stop(self) -> None:
        """End `run`, as SIGTERM does."""
        self._stopping.set()

    def replace(self) -> int:
        """End `run` to become the hastd that is installed now, over the same workers; returns which one this is."""
        self._replaces_itself = True
        asyncio.get_running_loop().call_later(REPLY_S, self._stopping.set)
        return self._options.generation

    async def _leave_running(self) -> None:
        """Workers, devices and records stay as they are; role changes come to their end first."""
        log.info("Leaving %d workers to the next hastd.", sum(s.worker is not None for s in self._states.values()))
        self._environment.stopping = True
        settling = [asyncio.ensure_future(state.settled()) for state in self._states.values()]
        if settling:
            await asyncio.wait(settling, timeout=SETTLE_LIMIT_S)
        await self._close_doors()

    async def _close_doors(self) -> None:
        """Nobody is let in any more, and what runs beside the workers ends."""
        for listener in self._listeners.values():
            listener.close()
        if self._certificates is not None:
            self._certificates.close()
        await self._environment.pool.close()
        await self._environment.hooks.finish(HOOK_GRACE_S)
        for server in (self._control, self._observer):
            if server is not None:
                await server.close()
        sockets.unlink_control(self.configuration.control)
        unlink_observer()

    def _remotes(self) -> set[str]:
        return {remote for state in self._states.values() for remote in state.resource.remotes}

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        """The peer's questions are answered until every primary has let go: a closed socket is taken for death."""
        log.info("Stopping.")
        self._environment.stopping = True
        await self._let_go()
        await self._close_doors()
        self._journal.remove()
        config_record.remove(self.configuration.path)
        for pidfile in (self._opened.pidfile, self._opened.run_lock):
            if pidfile is not None:
                pidfile.close()
        self._names.close()
        log.info("Stopped.")

    async def _let_go(self) -> None:
        """All resources, those of one pool together; by force when the time is over."""
        states = list(self._states.values())
        longest_s = max((role_change.leave_limit_s(state.resource.timeout_s) for state in states), default=0.0)
        limit_s = min(max(STOP_LIMIT_S, longest_s), MAX_STOP_LIMIT_S)
        end_s = asyncio.get_running_loop().time() + limit_s
        meet = await self._environment.leaves.rendezvous([state.name for state in states])
        teller = asyncio.get_running_loop().create_task(self._tell_awaited(end_s))
        try:
            async with asyncio.timeout_at(end_s + STOP_OVERTIME_S):
                await asyncio.gather(*(state.shut_down(end_s, meet.get(state.name)) for state in states))
        except TimeoutError:
            log.error("Not stopped within %g s; ending by force.", limit_s + STOP_OVERTIME_S)
            await asyncio.wait([asyncio.ensure_future(state.abandon()) for state in states], timeout=ABANDON_LIMIT_S)
        finally:
            teller.cancel()

    async def _tell_awaited(self, end_s: float) -> None:
        while True:
            await asyncio.sleep(TELL_AWAITED_S)
            awaited = [state.awaited for state in self._states.values() if state.awaited]
            left_s = max(end_s - asyncio.get_running_loop().time(), 0.0)
            log.warning("Still stopping, %.0f s left: %s.", left_s, "; ".join(awaited) or "the last steps")

    # --- reload (section 8.6) -------------------------------------------------------------------------------------

    async def reload(self) -> str | None:
        """Read the configuration again and apply it. Returns why not, or None. Old state is kept on any error."""
        if self._environment.stopping:
            return "hastd is stopping."
        async with self._reloading:
            log.info("Reloading configuration.")
            try:
                new = await in_thread(self._options.load, LOAD_DEADLINE_S)
            except (ConfigError, TimeoutError) as error:
                late = f"{self.configuration.path} was not read within {LOAD_DEADLINE_S:g} s."
                reason = str(error) if isinstance(error, ConfigError) else late
                log.error("%s", reason)
                log.error("Configuration not reloaded.")
                return f"Configuration not reloaded: {reason}"
            roles = {name: state.role for name, state in self._states.items()}
            disks = {name: state.resource.local for name, state in self._states.items()}
            present = reload_plan.with_disks(self.configuration, disks)
            plan = reload_plan.plan(present, new, roles)
            if not await self._move_listeners(plan, new):
                log.error("No address to listen on. Configuration not reloaded.")
                return "Configuration not reloaded: No address to listen on."
            keep_control = plan.control_changed and not await self._move_control(new.control)
            keep_pidfile = plan.pidfile_changed and not self._move_pidfile(new.pidfile)
            self.configuration = reload_plan.keep_present(
                new, self.configuration, control=keep_control, pidfile=keep_pidfile
            )
            await self._change_resources(plan, new)
            self._names.configure(self._remotes())
            self._environment.pool.size = min(MAX_STANDBYS, len(self._states))
            config_record.write(self.configuration.path, self.configuration.control)
            log.info("Configuration reloaded.")
            if self._certificates is not None:
                self._certificates.look()
            self._look_at_links()
            self.events.publish("reload", "", "Configuration reloaded.")
            return None

    def _look_at_links(self) -> None:
        _tell_unsecured(self.configuration)
        if any(resource.is_secured for resource in self.configuration.resources.values()):
            self._spawn(worker_places.load_tls())

    async def _change_resources(self, plan: reload_plan.ReloadPlan, new: Configuration) -> None:
        for name in (*plan.restarted, *plan.live):
            state = self._states[name]
            what = reload_plan.changes(state.resource, new.resources[name])
            log.info("Resource changed: %s.", what, extra=context(name, state.role))
        await asyncio.gather(
            *(self._remove(name) for name in plan.removed),
            *(self._restart(self._states[name], new.resources[name]) for name in plan.restarted),
            *(self._states[name].reconfigure(new.resources[name]) for name in plan.live),
        )
        for name in plan.added:
            self._states[name] = ResourceState(new.resources[name], self._environment)
            log.info("Resource added.", extra=context(name, Role.INIT))

    async def _remove(self, name: str) -> None:
        state = self._states.pop(name)
        try:
            await state.retire()
        except RoleError as error:
            log.error("%s", error, extra=context(name, state.role))
        self.events.forget(name)
        log.info("Resource removed.", extra=context(name))

    async def _restart(self, state: ResourceState, resource: Resource) -> None:
        role = state.role
        try:
            await state.set_role(Role.INIT)
            await state.reconfigure(resource)
            await state.set_role(role)
        except RoleError as error:
            log.error("Role %s not restored after the change: %s", role, error, extra=context(state.name, state.role))

    async def _move_listeners(self, plan: reload_plan.ReloadPlan, new: Configuration) -> bool:
        """Open new addresses, close vanished ones. False, with nothing changed, when none would be left."""
        opened: dict[str, list[socket.socket]] = {}
        for address in plan.listen_added:
            try:
                opened[address] = await in_thread(partial(peer_sockets.open_listener, address), OPEN_DEADLINE_S)
            except (sockets.SocketError, TimeoutError) as error:
                log.warning("%s", error or f"Unable to listen on {address}: timed out.")
        kept = [address for address in self._listeners if address in new.listen]
        if not kept and not opened:
            return False
        for address in plan.listen_removed:
            listener = self._listeners.pop(address, None)
            if listener is not None:
                listener.close()
        for address, listening in opened.items():
            self._listeners[address] = self._listen(listening)
        return True

    def _listen(self, listening: list[socket.socket]) -> PeerListener:
        assert self._certificates is not None
        reports = self._commands.reports.for_peer
        return PeerListener(
            listening, self._states, self._names, self._certificates.look, reports, self._most_half_open
        )

    def _most_half_open(self) -> int:
        """Of one listener: descriptors are kept back for control and workers, however many resources there are."""
        share = (len(self._states), MAX_CLIENTS, MAX_HALF_OPEN, len(self._listeners))
        limit = descriptors.allow(descriptor_share.needed(*share))
        return descriptor_share.half_open_of_one(limit, *share)

    async def _move_control(self, address: str) -> bool:
        try:
            sock = sockets.open_control(address)
        except sockets.SocketError as error:
            log.error("%s The control socket stays at %s.", error, self.configuration.control)
            return False
        old, old_address = self._control, self.configuration.control
        self._control = ControlServer(self._commands, sock)
        sockets.unlink_control(old_address)
        if old is not None:
            self._spawn(old.close())
        return True

    def _move_pidfile(self, path: str) -> bool:
        if self._options.fixed_pidfile or self._opened.pidfile is None:
            return False
        try:
            moved = Pidfile(path)
        except PidfileError as error:
            log.error("%s The pidfile stays at %s.", error, self._opened.pidfile.path)
            return False
        moved.write()
        self._opened.pidfile.close()
        self._opened.pidfile = moved
        return True


def _tell_unsecured(configuration: Configuration) -> None:
    names = [each.name for each in configuration.resources.values() if each.remotes and not each.is_secured]
    if names:
        text = "no TLS with the other node; hastctl check tells what that means"
        log.warning("%s: %s.", ", ".join(sorted(names)), text)


def _roles(states: Iterable[ResourceState]) -> str:
    """`1 primary, 2 init`."""
    counted = Counter(str(state.role) for state in states)
    return ", ".join(f"{count} {role}" for role, count in sorted(counted.items())) or "no roles"
