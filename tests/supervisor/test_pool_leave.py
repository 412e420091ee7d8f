"""Which resources let go together, and that all of a pool step down when one has to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hast.format.constants import Role
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.rendezvous import Rendezvous

NAMES = ("disk1", "disk2", "disk3", "alone")


class State:
    """A resource that takes every role."""

    def __init__(self, name: str, role: Role = Role.PRIMARY) -> None:
        self.name, self.role = name, role
        self.meets: list[Rendezvous | None] = []

    async def set_role(self, new: Role, force: bool = False, rendezvous: Rendezvous | None = None) -> None:
        self.meets.append(rendezvous)
        if rendezvous is not None:
            async with asyncio.timeout(5):
                await rendezvous.meet(self.name)
            rendezvous.leave(self.name)
        self.role = new


def made(tmp_path: Path, states: dict[str, Any]) -> PoolLeave:
    (tmp_path / "failover.conf").write_text(
        "resources disk1 disk2 disk3 alone\npool tank { resource disk1 disk2 disk3 }\n"
    )
    return PoolLeave(states, PoolResolver(states, lambda: str(tmp_path / "hast.conf")))


def test_primaries_of_one_pool_meet_and_nobody_else(tmp_path: Path) -> None:
    states = {name: State(name) for name in NAMES}
    states["disk3"].role = Role.SECONDARY
    found = asyncio.run(made(tmp_path, states).rendezvous(NAMES))
    assert set(found) == {"disk1", "disk2"}
    assert found["disk1"] is found["disk2"]


def test_one_alone_meets_nobody(tmp_path: Path) -> None:
    states = {name: State(name) for name in NAMES}
    assert asyncio.run(made(tmp_path, states).rendezvous(["disk1", "alone"])) == {}


def test_one_that_is_on_its_way_is_not_waited_for_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        leaves = made(tmp_path, {name: State(name) for name in NAMES})
        first = await leaves.rendezvous(["disk1", "disk2", "disk3"])
        first["disk3"].leave("disk3")
        assert await leaves.rendezvous(NAMES) == {}
        first["disk1"].leave("disk1")
        assert set(await leaves.rendezvous(NAMES)) == {"disk1", "disk3"}

    asyncio.run(scenario())


def test_all_of_a_pool_step_down_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        states = {name: State(name) for name in NAMES}
        leaves = made(tmp_path, states)
        for name in ("disk1", "disk2"):
            leaves.step_down(name)
        async with asyncio.timeout(5):
            while any(states[name].role is Role.PRIMARY for name in ("disk1", "disk2", "disk3")):
                await asyncio.sleep(0.01)
        assert states["alone"].role is Role.PRIMARY
        assert states["disk3"].meets[0] is not None

    asyncio.run(scenario())
