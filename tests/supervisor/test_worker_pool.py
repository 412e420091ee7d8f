"""When standbys are started: not while a role change needs the processor, and not too late either."""

from __future__ import annotations

import asyncio

import pytest

from hast.supervisor import worker_pool
from hast.supervisor.worker_pool import WorkerPool

DELAY_S, LATEST_S = 0.02, 0.5


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When standbys would have been started."""
    moments: list[float] = []

    async def fill(_pool: WorkerPool) -> None:
        moments.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(WorkerPool, "_fill", fill)
    monkeypatch.setattr(worker_pool, "REFILL_DELAY_S", DELAY_S)
    monkeypatch.setattr(worker_pool, "REFILL_LATEST_S", LATEST_S)
    return moments


def test_no_standby_is_started_while_a_role_changes(started: list[float]) -> None:
    async def story() -> None:
        pool = WorkerPool(1)
        with pool.no_refill():
            pool.fill_later(DELAY_S)
            await asyncio.sleep(LATEST_S / 2)
            assert not started
        await asyncio.sleep(LATEST_S / 4)
        assert len(started) == 1

    asyncio.run(story())


def test_a_role_change_that_waits_for_long_does_not_leave_hastd_without_standbys(started: list[float]) -> None:
    async def story() -> None:
        pool = WorkerPool(1)
        with pool.no_refill():
            pool.fill_later(DELAY_S)
            await asyncio.sleep(LATEST_S * 2)
            assert len(started) == 1

    asyncio.run(story())


def test_the_next_standby_is_started_as_soon_as_a_worker_was_replaced_and_once(started: list[float]) -> None:
    async def story() -> None:
        pool = WorkerPool(1)
        pool.fill_later(LATEST_S)
        pool.fill_soon()
        await asyncio.sleep(DELAY_S)
        assert len(started) == 1
        await asyncio.sleep(LATEST_S * 1.5)
        assert len(started) == 1

    asyncio.run(story())
