"""A run of tests that is ended by a signal leaves no hastd behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon import alive, wait_for

ENDLESS = Path(__file__).parent / "support" / "endless_run.py"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_no_hastd(number: signal.Signals) -> None:
    with TemporaryDirectory(prefix="hd") as directory:  # paths of Unix sockets are limited
        end_by(number, Path(directory))


def end_by(number: signal.Signals, directory: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={directory}/run", ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            wait_for(lambda: [*directory.glob("run/*/pids")], "the pair", 40)
            pids = [int(pid) for pid in next(directory.glob("run/*/pids")).read_text().split()]
            assert len(pids) == 2
            assert all(alive(pid) for pid in pids)
        finally:
            os.kill(run.pid, number)
    wait_for(lambda: not any(alive(pid) for pid in pids), "the end of both hastd", 40)
    assert bool([*directory.glob("run/*/undone")]) == (number is signal.SIGTERM)
