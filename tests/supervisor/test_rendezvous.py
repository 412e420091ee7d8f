"""Resources that let go together wait for each other, and for nobody that has ended."""

from __future__ import annotations

import asyncio

from hast.supervisor.rendezvous import Rendezvous


def test_nobody_is_further_than_one_place_ahead() -> None:
    order: list[str] = []

    async def member(meet: Rendezvous, name: str, pause_s: float) -> None:
        for place in range(3):
            await asyncio.sleep(pause_s)
            order.append(f"{place}")
            await meet.meet(name)
        meet.leave(name)

    async def scenario() -> None:
        meet = Rendezvous(["a", "b", "c"])
        async with asyncio.timeout(5):
            await asyncio.gather(member(meet, "a", 0.0), member(meet, "b", 0.03), member(meet, "c", 0.01))

    asyncio.run(scenario())
    assert order == sorted(order)


def test_one_that_has_ended_is_not_waited_for() -> None:
    async def scenario() -> None:
        meet = Rendezvous(["a", "b"])
        waiting = asyncio.create_task(meet.meet("a"))
        await asyncio.sleep(0)
        assert not waiting.done()
        meet.leave("b")
        assert not meet.includes("b")
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(scenario())


def test_stranger_waits_for_nobody() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(1):
            await Rendezvous(["a", "b"]).meet("c")

    asyncio.run(scenario())
