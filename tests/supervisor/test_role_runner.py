"""The carrying out of plans: every step ends, whatever it meets, and its answer says how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hast.config.model import Arbiter, ArbiterKind, Resource
from hast.election.arbiter import Lease, Refused
from hast.format.constants import Role
from hast.supervisor import ask_peer, role_runner
from hast.supervisor.decisions.departure import PeerAnswer
from hast.supervisor.decisions.role_change import Facts, change
from hast.supervisor.decisions.steps import Answer, Do, Ending, Plan, Step
from hast.supervisor.environment import Environment
from hast.supervisor.events import EventBus
from hast.supervisor.hooks import HookRunner
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.role_runner import RoleRunner
from hast.supervisor.worker_pool import WorkerPool
from hast.supervisor.worker_process import Stuck, WorkerError

RESOURCE = Resource("disk1", "disk1", "/x", (), timeout_s=1, arbiter=Arbiter(ArbiterKind.WITNESS, ("w",)))


class Dealings:
    """An arbiter that grants, or refuses with a reason."""

    def __init__(self, refusal: str | None) -> None:
        self.said: list[str] = []
        self._refusal = refusal

    async def promote(self, epoch: int = 0, force: bool = False) -> Lease | Refused:
        self.said.append("promote")
        return Refused(self._refusal) if self._refusal else Lease("disk1", "n", 1, 3.0, 3.0)

    async def outdate_peer(self) -> str | None:
        return None

    def peer_connected(self, connected: bool) -> None: ...

    def peer_in_step(self) -> None: ...

    async def demoted(self) -> None:
        self.said.append("demoted")

    def standing(self) -> None: ...


class Secondary:
    """Connections and worker of a secondary, which end as told."""

    worker = None

    def __init__(self, stop: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self._stop = stop

    async def stop(self, _limit_s: float, leaving: bool = False) -> bool:
        assert leaving, "the primary is told"
        return await self._stop()


class Bench:
    def __init__(self, refusal: str | None = None) -> None:
        self.dealings = Dealings(refusal)
        self.roles: list[Role] = []
        self.gone: list[str] = []
        resolver = PoolResolver({}, lambda: "/nonexistent/hast.conf")
        environment = Environment(
            events=EventBus(),
            hooks=HookRunner(False),
            pool=WorkerPool(0),
            resolver=resolver,
            leaves=PoolLeave({}, resolver),
            foreground=False,
            debug=0,
            make_dealings=lambda _resource, _changed: self.dealings,
        )
        self.runner = RoleRunner(
            lambda: RESOURCE,
            environment,
            on_message=lambda _worker, _message: None,
            take_role=self.roles.append,
            peer_gone=self.gone.append,
            step_down=lambda _reason: None,
            arbiter_heard=lambda _reached: None,
        )

    def secondary_ends(self, stop: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self.runner.secondary = Secondary(stop)  # type: ignore[assignment]

    def promotion(self) -> Plan:
        now_s = asyncio.get_running_loop().time()
        return change(Facts(Role.SECONDARY, Role.PRIMARY, now_s, 1.0, arbitrated=True))


def one(step: Step, answers: list[Answer]) -> Plan:
    """A plan of one step, whose answer is noted."""
    answers.append((yield step))
    return Ending(Role.INIT)


def answer_to(bench: Bench, do: Do, limit_s: float = 1.0) -> Answer:
    async def main() -> Answer:
        answers: list[Answer] = []
        async with asyncio.timeout(5.0):
            await bench.runner.run(one(Step(do, limit_s), answers))
        return answers[0]

    return asyncio.run(main())


async def hang() -> bool:
    await asyncio.sleep(3600)
    return True


def test_a_step_that_does_not_end_is_cut_off_and_its_worker_counts_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_runner, "OVERTIME_S", 0.05)
    bench = Bench()
    bench.secondary_ends(hang)
    answer = answer_to(bench, Do.DROP_PEER, 0.05)
    assert answer.stuck
    assert "Not done within 0.1 s" in (answer.failure or "")


@pytest.mark.parametrize(
    ("error", "stuck", "text"),
    [
        (Stuck("it does not die"), True, "it does not die"),
        (WorkerError("no"), False, "no"),
        (ZeroDivisionError("oops"), True, "Unable to end the connections"),
    ],
)
def test_an_error_of_a_step_is_its_answer(error: Exception, stuck: bool, text: str) -> None:
    async def fail() -> bool:
        raise error

    bench = Bench()
    bench.secondary_ends(fail)
    answer = answer_to(bench, Do.DROP_PEER)
    assert answer.stuck is stuck
    assert text in (answer.failure or "")


def test_every_step_that_has_nothing_to_end_is_done() -> None:
    bench = Bench()
    for do in (Do.DROP_PEER, Do.STOP_WORKER, Do.KILL_WORKER, Do.CLOSE_DEVICE, Do.GIVE_BACK_LEASE, Do.ASK_WORKER):
        assert answer_to(bench, do).failure is None
    assert not answer_to(bench, Do.ASK_PEER).peer_is_primary


def test_every_step_can_be_carried_out() -> None:
    assert set(Bench().runner._steps) == set(Do)


def test_a_stuck_worker_of_a_secondary_leaves_no_lease_behind() -> None:
    async def stuck() -> bool:
        raise Stuck("it does not die")

    async def main() -> Ending:
        return await bench.runner.run(bench.promotion())

    bench = Bench()
    bench.secondary_ends(stuck)
    assert asyncio.run(main()).role is Role.INIT
    assert bench.dealings.said == ["promote", "demoted"]
    assert bench.runner.arbiter is None
    assert bench.roles == [Role.INIT]


def test_an_arbiter_that_refuses_keeps_the_secondary() -> None:
    async def main() -> Ending:
        return await bench.runner.run(bench.promotion())

    bench = Bench("hast2 holds the lease")
    ending = asyncio.run(main())
    assert ending.role is Role.SECONDARY
    assert ending.refusal is not None
    assert ending.refusal.reason == "The arbiter refuses: hast2 holds the lease."
    assert (bench.roles, bench.gone) == ([], [])


def overrule(runner: RoleRunner) -> None:
    runner.overrule("enough")


def lose_peer(runner: RoleRunner) -> None:
    runner.connected = False


@pytest.mark.parametrize("end", [overrule, lose_peer])
def test_waiting_for_a_peer_ends_when_it_is_gone_or_overruled(
    end: Callable[[RoleRunner], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(_resource: Resource) -> PeerAnswer:
        return PeerAnswer.PRIMARY

    async def main() -> float:
        bench = Bench("not now")
        bench.runner.connected = True
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        loop.call_later(0.1, end, bench.runner)
        ending = await bench.runner.run(bench.promotion(), "secondary to primary", may_give_up=True)
        assert ending.refusal is not None
        assert bench.runner.transition is None
        return loop.time() - began_s

    monkeypatch.setattr(ask_peer, "ask", ask)
    assert asyncio.run(main()) < 0.9


def test_a_cancelled_plan_undoes_what_it_did_before_the_cancellation_goes_on() -> None:
    async def main() -> None:
        task = asyncio.create_task(bench.runner.run(bench.promotion()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bench = Bench()
    bench.secondary_ends(hang)
    asyncio.run(main())
    assert bench.dealings.said == ["promote", "demoted"]
    assert bench.runner.arbiter is None
    assert bench.roles == [Role.PRIMARY, Role.SECONDARY]


def test_only_a_plan_that_may_be_given_up_is_overruled() -> None:
    async def main() -> Ending:
        asyncio.get_running_loop().call_later(0.05, bench.runner.overrule, "later request")
        return await bench.runner.run(one(Step(Do.WAIT_FOR_PEER, 0.1), answers))

    answers: list[Answer] = []
    bench = Bench()
    bench.runner.connected = True
    asyncio.run(main())
    assert answers[0].give_up is None
