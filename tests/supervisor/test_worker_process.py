"""A worker process as the supervisor sees it, where no real process shows the case."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hast.supervisor import worker_process
from hast.supervisor.worker_pool import Spawned, WorkerPool
from hast.supervisor.worker_process import Stuck, WorkerProcess


def immortal(kills: list[str]) -> WorkerProcess:
    """A worker that answers nothing and that no signal ends."""
    worker = WorkerProcess("disk1", WorkerPool(0), lambda _worker, _message: None)
    living = SimpleNamespace(pid=os.getpid(), returncode=None)
    process: Any = SimpleNamespace(process=living, kill=lambda: kills.append("kill"))
    worker._spawned = cast(Spawned, process)
    return worker


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "WATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(worker_process, "KILL_DEADLINE_S", 0.05)


def test_a_hung_worker_that_does_not_die_of_its_killing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    kills: list[str] = []

    async def main() -> None:
        async with asyncio.timeout(5.0):
            await immortal(kills).watch()

    asyncio.run(main())
    assert kills == ["kill"]
    assert f"Worker process {os.getpid()} does not die: it is stuck in the kernel" in caplog.text


def test_a_worker_that_outlives_its_killing_ends_a_stop_as_stuck() -> None:
    async def main() -> None:
        async with asyncio.timeout(5.0):
            await immortal([]).stop(0.0)

    with pytest.raises(Stuck, match="does not die"):
        asyncio.run(main())
