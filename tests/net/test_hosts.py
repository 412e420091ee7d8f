"""The hosts that tests of net/ stand on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hosts import bench, run

KILLED = """
import time
from hosts import bench
with bench() as made:
    made.hosts[0].start("sleep", "600", log="sleep.log")
    print(made.prefix, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one() -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as killed:
        assert killed.stdout is not None
        prefix = killed.stdout.readline().strip()
        assert f"{prefix}h1" in run("ip", "netns", "list")
        killed.kill()
        killed.wait(10)
    with bench(1):
        assert f"{prefix}h" not in run("ip", "netns", "list")
    assert prefix not in run("ip", "netns", "list")
