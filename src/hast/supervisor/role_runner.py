"""Carries out the steps of role changes and restarts for one resource, each within its time. Decides nothing.

It owns what a resource holds on this node: device and worker of a primary, connections and worker of a secondary, the
link to the arbiter. The order of steps, and what is undone after which failure, come from `decisions/`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hast.config.model import Resource
from hast.daemon.logs import context
from hast.device.export_device import ExportDevice, ExportError
from hast.format.constants import Role
from hast.supervisor import ask_peer
from hast.supervisor.adoption import Offer
from hast.supervisor.arbiter_link import ArbiterLink
from hast.supervisor.decisions.departure import Departure
from hast.supervisor.decisions.steps import Answer, Do, Ending, Plan, Step
from hast.supervisor.environment import Environment
from hast.supervisor.primary_holder import OnMessage, PrimaryHolder
from hast.supervisor.rendezvous import Rendezvous
from hast.supervisor.secondary_holder import SecondaryHolder
from hast.supervisor.worker_process import Stuck, WorkerError, WorkerProcess
from hast.supervisor.worker_talk import RoleError, ask_status, order
from hast.worker import messages

log = logging.getLogger("hast.supervisor")

OVERTIME_S = 10.0
"""How much longer than its limit a step may take before it is cut off: what a step waits for has deadlines itself."""
WAIT_POLL_S = 0.02
PHASES = {
    Do.ASK_PEER: "waiting for the peer to become secondary",
    Do.WAIT_FOR_PEER: "waiting for the peer to become secondary",
    Do.ASK_ARBITER: "asking the arbiter",
    Do.DROP_PEER: "stopping",
    Do.SAY_LEAVING: "stopping",
    Do.QUIESCE_DEVICE: "writing the device back",
    Do.MEET: "waiting for the other devices of its pool",
    Do.WITHHOLD: "writing out what its users sent",
    Do.STOP_WORKER: "draining",
    Do.CLOSE_DEVICE: "closing the device",
    Do.GIVE_BACK_LEASE: "stopping",
    Do.PREPARE_DEVICE: "starting",
    Do.START_WORKER: "starting",
    Do.AWAIT_READY: "starting",
    Do.ATTACH_DEVICE: "starting",
}
"""What `transition` says meanwhile."""

OUT_OF_SERVICE = "The disk was taken out of service (hastctl detach); hastctl attach ends that."
UNDO = frozenset({Do.KILL_WORKER, Do.CLOSE_DEVICE, Do.DETACH_DEVICE, Do.GIVE_BACK_LEASE})
"""Plans go on whatever these answer, so their failures are told here."""
ENDS_WORKER = frozenset({Do.STOP_WORKER, Do.KILL_WORKER, Do.DROP_PEER})


class RoleRunner:
    """What one resource holds, and the plan under way. One plan at a time: the caller holds a lock."""

    def __init__(
        self,
        settings: Callable[[], Resource],
        environment: Environment,
        *,
        on_message: OnMessage,
        take_role: Callable[[Role], None],
        peer_gone: Callable[[str], None],
        step_down: Callable[[str], None],
        arbiter_heard: Callable[[bool], None],
    ) -> None:
        self.primary: PrimaryHolder | None = None
        self.secondary = SecondaryHolder(settings().name, environment.pool, on_message)
        self.arbiter: ArbiterLink | None = None
        self.connected = False
        """The peer is connected, as far as the worker told."""
        self.first = True
        """Nothing was heard of the peer since hastd started (`wait-for-peer`)."""
        self.offer: Offer | None = None
        """What ADOPT_WORKER takes."""
        self.hung: WorkerProcess | None = None
        """The last worker that its disk did not let go."""
        self.detached = False
        """The operator took the disk out of service."""
        self.departure = Departure()
        """What the peer said of its going."""
        self.transition: str | None = None
        self._settings = settings
        self._environment = environment
        self._on_message = on_message
        self._take_role = take_role
        self._peer_gone = peer_gone
        self._step_down = step_down
        self._arbiter_heard = arbiter_heard
        self._title = ""
        self._may_give_up = False
        self._give_up: str | None = None
        self._rendezvous: Rendezvous | None = None
        self._steps: dict[Do, Callable[[Step], Awaitable[Answer | None]]] = {
            Do.ASK_WORKER: self._ask_worker,
            Do.ASK_PEER: self._ask_peer,
            Do.WAIT_FOR_PEER: self._wait_for_peer,
            Do.ASK_ARBITER: self._ask_arbiter,
            Do.OVERRULE_ARBITER: self._overrule_arbiter,
            Do.GIVE_BACK_LEASE: self._give_back_lease,
            Do.DROP_PEER: self._drop_peer,
            Do.TAKE_ROLE: self._be_in_role,
            Do.PREPARE_DEVICE: self._prepare_device,
            Do.START_WORKER: self._start_worker,
            Do.RESUME_WORKER: self._resume_worker,
            Do.AWAIT_READY: lambda step: self._held.await_ready(step.limit_s),
            Do.ATTACH_DEVICE: lambda _step: self._held.attach(),
            Do.HAND_OVER_DEVICE: lambda _step: self._held.hand_over(),
            Do.ADOPT_WORKER: self._adopt_worker,
            Do.REGAIN_LEASE: self._regain_lease,
            Do.DETACH_DEVICE: lambda _step: self._held.device.drop_attachment(),
            Do.SAY_LEAVING: lambda step: self._held.say_leaving(step.limit_s, step.within_s),
            Do.MEET: self._meet,
            Do.WITHHOLD: lambda step: self._held.withhold(step.limit_s),
            Do.QUIESCE_DEVICE: lambda _step: self._held.quiesce(),
            Do.STOP_WORKER: self._stop_worker,
            Do.KILL_WORKER: self._kill_worker,
            Do.CLOSE_DEVICE: self._close_device,
        }

    @property
    def worker(self) -> WorkerProcess | None:
        return self.primary.worker if self.primary is not None else self.secondary.worker

    @property
    def device(self) -> ExportDevice | None:
        return self.primary.device if self.primary is not None else None

    @property
    def _held(self) -> PrimaryHolder:
        assert self.primary is not None
        return self.primary

    def prepare_standbys(self) -> None:
        """Have those that were taken replaced now."""
        self._environment.pool.fill_soon()

    async def run(
        self, plan: Plan, title: str = "", may_give_up: bool = False, rendezvous: Rendezvous | None = None
    ) -> Ending:
        """Carry out a plan to its end. `title` begins what `transition` says; `rendezvous` is for MEET.

        A cancelled plan comes to its end too, with `give_up`, before the cancellation goes on.
        """
        self._title, self._may_give_up, self._give_up = title, may_give_up, None
        self._rendezvous = rendezvous
        cancelled: asyncio.CancelledError | None = None
        try:
            with self._environment.pool.no_refill():
                step = next(plan)
                while True:
                    try:
                        answer = await self._carry_out(step)
                    except asyncio.CancelledError as error:
                        cancelled = error
                        self._give_up = "Cancelled."
                        answer = self._answer("Cancelled.")
                    step = plan.send(answer)
        except StopIteration as end:
            ending: Ending = end.value
        finally:
            self._may_give_up, self.transition, self._rendezvous = False, None, None
        if cancelled is not None:
            raise cancelled
        return ending

    async def ask(self, step: Step) -> Answer:
        """The answer to a question that changes nothing, while no plan is under way or beside one."""
        async with asyncio.timeout(step.limit_s + OVERTIME_S):
            return await self._steps[step.do](step) or self._answer()

    def overrule(self, reason: str) -> None:
        """The promotion or restart under way is not wanted any more. A demotion is not stopped by anything."""
        if self._may_give_up:
            self._give_up = reason
            if self.primary is not None:
                self.primary.interrupt()

    async def _carry_out(self, step: Step) -> Answer:
        """Do one step. It never raises but for a cancellation."""
        phase = PHASES.get(step.do)
        self.transition = f"{self._title}, {phase}" if self._title and phase else None
        try:
            async with asyncio.timeout(step.limit_s + OVERTIME_S):
                return await self._steps[step.do](step) or self._answer()
        except (WorkerError, ExportError, RoleError) as error:
            if step.do in UNDO:
                log.error("%s", error, extra=self._extra())
            return self._answer(str(error), stuck=isinstance(error, Stuck))
        except TimeoutError:
            text = f"Not done within {step.limit_s + OVERTIME_S:g} s: {step.do}."
        except Exception as error:
            log.exception("Unable to %s", step.do, extra=self._extra())
            text = f"Unable to {step.do}: {error!r}."
        log.error("%s", text, extra=self._extra())
        return self._answer(text, stuck=step.do in ENDS_WORKER)

    def _answer(self, failure: str | None = None, **more: Any) -> Answer:
        now_s = asyncio.get_running_loop().time()
        return Answer(now_s, failure, give_up=self._give_up, **more)

    # --- questions ----------------------------------------------------------------------------------------------------

    async def _ask_worker(self, _step: Step) -> Answer:
        told = await ask_status(self.worker) or {}
        return self._answer(inconsistent=bool(told.get("inconsistent")), stale=bool(told.get("stale")))

    async def _ask_peer(self, _step: Step) -> Answer:
        now_s = asyncio.get_running_loop().time
        if not (self.connected or self.departure.is_awaited(now_s())):
            return self._answer()
        answer = await ask_peer.ask(self._settings())
        awaited = self.departure.is_awaited(now_s())
        holds = (self.connected or awaited) and self.departure.holds_role(answer, now_s(), self.connected)
        return self._answer(peer_is_primary=holds, peer_until_s=self.departure.until_s if awaited else None)

    async def _wait_for_peer(self, step: Step) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + step.limit_s
        while self._is_awaited(loop.time()) and self._give_up is None and loop.time() < until_s:
            await asyncio.sleep(WAIT_POLL_S)

    def _is_awaited(self, now_s: float) -> bool:
        return self.connected or self.departure.is_awaited(now_s)

    async def _meet(self, _step: Step) -> None:
        if self._rendezvous is not None:
            await self._rendezvous.meet(self._settings().name)

    async def _ask_arbiter(self, step: Step) -> Answer:
        make = self._environment.make_dealings
        assert make is not None
        self.arbiter = ArbiterLink(self._settings(), make, self.tell_primary, self._step_down, self._arbiter_heard)
        return self._answer(await self.arbiter.promote(step.force))

    async def _overrule_arbiter(self, _step: Step) -> None:
        assert self.arbiter is not None
        log.warning("Writes go on by hand, whatever the arbiter says.", extra=self._extra())
        await self.arbiter.overrule()

    async def _give_back_lease(self, _step: Step) -> None:
        arbiter, self.arbiter = self.arbiter, None
        if arbiter is not None:
            await arbiter.demoted()

    # --- roles --------------------------------------------------------------------------------------------------------

    async def _be_in_role(self, step: Step) -> None:
        assert step.role is not None
        self._take_role(step.role)

    async def _drop_peer(self, step: Step) -> None:
        try:
            if await self.secondary.stop(step.limit_s, leaving=True):
                self._peer_gone("The connection was closed by this node.")
        finally:
            self.connected = False

    # --- the primary's device and worker ------------------------------------------------------------------------------

    async def _prepare_device(self, _step: Step) -> None:
        if self.primary is None:
            self.primary = PrimaryHolder(self._settings(), self._environment.pool, self._on_message)
        await self.primary.prepare()

    @property
    def no_disk(self) -> str | None:
        """Why no worker can use the disk: it has not answered the one before yet, or was taken out of service."""
        if self.detached:
            return OUT_OF_SERVICE
        return self.hung.lingers if self.hung is not None else None

    def _may_start(self) -> None:
        if self.no_disk is not None:
            raise WorkerError(self.no_disk)

    async def _start_worker(self, step: Step) -> None:
        self._may_start()
        more = {"force": step.force, "resume": False, "first": self.first}
        await self._held.start_worker(self.start_message(Role.PRIMARY) | more)

    async def _resume_worker(self, _step: Step) -> None:
        self._may_start()
        await self._held.start_worker(self.start_message(Role.PRIMARY) | {"force": False, "resume": True})

    async def _adopt_worker(self, _step: Step) -> None:
        offer, self.offer = self.offer, None
        assert offer is not None
        if offer.role is Role.PRIMARY:
            self.primary = PrimaryHolder(self._settings(), self._environment.pool, self._on_message)
            await self.primary.adopt(offer)
        else:
            await self.secondary.adopt(offer)
        told = await ask_status(self.worker) or {}
        self.connected = told.get("status") == "complete"

    async def _regain_lease(self, _step: Step) -> None:
        make = self._environment.make_dealings
        assert make is not None
        self.arbiter = ArbiterLink(self._settings(), make, self.tell_primary, self._step_down, self._arbiter_heard)
        await self.arbiter.regain(self.connected)

    async def _stop_worker(self, step: Step) -> None:
        if self.primary is not None:
            await self.primary.stop_worker(step.limit_s)

    async def _kill_worker(self, _step: Step) -> None:
        if self.primary is not None:
            await self.primary.kill_worker()

    async def _close_device(self, _step: Step) -> None:
        holder, self.primary = self.primary, None
        self.connected = False
        if holder is not None:
            await holder.close()

    def start_message(self, role: Role) -> dict[str, Any]:
        """What every worker is told at its start (worker/messages.py)."""
        return {
            "do": "start",
            "role": str(role),
            "resource": messages.resource_to_json(self._settings()),
            "debug": self._environment.debug,
            "foreground": self._environment.foreground,
        }

    async def tell_primary(self, do: str, **fields: Any) -> None:
        """Pass an arbiter's word on to the worker of a primary. Raises RoleError."""
        if self.primary is None or self.primary.worker is None:
            raise RoleError(f"Resource {self._settings().name} is not primary.")
        await order(self.primary.worker, do, **fields)

    def _extra(self) -> dict[str, str]:
        return context(self._settings().name)
