"""One resource in the supervisor: its role, its worker, and every change of them (specification sections 8.3, 8.4).

Role changes of one resource are serialised by a lock; a change either arrives (the device of a primary exists) or says
why not and leaves the resource in a role it can hold. It never touches the disk: workers do.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Any

from hast.config.model import Resource
from hast.daemon.logs import LEVELS, context
from hast.device.export_device import ExportDevice, ExportError
from hast.format.constants import Role
from hast.replication.promotion import PeerState, may_serve
from hast.supervisor import arbiter_link, ask_peer
from hast.supervisor.arbiter_link import ArbiterLink
from hast.supervisor.environment import Environment
from hast.supervisor.live_settings import LiveSettings
from hast.supervisor.primary_holder import Backoff, PrimaryHolder, may_restart
from hast.supervisor.secondary_holder import SecondaryHolder
from hast.supervisor.split_brain import SplitBrainMemory, why_not_discard
from hast.supervisor.worker_process import Stuck, WorkerError, WorkerProcess
from hast.supervisor.worker_talk import RoleError, ask_status, order
from hast.worker import messages
from hast.worker.disk import resolve

log = logging.getLogger("hast.supervisor")

ASK_AGAIN_S = 1.0
WAIT_POLL_S = 0.02


class ResourceState:
    """A configured resource while hastd runs. Starts in role init."""

    def __init__(self, resource: Resource, environment: Environment) -> None:
        self.settings = LiveSettings(resource, lambda: self.worker, lambda: context(self.name, self.role))
        self.role = Role.INIT
        self.transition: str | None = None
        self.last_error: str | None = None
        self.connected = False
        self.split_brain = SplitBrainMemory()
        self.restarts = 0
        self._environment = environment
        self._holder: PrimaryHolder | None = None
        self._arbiter: ArbiterLink | None = None
        self.incoming = SecondaryHolder(resource.name, environment.pool, self._worker_said)
        self._lock = asyncio.Lock()
        self._starting = self._closed = self._waiting = False
        self._superseded: Role | None = None
        self._first = True
        self._backoff = Backoff()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def resource(self) -> Resource:
        """Its settings in effect."""
        return self.settings.resource

    @property
    def name(self) -> str:
        return self.settings.resource.name

    @property
    def worker(self) -> WorkerProcess | None:
        return self._holder.worker if self._holder is not None else self.incoming.worker

    @property
    def device(self) -> ExportDevice | None:
        return self._holder.device if self._holder is not None else None

    # --- role changes ---------------------------------------------------------------------------------------------

    async def set_role(self, new: Role, force: bool = False) -> Role:
        """Change the role and return the previous one once the new one is true. Raises RoleError."""
        if new is not Role.PRIMARY and self._waiting:
            self._superseded = new
        if new is not Role.PRIMARY and self._starting and self._holder is not None:
            self._superseded = new
            self._holder.interrupt()
        async with self._lock:
            if self._closed:
                raise RoleError("hastd is stopping, or the resource was removed.")
            old = self.role
            if new is old:
                await self._confirm(new, force)
                return old
            if new is Role.PRIMARY:
                if not force:
                    await self._refuse_inconsistent()
                    await self._wait_for_the_primary()
                await self._ask_arbiter(old, force)
            await self._leave(old, new)
            self.role = new
            self.last_error = None
            if new is Role.PRIMARY:
                await self._enter_primary(old, force)
            self._role_changed(old, new)
            return old

    async def retire(self) -> None:
        """The resource was removed: role init with its hook, and nothing after it. Raises RoleError."""
        try:
            await self.set_role(Role.INIT)
        finally:
            self._closed = True

    async def shut_down(self) -> None:
        """Orderly end without hooks: drain, detach, forget. Raises nothing."""
        self._closed = True
        if self._starting and self._holder is not None:
            self._superseded = Role.INIT
            self._holder.interrupt()
        async with self._lock:
            for task in list(self._tasks):
                task.cancel()
            try:
                await self._leave(self.role, Role.INIT)
            except RoleError as error:
                log.error("%s", error, extra=context(self.name, self.role))
            self.role = Role.INIT

    async def _confirm(self, role: Role, force: bool) -> None:
        """The role asked for is the present one: is it true? `force` lets held writes go on. Raises RoleError."""
        if role is not Role.PRIMARY:
            return
        if self._holder is None or not self._holder.serving:
            raise RoleError(self.last_error or "Already primary, but its worker is being restarted; see the log.")
        if force and self._arbiter is not None:
            log.warning("Writes go on by hand, whatever the arbiter says.", extra=context(self.name, role))
            await self._arbiter.overrule()

    async def _wait_for_the_primary(self) -> None:
        """A secondary stays connected until its primary lets go, or is dead. Raises RoleError after `timeout`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.resource.timeout_s
        self._waiting, self._superseded = True, None
        self.transition = "secondary to primary, waiting for the peer to become secondary"
        try:
            while self.connected and await ask_peer.is_primary(self.resource):
                ask_again_s = loop.time() + ASK_AGAIN_S
                while self.connected and loop.time() < ask_again_s:
                    if self._superseded is not None:
                        raise RoleError(f"Given up for role {self._superseded}.")
                    if loop.time() >= deadline_s:
                        verdict = may_serve(PeerState.PRIMARY, force=False, resume=False)
                        self._note_refusal(f"Unable to become primary: {verdict.reason}.")
                        raise RoleError(f"Unable to become primary: {verdict.reason}.")
                    await asyncio.sleep(WAIT_POLL_S)
        finally:
            self._waiting = False
            self.transition = None

    async def _ask_arbiter(self, old: Role, force: bool) -> None:
        """Before the other node is let go: is this node to be primary? Raises RoleError."""
        self.settings.take_configured()
        make = self._environment.make_dealings
        if make is None or not arbiter_link.is_wanted(self.resource):
            return
        self.transition = f"{old} to primary, asking the arbiter"
        self._arbiter = ArbiterLink(self.resource, make, self.tell_primary, self._step_down)
        try:
            reason = await self._arbiter.promote(force)
        finally:
            self.transition = None
        if reason is not None:
            await self._release_arbiter()
            self.last_error = f"Not primary: {reason}."
            raise RoleError(f"The arbiter refuses: {reason}.")

    async def _release_arbiter(self) -> None:
        arbiter, self._arbiter = self._arbiter, None
        if arbiter is not None:
            await arbiter.demoted()

    def _step_down(self, reason: str) -> None:
        log.error("Stepping down: %s.", reason, extra=context(self.name, self.role))
        self._spawn(self._give_way())

    async def _give_way(self) -> None:
        try:
            await self.set_role(Role.SECONDARY)
        except RoleError as error:
            log.error("%s", error, extra=context(self.name, self.role))

    async def _refuse_inconsistent(self) -> None:
        status = await self.worker_status()
        if status is not None and status.get("inconsistent"):
            raise RoleError(
                "The local copy is inconsistent: a synchronization into it has not finished. "
                "Let it finish with the peer as primary, or use --force to serve mixed data."
            )

    async def _leave(self, old: Role, new: Role) -> None:
        self.transition = f"{old} to {new}, stopping"
        try:
            if self._holder is not None:
                holder, self._holder = self._holder, None
                try:
                    await holder.stop()
                finally:
                    await self._release_arbiter()
            await self._stop_secondary()
        except Stuck as error:
            self.role = Role.INIT
            self.last_error = str(error)
            self._role_changed(old, Role.INIT)
            raise RoleError(str(error)) from None
        finally:
            self.connected = False
            self.transition = None

    async def _enter_primary(self, old: Role, force: bool) -> None:
        self.transition = f"{old} to primary, starting"
        self._superseded = None
        self._starting = True
        self._holder = PrimaryHolder(self.resource, self._environment.pool, self._worker_said)
        try:
            await self._holder.start(self._start_message(Role.PRIMARY) | {"first": self._first}, force)
        except (WorkerError, ExportError) as error:
            reason = f"Given up for role {self._superseded}." if self._superseded is not None else str(error)
            await self._undo_promotion(old, reason)
            raise RoleError(reason) from None
        except asyncio.CancelledError:
            await self._undo_promotion(old, "Cancelled.")
            raise
        finally:
            self._starting = False
            self.transition = None
        self._first = False
        await self.settings.apply_sync_rate()
        worker = self._holder.worker
        if worker is not None and worker.ended.is_set() and self._holder.serving:
            self._primary_worker_lost(worker)

    async def _undo_promotion(self, old: Role, reason: str) -> None:
        holder, self._holder = self._holder, None
        self.role = Role.SECONDARY if old is Role.SECONDARY else Role.INIT
        self.connected = False
        if holder is not None:
            await holder.discard()
        await self._release_arbiter()
        self._note_refusal(reason)

    def _note_refusal(self, reason: str) -> None:
        self.last_error = f"Not primary: {reason}"
        log.error("Unable to become primary: %s", reason, extra=context(self.name, self.role))
        self._environment.events.publish("refused", self.name, reason, "error", role=str(self.role))

    def _role_changed(self, old: Role, new: Role, text: str = "") -> None:
        line = text or f"Role changed from {old} to {new}."
        log.info("%s", line, extra=context(self.name, new))
        self._environment.events.publish("role", self.name, line, old=str(old), new=str(new))
        self._environment.hooks.fire(self.resource.exec_path, "role", self.name, (str(old), str(new)))

    # --- a primary's worker dies ----------------------------------------------------------------------------------

    async def _primary_ended(self, dead: WorkerProcess) -> None:
        """Start a worker again under the same device, with back-off, or give the role up (section 8.4)."""
        while may_restart(dead):
            delay_s = self._backoff.next_delay_s(asyncio.get_running_loop().time())
            log.warning("Restarting the worker in %g s.", delay_s, extra=context(self.name, self.role))
            await asyncio.sleep(delay_s)
            async with self._lock:
                if self._holder is None or self._holder.worker is not dead:
                    return
                if await self._restart_worker(self._holder):
                    return
                assert self._holder.worker is not None
                dead = self._holder.worker
        async with self._lock:
            if self._holder is not None and self._holder.worker is dead:
                await self._give_up(dead.refused or f"The worker process ended ({dead.how_it_ended()}); see the log.")

    async def _restart_worker(self, holder: PrimaryHolder) -> bool:
        self._starting = True
        try:
            await holder.replace_worker(self._start_message(Role.PRIMARY))
            if holder.worker is None or holder.worker.ended.is_set():
                raise WorkerError("The new worker process ended as soon as it was ready; see the log.")
        except (WorkerError, ExportError) as error:
            self.last_error = str(error)
            log.error("Restart failed: %s", error, extra=context(self.name, self.role))
            await holder.end_worker()
            return False
        finally:
            self._starting = False
        if self._arbiter is not None:
            self._arbiter.worker_replaced()
        self.restarts += 1
        self.last_error = None
        text = "The worker was restarted; the device was kept."
        log.info("%s", text, extra=context(self.name, self.role))
        self._environment.events.publish("restarted", self.name, text, "warning")
        await self.settings.apply_sync_rate()
        return True

    async def _give_up(self, reason: str) -> None:
        holder, self._holder = self._holder, None
        self.connected = False
        if holder is not None:
            await holder.discard()
        await self._release_arbiter()
        self.role = Role.INIT
        self.last_error = f"No longer primary: {reason}"
        log.error("%s", reason, extra=context(self.name, Role.PRIMARY))
        self._role_changed(Role.PRIMARY, Role.INIT, "Changing resource role back to init.")

    # --- secondary --------------------------------------------------------------------------------------------------

    async def replace_connection(self) -> bool:
        """Make way for a new connection A: end the old worker. False when that cannot be done."""
        async with self._lock:
            if self.role is not Role.SECONDARY:
                return False
            try:
                await self._stop_secondary()
            except Stuck as error:
                log.error("%s", error, extra=context(self.name, self.role))
                return False
            return True

    async def start_secondary(self, sock: socket.socket, hello: bytes, address: str) -> None:
        """Start the worker for a complete pair of connections; takes both sockets. Raises RoleError."""
        async with self._lock:
            if self.role is not Role.SECONDARY:
                raise RoleError(f"Remote node acts as {self.role} for the resource and not as secondary.")
            try:
                await self.incoming.start(self._start_message(Role.SECONDARY), sock, hello, address)
            except WorkerError as error:
                log.error("%s", error, extra=context(self.name, self.role))
                raise RoleError(str(error)) from None

    async def _stop_secondary(self) -> None:
        if await self.incoming.stop():
            self._secondary_gone("The connection was closed by this node.")

    def _secondary_ended(self, dead: WorkerProcess) -> None:
        if dead.refused is not None or dead.exit_code not in (0, 75):
            self.last_error = dead.refused or f"The worker process ended ({dead.how_it_ended()})."
            log.error("%s", self.last_error, extra=context(self.name, self.role))
        self._secondary_gone("The worker process ended.")

    def _secondary_gone(self, text: str) -> None:
        if self.connected:
            self._worker_event({"name": "disconnect", "text": text, "level": "warning"})
        self.incoming.worker = None
        self.connected = False

    # --- what workers say -------------------------------------------------------------------------------------------

    def _worker_said(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if worker is not self.worker:
            return
        say = message.get("say")
        if say == "event":
            self._worker_event(message)
        elif say == "ask":
            question = str(message.get("question") or "")[:64]
            text = f"The arbiter is asked: {question}."
            self._environment.events.publish("ask", self.name, text, "warning", question=question)
            if self._arbiter is not None:
                self._arbiter.ask(question)
        elif say == "ready":
            self._spawn(worker.watch())
            if worker is self.incoming.worker:
                self.last_error = None
                self._spawn(self.settings.apply_sync_rate())
        elif say == "ended" and not worker.stopping:
            if worker is self.incoming.worker:
                self._secondary_ended(worker)
            elif not self._starting:
                self._primary_worker_lost(worker)

    def _primary_worker_lost(self, worker: WorkerProcess) -> None:
        log.error("The worker process ended: %s.", worker.how_it_ended(), extra=context(self.name, self.role))
        if self._holder is not None:
            self._holder.serving = False
        if self.connected:
            self._worker_event({"name": "disconnect", "text": "The worker process ended.", "level": "warning"})
        self._spawn(self._primary_ended(worker))

    def _worker_event(self, message: dict[str, Any]) -> None:
        name = str(message.get("name") or "unknown")[:64]
        text = str(message.get("text") or name)[:1000]
        level = str(message.get("level") or "info")
        self.split_brain.heard(name, message.get("details"))
        if name in ("connect", "disconnect"):
            self.connected = name == "connect"
            self._first = False
        if self._arbiter is not None:
            self._arbiter.event(name)
        log.log(LEVELS.get(level, logging.INFO), "%s", text, extra=context(self.name, self.role))
        if level == "debug":
            return
        more = {"details": message["details"]} if isinstance(message.get("details"), dict) else {}
        self._environment.events.publish(name, self.name, text, level, role=str(self.role), **more)
        self._environment.hooks.fire(self.resource.exec_path, name, self.name)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start_message(self, role: Role) -> dict[str, Any]:
        return {
            "do": "start",
            "role": str(role),
            "resource": messages.resource_to_json(self.resource),
            "debug": self._environment.debug,
            "foreground": self._environment.foreground,
        }

    # --- questions and live changes -----------------------------------------------------------------------------------

    async def worker_status(self) -> dict[str, Any] | None:
        """What the worker tells about itself, or {"error"}; None without a worker."""
        return await ask_status(self.worker)

    async def resolve(self, order: str, force: bool) -> dict[str, Any]:
        """Order this copy's changes to be discarded, or take that back; returns what was done. Raises RoleError."""
        async with self._lock:
            if order == resolve.DISCARD:
                reason = why_not_discard(self.name, self.role, self.connected, self.split_brain.known or force)
                if reason is not None:
                    raise RoleError(reason)
            try:
                if not self.connected:
                    await self._stop_secondary()
            except Stuck as error:
                raise RoleError(str(error)) from None
            result = await resolve.run(order, self.name, self.resource.local)
        if result["error"]:
            raise RoleError(str(result["error"]))
        text = "The order to discard this copy's changes was taken back."
        if order == resolve.DISCARD:
            text = "This copy's changes are discarded at the next connection, by order of the operator."
        log.warning("%s", text, extra=context(self.name, self.role))
        self._environment.events.publish(f"resolve-{order}", self.name, text, "warning", details=result)
        return result

    async def tell_primary(self, do: str, **fields: Any) -> None:
        """Pass an arbiter's word on to the worker of a primary. Raises RoleError."""
        if self._holder is None or self._holder.worker is None:
            raise RoleError(f"Resource {self.name} is not primary.")
        await order(self._holder.worker, do, **fields)

    async def reconfigure(self, resource: Resource) -> None:
        """Apply a changed resource without a restart (section 8.6)."""
        await self.settings.change(resource, keep_arbiter=self._holder is not None)
        if self._holder is not None:
            self._holder.resource = self.resource
