"""Between a primary and its arbiter (safety rule S11): asks before the promotion, carries questions and verdicts.

Has the resource step down when told to. What the worker is told is decided in `decisions/leave_to_write.py`; the rules
of the arbiter are election's; the adapters are injected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from hast.config.model import ArbiterKind, Resource
from hast.daemon.logs import context
from hast.election.arbiter import STEP_DOWN_S, Lease, Refused, Verdict
from hast.format.constants import Role
from hast.supervisor.decisions.leave_to_write import Action, Ask, Freeze, LeaveToWrite, Reply, StepDown, Thaw
from hast.supervisor.worker_talk import RoleError

log = logging.getLogger("hast.arbiter")

RETRY_S = 2.0
REGAINING = "hastd was replaced; the arbiter is asked for its leave anew"


class Dealings(Protocol):
    """One resource's dealings with its arbiter and fence program; every call ends by a deadline of its own."""

    heard: Callable[[bool], None]
    """Called when the arbiter is not reached any more, and when it is again."""

    async def promote(self, epoch: int = 0, force: bool = False) -> Lease | Refused: ...
    async def outdate_peer(self) -> str | None: ...
    def peer_connected(self, connected: bool) -> None: ...
    def peer_in_step(self) -> None: ...
    async def demoted(self) -> None: ...
    def standing(self) -> dict[str, Any] | None: ...


MakeDealings = Callable[[Resource, Callable[[Verdict, str], None]], Dealings]
"""Given the resource and what to call when the verdict changes."""
Tell = Callable[..., Coroutine[Any, Any, None]]
"""Sends `do` with fields to the worker of the primary."""


def is_wanted(resource: Resource) -> bool:
    """Whether the configuration names anybody who has to agree."""
    return resource.arbiter.kind is not ArbiterKind.NONE or resource.fence_path is not None


class ArbiterLink:
    """One promotion's worth of arbitration; `demoted` ends it."""

    def __init__(
        self,
        resource: Resource,
        make: MakeDealings,
        tell: Tell,
        step_down: Callable[[str], None],
        heard: Callable[[bool], None],
    ) -> None:
        self._name = resource.name
        self._leave = LeaveToWrite()
        self._dealings = make(resource, lambda verdict, reason: self._act(self._leave.judged(verdict, reason)))
        self._dealings.heard = heard
        self._tell = tell
        self._step_down = step_down
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._connected = False

    async def promote(self, force: bool) -> str | None:
        """Ask before the role changes. None when granted, else why not."""
        answer = await self._dealings.promote(force=force)
        return answer.reason if isinstance(answer, Refused) else None

    def standing(self) -> dict[str, Any] | None:
        """For status: the lease and what it allows; None without one."""
        return self._dealings.standing()

    async def regain(self, connected: bool) -> None:
        """The worker was taken over from a hastd that died, and nobody renewed its lease meanwhile. While it is without
        its peer it holds writes until the lease is there; in vain for too long, it steps down. Raises RoleError."""
        self._connected = connected
        if not connected:
            await self._tell("freeze", reason=REGAINING)
        self._spawn(self._regain())

    async def _regain(self) -> None:
        until_s = asyncio.get_running_loop().time() + STEP_DOWN_S
        told = ""
        while (reason := await self.promote(force=False)) is not None:
            if reason != told:
                told = reason
                log.error("The lease was not given again: %s.", reason, extra=self._extra())
            if not self._connected and asyncio.get_running_loop().time() >= until_s:
                self._step_down(reason)
                return
            await asyncio.sleep(RETRY_S)
        self._dealings.peer_connected(self._connected)
        await self._pass_on("ask-anew")
        await self._pass_on("thaw")

    async def demoted(self) -> None:
        """Nothing is acknowledged any more: give the lease back and forget what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await self._dealings.demoted()

    def event(self, name: str) -> None:
        """What the worker says about its peer."""
        if name in ("connect", "disconnect"):
            self._connected = name == "connect"
            self._dealings.peer_connected(name == "connect")
        elif name in ("syncdone", "in-sync"):
            self._dealings.peer_in_step()
        if name == "connect":
            self._act(self._leave.peer_connected())

    def ask(self, question: str) -> None:
        """The worker waits for leave to go on without its peer; asked again and again until there is an answer."""
        self._act(self._leave.asked(question))

    async def overrule(self) -> None:
        """By hand: the worker may go on, whatever the arbiter says. Raises RoleError when it cannot be told."""
        for action in self._leave.overruled():
            order = _order(action)
            if order is not None:
                do, fields = order
                await self._tell(do, **fields)
            else:
                self._act([action])

    def worker_replaced(self) -> None:
        """A new worker knows nothing of a standing verdict."""
        self._act(self._leave.worker_replaced())

    def _act(self, actions: Sequence[Action]) -> None:
        """Carry out what was decided; the worker is told in this order, by tasks of their own."""
        for action in actions:
            order = _order(action)
            if order is not None:
                do, fields = order
                self._spawn(self._pass_on(do, **fields))
            elif isinstance(action, Ask):
                self._asking = self._spawn(self._find_answer(action.question))
            elif isinstance(action, StepDown):
                self._step_down(action.reason)
            elif self._asking is not None:
                self._asking.cancel()
                self._asking = None

    async def _find_answer(self, question: str) -> None:
        while (reason := await self._dealings.outdate_peer()) is not None:
            if actions := self._leave.refused(question):
                log.error("Not allowed to go on without the peer: %s.", reason, extra=self._extra())
                self._act(actions)
            await asyncio.sleep(RETRY_S)
        log.warning("Allowed to go on without the peer.", extra=self._extra())
        self._act(self._leave.granted(question))

    async def _pass_on(self, do: str, **fields: Any) -> None:
        try:
            await self._tell(do, **fields)
        except RoleError as error:
            log.warning("The worker was not told to %s: %s", do, error, extra=self._extra())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _extra(self) -> dict[str, str]:
        return context(self._name, Role.PRIMARY)


def _order(action: Action) -> tuple[str, dict[str, Any]] | None:
    """The order to the worker, with its fields, that this action is; None when it is none."""
    match action:
        case Freeze(reason):
            return "freeze", {"reason": reason}
        case Thaw():
            return "thaw", {}
        case Reply(question, yes):
            return "answer", {"question": question, "yes": yes}
    return None
