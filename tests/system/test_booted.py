"""The booted systems that the tests of this folder stand on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import booted
import pytest

pytestmark = pytest.mark.slow
END_S = 120
KILLED = """
import time
from booted import System
with System("bookworm", "left-behind") as system:
    print(system.leader(), flush=True)
    time.sleep(600)
"""


def test_a_system_whose_test_was_killed_ends_by_itself() -> None:
    if why := booted.missing():
        pytest.skip(why)
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as killed:
        assert killed.stdout is not None
        leader = Path("/proc", killed.stdout.readline().strip())
        assert (leader / "stat").exists()
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
    until_s = time.monotonic() + END_S
    while (leader / "stat").exists() and time.monotonic() < until_s:
        time.sleep(0.2)
    assert not (leader / "stat").exists()
