"""One resource in the supervisor: its role, what is known of it, and the way of every request that concerns it.

Changes of one resource are serialised by a lock. What a change needs is decided in `decisions/`, carried out by
`role_runner.py` (for a worker that died by `revival.py`), told by `announcer.py`; this file gathers the facts and keeps
what came of it. It never touches the disk: workers do.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hast.config.model import ArbiterKind, Resource
from hast.daemon.logs import context
from hast.device.export_device import ExportDevice
from hast.format.constants import SPLIT_BRAIN_TEXT, Role
from hast.supervisor import arbiter_link, memory
from hast.supervisor.adoption import Offer
from hast.supervisor.announcer import Announcer, event_name
from hast.supervisor.decisions import adoption, role_change
from hast.supervisor.decisions.foresight import Foreseen, foresee
from hast.supervisor.decisions.role_change import Facts
from hast.supervisor.decisions.steps import Ending, Refusal
from hast.supervisor.decisions.together import Member
from hast.supervisor.disk_orders import DiskOrders
from hast.supervisor.environment import Environment
from hast.supervisor.live_settings import LiveSettings
from hast.supervisor.memory import RoleRecord
from hast.supervisor.rendezvous import Rendezvous
from hast.supervisor.revival import Revival
from hast.supervisor.role_runner import RoleRunner
from hast.supervisor.secondary_holder import Admission, PendingConnection, SecondaryHolder
from hast.supervisor.split_brain import DETECTED, SplitBrainMemory, why_not_discard
from hast.supervisor.verified import Verified
from hast.supervisor.worker_process import Stuck, WorkerError, WorkerProcess
from hast.supervisor.worker_talk import RoleError, ask_status
from hast.worker.disk import resolve

log = logging.getLogger("hast.supervisor")

MAX_QUESTION_CHARACTERS = 64
RENEW_LIMIT_S = 30.0
RENEW_POLL_S = 0.02


class ResourceState:
    """A configured resource while hastd runs. Starts in role init."""

    def __init__(self, resource: Resource, environment: Environment) -> None:
        self.settings = LiveSettings(resource, lambda: self.worker, self._extra)
        self.role = Role.INIT
        self.last_error: str | None = None
        self.split_brain = SplitBrainMemory()
        self.verified = Verified(resource.name)
        self._environment = environment
        self._announce = Announcer(lambda: self.resource, environment)
        self._runner = RoleRunner(
            lambda: self.resource,
            environment,
            on_message=self._worker_said,
            take_role=self._take_role,
            peer_gone=self._secondary_gone,
            step_down=self._step_down,
            arbiter_heard=lambda reached: self._announce.arbiter_heard(self.role, reached),
        )
        self._lock = asyncio.Lock()
        self._closed = False
        self._revival = Revival(
            self._runner, self.settings, self._announce, self._lock, tried=self._tried, given_up=self._given_up
        )
        self._disk_orders = DiskOrders(self._runner, self.settings, self._stop_secondary)
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
        return self._runner.worker

    @property
    def device(self) -> ExportDevice | None:
        return self._runner.device

    @property
    def incoming(self) -> SecondaryHolder:
        """Connections of its peer, while secondary."""
        return self._runner.secondary

    @property
    def restarts(self) -> int:
        """Workers of a primary replaced so far."""
        return self._revival.restarts

    @property
    def no_disk(self) -> str | None:
        """What is left of an ended worker sleeps in the local disk; None when nothing does."""
        return self._runner.no_disk

    @property
    def transition(self) -> str | None:
        """The role change under way, for status."""
        return self._runner.transition

    @property
    def arbiter(self) -> dict[str, Any] | None:
        """The standing of this primary with its arbiter; None without one."""
        return self._runner.arbiter.standing() if self._runner.arbiter is not None else None

    @property
    def stopping(self) -> bool:
        """hastd comes to its end."""
        return self._environment.stopping

    @property
    def awaited(self) -> str:
        """What the end of hastd waits for, for one line; empty when this resource has let go."""
        return f"{self.name}: {self.transition}" if self.transition is not None else ""

    def log_prefix(self) -> dict[str, str]:
        """For `extra` of a log line about this resource."""
        return self._extra()

    def _extra(self) -> dict[str, str]:
        return context(self.name, self.role)

    # --- after the death of an earlier hastd ------------------------------------------------------------------------

    def remember(self, record: RoleRecord) -> None:
        """What an earlier hastd noted of this resource, whose worker is gone."""
        self._runner.detached = record.detached
        role = adoption.role_without_worker(Role(record.role))
        if role is not Role.INIT:
            self._take_role(role)
            self._announce.taken_over(role, "Role as under the hastd before this one; waiting for the primary.")
        elif Role(record.role) is Role.PRIMARY:
            self.last_error = "The worker of this primary ended with the hastd before this one, and so did its device."
            log.error("%s", self.last_error, extra=self._extra())

    async def adopt(self, offer: Offer, record: RoleRecord) -> None:
        """Take over a living worker. Raises nothing."""
        async with self._lock:
            self._runner.offer = offer
            self._revival.restarts, self._runner.detached = record.restarts, record.detached
            asked = self._environment.make_dealings is not None and offer.resource.arbiter.kind is not ArbiterKind.NONE
            ending = await self._runner.run(adoption.adopt(offer.role, asked))
            if ending.refusal is not None:
                self.last_error = ending.refusal.remember
                log.error("%s", ending.refusal.reason, extra=self._extra())
                return
        self._runner.first = False
        if offer.sync_rate_bytes_s != offer.resource.sync_rate_bytes_s and offer.role is Role.PRIMARY:
            self.settings.limited(offer.sync_rate_bytes_s)
        self._note()
        self._announce.taken_over(self.role, "The worker of the hastd before this one was taken over.")
        self._tell_contact()
        assert self.worker is not None
        self._spawn(self.worker.watch())

    def _tell_contact(self) -> None:
        """What happened to the connection while there was no hastd."""
        if self._environment.events.contact(self.name).connected is self._runner.connected:
            return
        name = "connect" if self._runner.connected else "disconnect"
        text = f"{'Connected to' if self._runner.connected else 'Disconnected from'} the peer while hastd was away."
        self._announce.worker_event(self.role, {"name": name, "text": text})

    # --- role changes ---------------------------------------------------------------------------------------------

    async def set_role(self, new: Role, force: bool = False, rendezvous: Rendezvous | None = None) -> Role:
        """Change the role and return the previous one once the new one is true. Raises RoleError.

        `rendezvous`: of the resources of its pool that change with it.
        """
        if new is not Role.PRIMARY:
            self._runner.overrule(f"Given up for role {new}.")
        try:
            async with self._lock:
                old = self.role
                if new is Role.PRIMARY is old and self._revival.held:
                    await self._retry()
                    return old
                plan = role_change.change(self._facts(new, force, rendezvous is not None))
                ending = await self._runner.run(plan, f"{old} to {new}", new is Role.PRIMARY, rendezvous)
                if ending.role is Role.PRIMARY is not old:
                    await self._promoted()
                self._conclude(old, ending)
                return old
        finally:
            if rendezvous is not None:
                rendezvous.leave(self.name)

    async def foresee_role(self, new: Role, force: bool, together: bool) -> Foreseen:
        """What `set_role` would do now; nothing is changed."""
        if new is Role.PRIMARY is self.role and self._revival.held:
            return Foreseen(("start a worker in place of those that died",))
        facts = self._facts(new, force, together, only_look=True)
        return await foresee(role_change.change(facts), self._runner.ask, facts.now_s)

    async def _retry(self) -> None:
        """After a crash loop, by order. Raises RoleError."""
        if not await self._revival.retry():
            raise RoleError(self.last_error or "The worker does not serve; see the log.")

    async def retire(self) -> None:
        """The resource was removed: role init with its hook, and nothing after it. Raises RoleError."""
        try:
            await self.set_role(Role.INIT)
        finally:
            self._closed = True
            memory.forget_role(self.name)

    async def shut_down(self, end_s: float, rendezvous: Rendezvous | None = None) -> None:
        """Orderly end without hooks, by `end_s` of the loop's clock: drain, detach, forget. Raises nothing."""
        self._closed = True
        self._runner.overrule("Given up for the end of hastd.")
        try:
            async with self._lock:
                for task in list(self._tasks):
                    task.cancel()
                plan = role_change.leave(self._facts(Role.INIT, False, rendezvous is not None, end_s))
                ending = await self._runner.run(plan, f"{self.role} to init", rendezvous=rendezvous)
                if ending.refusal is not None:
                    log.error("%s", ending.refusal.reason, extra=self._extra())
                memory.forget_role(self.name)
        finally:
            if rendezvous is not None:
                rendezvous.leave(self.name)

    async def settled(self) -> None:
        """No role change is under way."""
        async with self._lock:
            pass

    async def abandon(self) -> None:
        """The time of the stop is over: users get errors now, and nothing of this resource stays. Raises nothing."""
        primary = self._runner.primary
        if primary is not None:
            if primary.worker is not None:
                primary.worker.kill()
            await primary.device.close()
        if self.incoming.worker is not None:
            self.incoming.worker.kill()

    def _facts(
        self,
        wanted: Role,
        force: bool,
        together: bool = False,
        end_s: float | None = None,
        only_look: bool = False,
    ) -> Facts:
        if wanted is Role.PRIMARY is not self.role and not only_look:
            self.settings.take_configured()
        primary = self._runner.primary
        asked = self._environment.make_dealings is not None and arbiter_link.is_wanted(self.resource)
        return Facts(
            role=self.role,
            wanted=wanted,
            now_s=asyncio.get_running_loop().time(),
            timeout_s=self.resource.timeout_s,
            wait_for_peer_s=self.resource.wait_for_peer_s,
            force=force,
            closed=self._closed,
            serving=primary is not None and primary.serving,
            arbitrated=self._runner.arbiter is not None if self.role is Role.PRIMARY else asked,
            last_error=self.last_error,
            together=together and self.role is Role.PRIMARY,
            end_s=end_s,
        )

    def _take_role(self, role: Role) -> None:
        self.role = role
        self.last_error = None
        self._note()

    def _note(self) -> None:
        """For the next hastd, should this one die."""
        memory.note_role(self.name, RoleRecord(str(self.role), self._revival.restarts, self._runner.detached))

    async def _promoted(self) -> None:
        self._runner.first = False
        await self.settings.apply_sync_rate()
        primary = self._runner.primary
        if primary is not None and primary.worker is not None and primary.worker.ended.is_set() and primary.serving:
            self._primary_worker_lost(primary.worker)

    def _conclude(self, old: Role, ending: Ending) -> None:
        """Keep and tell how a change ended. Raises RoleError with its refusal."""
        refusal = ending.refusal
        if refusal is not None and refusal.remember is not None:
            self.last_error = refusal.remember
        if refusal is not None and refusal.publish:
            self._announce.refused(self.role, refusal)
        if ending.role is not old:
            self._announce.role_changed(old, ending.role)
        if refusal is not None:
            raise RoleError(refusal.reason)

    def _step_down(self, reason: str) -> None:
        log.error("Stepping down: %s.", reason, extra=self._extra())
        self._environment.leaves.step_down(self.name)

    async def renew_worker(self) -> bool:
        """Have another worker take the place of this one; what stands on the device sees a pause. False when none
        serves in time, or a secondary's worker does not end."""
        worker, primary = self.worker, self._runner.primary
        if worker is None:
            return True
        if self._runner.detached and primary is not None:
            log.warning("The disk is out of service: the worker is not replaced.", extra=self._extra())
            return True
        try:
            await worker.give_way(RENEW_LIMIT_S)
            async with asyncio.timeout(RENEW_LIMIT_S):
                while primary is not None and self._runner.primary is primary and not primary.serving:
                    await asyncio.sleep(RENEW_POLL_S)
        except (Stuck, TimeoutError) as error:
            text = str(error) or f"The new worker does not serve within {RENEW_LIMIT_S:g} s."
            log.error("%s", text, extra=self._extra())
            return False
        return self._runner.primary is primary

    # --- a primary's worker dies ----------------------------------------------------------------------------------

    def _primary_worker_lost(self, worker: WorkerProcess) -> None:
        log.error("The worker process ended: %s.", worker.how_it_ended(), extra=self._extra())
        if self._runner.primary is not None:
            self._runner.primary.serving = False
        if self._runner.connected:
            self._worker_event({"name": "disconnect", "text": "The worker process ended.", "level": "warning"})
        self._spawn(self._revival.run(worker))

    def _tried(self, refusal: Refusal | None) -> None:
        """Another worker was started, or could not be."""
        self.last_error = refusal.remember if refusal is not None else None
        self._note()

    def _given_up(self, ending: Ending) -> None:
        """No worker can hold the role."""
        self._tried(ending.refusal)
        self._announce.role_changed(Role.PRIMARY, ending.role, "Changing resource role back to init.")

    # --- secondary --------------------------------------------------------------------------------------------------

    async def wait_for_second(self, pending: PendingConnection) -> bool:
        """Keep a connection A whose message 2 is about to be sent. False when this is no secondary (any more)."""
        async with self._lock:
            if self.role is not Role.SECONDARY:
                return False
            self.incoming.wait_for_second(pending)
            return True

    async def start_secondary(
        self, sock: socket.socket, admission: Admission, address: str, leave: Callable[[], Awaitable[None]]
    ) -> None:
        """Start the worker for a complete pair of connections, in the place of the one that serves a former pair; takes
        both sockets. `leave`: see SecondaryHolder. Raises RoleError."""
        async with self._lock:
            if self.role is not Role.SECONDARY:
                raise RoleError(f"Remote node acts as {self.role} for the resource and not as secondary.")
            try:
                pending = self.incoming.admit(admission.token)
                with pending.sock:
                    await self._make_way()
                    message = await self._start_message()
                    await self.incoming.start(message, pending, sock, admission.hello, address, leave)
            except WorkerError as error:
                log.error("%s", error, extra=self._extra())
                raise RoleError(str(error)) from None

    async def _make_way(self) -> None:
        """End the worker of a former pair of connections. Raises WorkerError."""
        try:
            await self._stop_secondary()
        except Stuck as error:
            log.error("%s", error, extra=self._extra())
            text = "The previous connection of this resource cannot be ended; see the log of the remote node."
            raise WorkerError(text) from None

    async def _start_message(self) -> dict[str, Any]:
        resolver = self._environment.resolver
        await resolver.refresh()
        return self._runner.start_message(Role.SECONDARY) | {"held_back": resolver.held_back(self.name)}

    async def _stop_secondary(self) -> None:
        if await self.incoming.stop():
            self._secondary_gone("The connection was closed by this node.")

    def _secondary_ended(self, dead: WorkerProcess) -> None:
        if dead.refused is not None or dead.exit_code not in (0, 75):
            self.last_error = dead.refused or f"The worker process ended ({dead.how_it_ended()})."
            if dead.refused != SPLIT_BRAIN_TEXT:  # the event of it was logged with more
                log.error("%s", self.last_error, extra=self._extra())
        self._secondary_gone("The worker process ended.")

    def _secondary_gone(self, text: str) -> None:
        if self._runner.connected:
            self._worker_event({"name": "disconnect", "text": text, "level": "warning"})
        self.incoming.worker = None
        self._runner.connected = False

    # --- what workers say -------------------------------------------------------------------------------------------

    def _worker_said(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if worker.lingers is not None:
            self._runner.hung = worker
        if worker is not self.worker:
            return
        match message.get("say"):
            case "event":
                self._worker_event(message)
            case "ask":
                self._worker_asked(str(message.get("question") or "")[:MAX_QUESTION_CHARACTERS])
            case "ready":
                self._spawn(worker.watch())
                if worker is self.incoming.worker:
                    self.last_error = None
                    self._spawn(self.settings.apply_sync_rate())
            case "ended" if not worker.stopping:
                self._worker_died(worker)

    def _worker_asked(self, question: str) -> None:
        self._announce.asked(question)
        if self._runner.arbiter is not None:
            self._runner.arbiter.ask(question)

    def _worker_died(self, worker: WorkerProcess) -> None:
        """Nobody asked it to end. What a plan under way starts or stops is the plan's business."""
        if worker is self.incoming.worker:
            self._secondary_ended(worker)
        elif self._runner.primary is not None and self._runner.primary.serving:
            self._primary_worker_lost(worker)

    def _worker_event(self, message: dict[str, Any]) -> None:
        name = event_name(message)
        details = message.get("details")
        self.split_brain.heard(name, details)
        self.verified.heard(name, details)
        told = details if isinstance(details, dict) else None
        self._runner.departure.heard(name, told, asyncio.get_running_loop().time())
        if name == DETECTED:
            self._spawn(self._environment.resolver.detected(self.name))
        if name in ("connect", "disconnect"):
            self._runner.connected = name == "connect"
            self._runner.first = False
        if self._runner.arbiter is not None:
            self._runner.arbiter.event(name)
        self._announce.worker_event(self.role, message)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- questions and live changes -----------------------------------------------------------------------------------

    async def worker_status(self) -> dict[str, Any] | None:
        """What the worker tells about itself, or {"error"}; None without a worker."""
        return await ask_status(self.worker)

    def as_member(self) -> Member:
        """What a decision about several resources asks of each."""
        policy = self.resource.split_brain_policy
        return Member(self.name, self.role, self._runner.connected, policy, self.split_brain.report)

    @property
    def belongs_with(self) -> list[str]:
        """The resources of its pool, itself among them; empty when it stands alone."""
        group = self._environment.resolver.group_of(self.name)
        return list(group.resources) if group is not None else []

    @property
    def connected(self) -> bool:
        """Whether both nodes are connected."""
        return self._runner.connected

    def held(self) -> asyncio.Lock:
        """While it is held no role changes and no connection comes in."""
        return self._lock

    def why_not_discard(self, force: bool) -> str | None:
        """Why this copy's changes may not be ordered to be discarded now; None when they may."""
        return why_not_discard(self.name, self.role, self._runner.connected, self.split_brain.known or force)

    async def give_order(self, order: str, reason: str) -> dict[str, Any]:
        """Order this copy's changes to be discarded, or take that back; returns what was done. Raises RoleError.

        Call it while the resource is `held`.
        """
        try:
            if not self._runner.connected:
                await self._stop_secondary()
        except Stuck as error:
            raise RoleError(str(error)) from None
        result = await resolve.run(order, self.name, self.resource.local, reason)
        if result["error"]:
            raise RoleError(str(result["error"]))
        self._announce.resolution(self.role, order, reason, result)
        return result

    async def change_disk(self, order: str, path: str = "") -> None:
        """Take the disk out of service, into it again, or another one in its place. Raises RoleError."""
        async with self._lock:
            try:
                await self._disk_orders.run(order, self.role, path)
            except Stuck as error:
                raise RoleError(str(error)) from None
            self._note()
            self._announce.disk_changed(self.role, order, path)

    async def may_change_disk(self, order: str, path: str) -> None:
        """Raises RoleError with the reason why `change_disk` would be refused now; nothing is changed."""
        await self._disk_orders.may(order, self.role, path)

    async def tell_primary(self, do: str, **fields: Any) -> None:
        """Pass an arbiter's word on to the worker of a primary. Raises RoleError."""
        await self._runner.tell_primary(do, **fields)

    async def reconfigure(self, resource: Resource) -> None:
        """Apply a changed resource without a restart (section 8.6)."""
        await self.settings.change(resource, keep_arbiter=self._runner.primary is not None)
        if self._runner.primary is not None:
            self._runner.primary.resource = self.resource
