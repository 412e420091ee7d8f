"""Between a primary and its arbiter (safety rule S11): asks before the promotion, carries questions and verdicts.

Has the resource step down when told to. The rules are election's; the adapters are injected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from hast.config.model import ArbiterKind, Resource
from hast.daemon.logs import context
from hast.election.arbiter import Lease, Refused, Verdict
from hast.format.constants import Role
from hast.supervisor.worker_talk import RoleError

log = logging.getLogger("hast.arbiter")

RETRY_S = 2.0


class Dealings(Protocol):
    """One resource's dealings with its arbiter and fence program; every call ends by a deadline of its own."""

    async def promote(self, epoch: int = 0, force: bool = False) -> Lease | Refused: ...
    async def outdate_peer(self) -> str | None: ...
    def peer_connected(self, connected: bool) -> None: ...
    def peer_in_step(self) -> None: ...
    async def demoted(self) -> None: ...


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
    ) -> None:
        self._name = resource.name
        self._dealings = make(resource, self._judged)
        self._tell = tell
        self._step_down = step_down
        self._verdict, self._reason = Verdict.SERVE, ""
        self._question: str | None = None
        self._refused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None

    async def promote(self, force: bool) -> str | None:
        """Ask before the role changes. None when granted, else why not."""
        answer = await self._dealings.promote(force=force)
        return answer.reason if isinstance(answer, Refused) else None

    async def demoted(self) -> None:
        """Nothing is acknowledged any more: give the lease back and forget what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await self._dealings.demoted()

    def event(self, name: str) -> None:
        """What the worker says about its peer."""
        if name in ("connect", "disconnect"):
            self._dealings.peer_connected(name == "connect")
        elif name in ("syncdone", "in-sync"):
            self._dealings.peer_in_step()
        if name == "connect":
            self._settle_question()

    def ask(self, question: str) -> None:
        """The worker waits for leave to go on without its peer; asked again and again until there is an answer."""
        self._settle_question()
        self._question = question
        self._asking = self._spawn(self._find_answer(question))

    async def overrule(self) -> None:
        """By hand: the worker may go on, whatever the arbiter says or does not say."""
        question = self._question
        self._settle_question()
        if question is not None:
            await self._tell("answer", question=question, yes=True)
        await self._tell("thaw")

    def worker_replaced(self) -> None:
        """A new worker knows nothing of a standing verdict."""
        self._settle_question()
        if self._verdict is Verdict.FREEZE:
            self._spawn(self._pass_on("freeze", reason=self._reason))

    def _settle_question(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._refused and self._verdict is Verdict.SERVE:
            self._spawn(self._pass_on("thaw"))
        self._question, self._asking, self._refused = None, None, False

    async def _find_answer(self, question: str) -> None:
        while (reason := await self._dealings.outdate_peer()) is not None:
            if not self._refused:
                self._refused = True
                log.error("Not allowed to go on without the peer: %s.", reason, extra=self._extra())
                await self._pass_on("answer", question=question, yes=False)
            await asyncio.sleep(RETRY_S)
        log.warning("Allowed to go on without the peer.", extra=self._extra())
        await self._pass_on("answer", question=question, yes=True)
        if self._refused and self._verdict is Verdict.SERVE:
            await self._pass_on("thaw")
        self._question, self._refused = None, False

    def _judged(self, verdict: Verdict, reason: str) -> None:
        self._verdict, self._reason = verdict, reason
        if verdict is Verdict.SERVE:
            if not self._refused:
                self._spawn(self._pass_on("thaw"))
            return
        self._spawn(self._pass_on("freeze", reason=reason))
        if verdict is Verdict.STEP_DOWN:
            self._step_down(reason)

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
