"""Everything that hastd asks an arbiter for one resource, from promotion to demotion, with deadlines and retries.

The rules are those of election/arbiter.py; the fence program is asked after the arbiter agreed, so that a node that may
not go on never switches off one that may. Without arbiter and fence every answer is yes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hast.election.arbiter import LEASE_TTL_S, TELL_S, Arbiter, ArbiterError, Lease, Refused, Renewal, Tenure, Verdict
from hast.failover.fencing import fence

ACQUIRE_DEADLINE_S = 4.0
RECORD_DEADLINE_S = 3.0
RELEASE_DEADLINE_S = 2.0
PROMOTE_DEADLINE_S = LEASE_TTL_S + 1.5
OUTDATE_DEADLINE_S = 8.0
_RETRY_S = 0.5

_log = logging.getLogger("hast.arbiter")
_T = TypeVar("_T")


class Arbitration:
    """One resource's dealings. `changed(verdict, reason)` is called when what the primary may do changes."""

    def __init__(
        self,
        resource: str,
        node: str,
        arbiter: Arbiter | None,
        fence_path: str | None,
        changed: Callable[[Verdict, str], None],
    ) -> None:
        self._resource = resource
        self._node = node
        self._arbiter = arbiter
        self._fence_path = fence_path
        self._changed = changed
        self._tenure: Tenure | None = None
        self.heard: Callable[[bool], None] = lambda reached: None
        """Called when the arbiter of a primary is not reached any more, and when it is again."""
        self._reached = True
        self._verdict = Verdict.SERVE
        self._keeper: asyncio.Task[None] | None = None
        self._fencing: asyncio.Task[None] | None = None
        self._clear_wanted = False
        self._busy = asyncio.Lock()

    @property
    def epoch(self) -> int:
        """Fencing epoch of this node's present or last lease; 0 without an arbiter."""
        return self._tenure.lease.epoch if self._tenure is not None else 0

    async def promote(self, epoch: int = 0, force: bool = False) -> Lease | Refused:
        """Ask before the resource becomes primary; waits for another's lease to end, PROMOTE_DEADLINE_S at most.

        `force` (by hand) overrides an outdated copy and an arbiter that does not answer, not a living holder.
        """
        await self.demoted()
        now = _now()
        if self._arbiter is None:
            return Lease(self._resource, self._node, epoch, LEASE_TTL_S, now)
        answer: Lease | Refused = Refused("the arbiter was not asked")
        by_hand = False
        while _now() - now < PROMOTE_DEADLINE_S:
            try:
                answer = await _bounded(
                    self._arbiter.acquire(self._resource, self._node, epoch, force), ACQUIRE_DEADLINE_S
                )
            except ArbiterError as error:
                answer = Refused(str(error))
                if force:
                    _log.error("%s: promoted by hand although %s.", self._resource, error)
                    answer = Lease(self._resource, self._node, epoch + 1, LEASE_TTL_S, now)
                    by_hand = True
            if isinstance(answer, Lease) or "holds the lease" not in answer.reason:
                break
            await asyncio.sleep(_RETRY_S)
        if isinstance(answer, Lease):
            self._tenure = Tenure(answer, _now(), by_hand)
            self._tenure.recorded(by_hand)
            self._verdict, self._reached = Verdict.SERVE, True
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"lease-{self._resource}")
        return answer

    async def outdate_peer(self) -> str | None:
        """May this primary go on without its peer? None for yes, durably recorded; else why not.

        An arbiter that does not answer is asked again until OUTDATE_DEADLINE_S; call again later after a no.
        """
        reason = await self._record() if self._arbiter is not None else None
        if reason is not None:
            return reason
        if self._fence_path and not await fence(self._fence_path, self._resource, self._node):
            return f"the fence program {self._fence_path} did not confirm that the peer is off"
        return None

    def peer_connected(self, connected: bool) -> None:
        """The peer takes every write, or not any more. To be told at once."""
        if self._tenure is not None:
            self._tenure.peer(connected, _now())
            self._judge()

    def peer_in_step(self) -> None:
        """The peer has every write again: the record that it is outdated is removed as soon as the arbiter answers."""
        if self._tenure is not None:
            self._clear_wanted = True

    async def demoted(self) -> None:
        """The role is given up and nothing is acknowledged any more: the lease ends."""
        tenure, self._tenure = self._tenure, None
        self._clear_wanted = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        if self._fencing is not None:
            self._fencing.cancel()
            self._fencing = None
        if tenure is not None and self._arbiter is not None:
            with contextlib.suppress(ArbiterError):
                await _bounded(self._arbiter.release(tenure.lease), RELEASE_DEADLINE_S)

    def standing(self) -> dict[str, Any] | None:
        """`arbiter` of the status object (docs/control.md); None without a lease."""
        tenure = self._tenure
        if tenure is None:
            return None
        left_s = max(0.0, tenure.lease.until_s - _now())
        return {
            "verdict": str(tenure.verdict(_now())),
            "lease_left_s": round(left_s, 1),
            "epoch": tenure.lease.epoch,
            "alone": tenure.sole,
        }

    async def _record(self) -> str | None:
        tenure, arbiter = self._tenure, self._arbiter
        if tenure is None or arbiter is None:
            return "this node holds no lease"
        self._clear_wanted = False
        started = _now()
        reason = ""
        while _now() - started < OUTDATE_DEADLINE_S and self._tenure is tenure:
            try:
                async with self._busy:
                    answer = await self._recorded(tenure, arbiter)
            except ArbiterError as error:
                if tenure.by_hand:
                    return None
                reason = str(error)
                tenure.unanswered(_now())
                await asyncio.sleep(_RETRY_S)
                continue
            self._heard(tenure, answer)
            if isinstance(answer, Refused) and not answer.is_final:
                reason = answer.reason
                await asyncio.sleep(_RETRY_S)
                continue
            if isinstance(answer, Lease):
                tenure.recorded(True)
                self._clear_wanted = False  # "in step" was said before this node was given leave to go alone
            self._judge()
            return answer.reason if isinstance(answer, Refused) else None
        return reason or "the role was given up"

    async def _recorded(self, tenure: Tenure, arbiter: Arbiter) -> Lease | Refused:
        """That this node alone has every write; with a new lease where the former is over. Raises ArbiterError."""
        if tenure.renewal(_now()) is Renewal.ACQUIRE:
            answer = await _bounded(self._renewed(tenure, arbiter), ACQUIRE_DEADLINE_S)
            if isinstance(answer, Refused):
                return answer
            self._heard(tenure, answer)
        return await _bounded(arbiter.record_outdated(tenure.lease, "peer"), RECORD_DEADLINE_S)

    def _renewed(self, tenure: Tenure, arbiter: Arbiter) -> Awaitable[Lease | Refused]:
        if tenure.renewal(_now()) is Renewal.ACQUIRE:
            return arbiter.acquire(self._resource, self._node, tenure.lease.epoch, tenure.by_hand)
        return arbiter.keepalive(tenure.lease)

    async def _keep(self) -> None:
        """Prolong the lease, remove the record when the peer is in step, and tell of every change of the verdict."""
        while (tenure := self._tenure) is not None:
            await asyncio.sleep(max(0.0, min(tenure.keepalive_s - _now(), 0.2)))
            if _now() >= tenure.keepalive_s:
                async with self._busy:
                    await self._prolong(tenure)
            self._judge()
            if self._fence_path and tenure.wants_fence(_now()):
                tenure.fence_asked()
                self._fencing = asyncio.create_task(self._fence(self._fence_path, tenure))

    async def _fence(self, path: str, tenure: Tenure) -> None:
        """The arbiter is silent and the peer unknown: is it off?"""
        if await fence(path, self._resource, self._node):
            tenure.fence_confirmed()
            self._judge()

    async def _prolong(self, tenure: Tenure) -> None:
        assert self._arbiter is not None
        try:
            if self._clear_wanted and tenure.connected:
                tenure.recorded(False)
                answer = await _bounded(self._arbiter.clear_outdated(tenure.lease, "peer"), RECORD_DEADLINE_S)
                self._clear_wanted = False
            elif tenure.sole:
                answer = await self._recorded(tenure, self._arbiter)
            else:
                answer = await _bounded(self._renewed(tenure, self._arbiter), ACQUIRE_DEADLINE_S)
            self._heard(tenure, answer)
        except ArbiterError as error:
            _log.debug("%s: %s.", self._resource, error)
            tenure.unanswered(_now())

    def _heard(self, tenure: Tenure, answer: Lease | Refused) -> None:
        """The end of the lease is kept to the moment, whatever is being waited for then."""
        tenure.answered(answer, _now())
        if isinstance(answer, Lease):
            asyncio.get_running_loop().call_at(answer.until_s - TELL_S + 0.001, self._judge)

    def _judge(self) -> None:
        tenure = self._tenure
        if tenure is None:
            return
        if tenure.reached(_now()) is not self._reached:
            self._reached = not self._reached
            self.heard(self._reached)
        verdict = tenure.verdict(_now())
        if verdict is not self._verdict:
            self._verdict = verdict
            reason = tenure.lost or ("peer and arbiter are not reached" if verdict is not Verdict.SERVE else "")
            self._changed(verdict, reason)


async def _bounded(operation: Awaitable[_T], deadline_s: float) -> _T:
    """Raises ArbiterError when the adapter does not end in time."""
    try:
        async with asyncio.timeout(deadline_s):
            return await operation
    except TimeoutError:
        raise ArbiterError(f"the arbiter did not answer within {deadline_s:g} s") from None


def _now() -> float:
    return asyncio.get_running_loop().time()
