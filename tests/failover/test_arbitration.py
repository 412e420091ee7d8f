"""What hastd asks of an arbiter when answers come late, over the real lease table."""

from __future__ import annotations

import asyncio

from hast.election.arbiter import Lease, LeaseTable, Refused
from hast.failover.arbitration import Arbitration


class SlowArbiter:
    """Records only when `go` is set."""

    def __init__(self) -> None:
        self.table = LeaseTable()
        self.go = asyncio.Event()

    @property
    def sole(self) -> str:
        return self.table.entries["disk1"].sole

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        return self.table.acquire(resource, node, epoch, 60.0, _now(), force)

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        return self.table.keepalive(lease.resource, lease.node, lease.epoch, _now())

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        await self.go.wait()
        return self.table.record_outdated(lease.resource, lease.node, lease.epoch, peer, _now())

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return self.table.clear_outdated(lease.resource, lease.node, lease.epoch, _now())

    async def is_outdated(self, resource: str, node: str) -> bool:
        return self.table.is_outdated(resource, node)

    async def release(self, lease: Lease) -> None:
        self.table.release(lease.resource, lease.node, lease.epoch)

    async def close(self) -> None: ...


def _now() -> float:
    return asyncio.get_running_loop().time()


def test_s11_in_step_that_was_said_before_leave_to_go_alone_was_given_clears_no_record() -> None:
    async def story() -> None:
        arbiter = SlowArbiter()
        mine = Arbitration("disk1", "a", arbiter, None, lambda verdict, why: None)
        assert isinstance(await mine.promote(), Lease)
        mine.peer_connected(True)
        asked = asyncio.create_task(mine.outdate_peer())
        await asyncio.sleep(0.05)
        mine.peer_in_step()
        arbiter.go.set()
        assert await asked is None
        assert mine._tenure is not None
        await mine._prolong(mine._tenure)
        assert arbiter.sole == "a", "this node acknowledges alone by that record"
        mine.peer_in_step()
        await mine._prolong(mine._tenure)
        assert arbiter.sole == ""
        await mine.demoted()

    asyncio.run(story())


def test_the_standing_of_a_primary_is_its_lease_and_what_it_may_do() -> None:
    async def story() -> None:
        arbiter = SlowArbiter()
        arbiter.go.set()
        mine = Arbitration("disk1", "a", arbiter, None, lambda verdict, why: None)
        assert mine.standing() is None
        await mine.promote()
        standing = mine.standing()
        assert standing is not None
        assert 50 < standing.pop("lease_left_s") <= 60
        assert standing == {"verdict": "serve", "epoch": 1, "alone": False}
        assert await mine.outdate_peer() is None
        assert (mine.standing() or {})["alone"] is True
        await mine.demoted()
        assert mine.standing() is None


def test_an_arbiter_that_does_not_answer_for_the_time_of_a_lease_is_told_once_and_once_when_it_is_back() -> None:
    async def story() -> None:
        arbiter = SlowArbiter()
        mine = Arbitration("disk1", "a", arbiter, None, lambda verdict, why: None)
        heard: list[bool] = []
        mine.heard = heard.append
        assert isinstance(await mine.promote(), Lease)
        mine.peer_connected(True)
        tenure = mine._tenure
        assert tenure is not None
        mine._judge()
        tenure._answered_s -= 60.0
        for _ in range(2):
            mine._judge()
        assert heard == [False]
        tenure.answered(tenure.lease, _now())
        for _ in range(2):
            mine._judge()
        assert heard == [False, True]
        await mine.demoted()

    asyncio.run(story())
