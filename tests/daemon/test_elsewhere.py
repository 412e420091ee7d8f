"""Programs that are run outside of the daemon that wants them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hast.daemon import elsewhere

Scenario = Callable[[], object]


def stand_in(path: Path, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "hast.daemon.elsewhere", *argv]
    environment = {**os.environ, elsewhere.VARIABLE: str(path), "TOLD": "yes"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def served(path: Path, scenario: Scenario) -> None:
    async def run() -> None:
        with elsewhere.listen(str(path)) as listening:
            serving = asyncio.create_task(elsewhere.serve(listening))
            try:
                await asyncio.to_thread(scenario)
            finally:
                serving.cancel()

    asyncio.run(run())


def test_a_program_has_the_streams_the_environment_and_the_exit_code_of_its_stand_in(tmp_path: Path) -> None:
    def scenario() -> None:
        done = stand_in(tmp_path / "s", "/bin/sh", "-c", 'echo $TOLD "$1" $HAST_PROGRAMS; exit 7', "sh", "a b")
        assert done.communicate(timeout=20)[0] == "yes a b\n"
        assert done.returncode == 7
        killed = stand_in(tmp_path / "s", "/bin/sh", "-c", "kill -9 $$")
        assert killed.wait(20) == -9

    served(tmp_path / "s", scenario)


def test_a_program_ends_with_its_children_when_its_stand_in_is_killed(tmp_path: Path) -> None:
    def scenario() -> None:
        child = tmp_path / "child"
        text = f"sleep 77 & echo $! > {child}.new; mv {child}.new {child}; wait"
        running = stand_in(tmp_path / "s", "/bin/sh", "-c", text)
        until(child.exists)
        running.kill()
        running.communicate(timeout=20)
        until(lambda: not Path(f"/proc/{child.read_text().strip()}/fd").exists())

    served(tmp_path / "s", scenario)


def test_without_the_service_it_is_told_and_nothing_is_run(tmp_path: Path) -> None:
    done = stand_in(tmp_path / "none", "/bin/sh", "-c", f"touch {tmp_path}/ran")
    assert "is hast-action.service running?" in done.communicate(timeout=20)[0]
    assert done.returncode == elsewhere.UNAVAILABLE
    assert not (tmp_path / "ran").exists()


def test_programs_are_run_here_where_no_service_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(elsewhere.VARIABLE, raising=False)
    assert elsewhere.through(["a", "b"]) == ["a", "b"]


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)
