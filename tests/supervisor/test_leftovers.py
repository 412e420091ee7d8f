"""Workers of a killed hastd."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hast.supervisor import leftovers
from hast.worker.worker_record import forget_worker, record_worker, start_time


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))
    monkeypatch.setattr(leftovers, "OWN_END_DEADLINE_S", 0.2)


def sleeper(first: str = "") -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", f"import signal, time\n{first}\nprint(1, flush=True)\ntime.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_recorded_worker_is_ended(tmp_path: Path) -> None:
    child = sleeper()
    record_worker("disk1", child.pid)
    asyncio.run(leftovers.end_old_workers())
    assert child.wait(5) == -15
    assert not list(tmp_path.iterdir())


def test_recorded_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    child = sleeper("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    record_worker("disk1", child.pid)
    asyncio.run(leftovers.end_old_workers())
    assert child.wait(5) == -9
    assert not list(tmp_path.iterdir())


def test_worker_that_is_kept_is_left_alone_with_its_files(tmp_path: Path) -> None:
    child = sleeper()
    try:
        record_worker("disk1", child.pid)
        for name in ("disk1.nbd", "disk1.adopt", "disk2.nbd"):
            (tmp_path / name).touch()
        asyncio.run(leftovers.end_old_workers({"disk1"}))
        assert child.poll() is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk1.adopt", "disk1.nbd", "disk1.worker"]
    finally:
        child.kill()
        child.wait()


def test_number_that_now_means_another_process_is_spared(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "disk1.worker").write_text(f"{child.pid} 1\n")
        asyncio.run(leftovers.end_old_workers())
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("text", ["", "x y", "1", "-1 5", "999999999 3"])
def test_damaged_record_is_removed(tmp_path: Path, text: str) -> None:
    (tmp_path / "disk1.worker").write_text(text)
    began = time.monotonic()
    asyncio.run(leftovers.end_old_workers())
    assert time.monotonic() - began < 2
    assert not list(tmp_path.iterdir())


def test_start_time_of_what_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert start_time(child.pid) is None
    assert start_time(os.getpid()) is not None
    record_worker("disk1", child.pid)
    forget_worker("disk1", os.getpid())
