"""What double failures cost, by the simulator: the known costs of known settings."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hast.drill.simulated import DOUBLES, cost, run_campaign
from hast.format.constants import Replication

BY_NAME = {double.name: double for double in DOUBLES}
SEEDS = 6


@pytest.mark.parametrize("name", ["link_then_primary", "secondary_then_primary"])
def test_an_old_copy_serves_without_an_arbiter_and_not_with_one(name: str) -> None:
    without = cost(BY_NAME[name], Replication.FULLSYNC, False, SEEDS)
    assert (without.served, without.lossy) == (SEEDS, SEEDS)
    with_one = cost(BY_NAME[name], Replication.FULLSYNC, True, SEEDS)
    assert (with_one.served, with_one.lossy) == (0, 0)


def test_the_loss_of_the_primary_alone_costs_nothing_in_fullsync() -> None:
    found = cost(BY_NAME["primary"], Replication.FULLSYNC, False, SEEDS)
    assert (found.served, found.lossy, found.doubtful) == (SEEDS, 0, 0)


def test_in_async_mode_it_may_cost_what_was_not_flushed() -> None:
    found = cost(BY_NAME["primary"], Replication.ASYNC, False, 20)
    assert found.lossy == 0 < found.doubtful


def test_a_power_cut_of_both_takes_only_what_was_not_flushed() -> None:
    found = cost(BY_NAME["both"], Replication.FULLSYNC, False, SEEDS)
    assert (found.served, found.lossy) == (SEEDS, 0)


def test_a_copy_in_the_middle_of_a_resynchronisation_is_not_served() -> None:
    assert cost(BY_NAME["resync_then_primary"], Replication.FULLSYNC, False, SEEDS).served == 0


def test_the_campaign_runs_the_sites_mode_and_arbiter_only() -> None:
    told: list[str] = []
    totals = run_campaign(3, Replication.MEMSYNC, True, 1, 60.0, told.append)
    assert (totals.runs, totals.failed, told) == (3, [], [])


def test_the_campaign_ends_in_time() -> None:
    assert run_campaign(1000, Replication.MEMSYNC, True, 1, 0.0, print).runs == 0


def test_helping_processes_end_with_the_one_that_made_them() -> None:
    """With the handlers that a drill has; killed, it can end nobody."""
    script = (
        "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "from hast.drill.simulated import costs\nprint('begun', flush=True)\ncosts(%d, 2)\nprint('ended', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script % 500], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while len(helpers := children.read_text().split()) < 2:
            time.sleep(0.02)
        running.kill()
    until_s = time.monotonic() + 20
    while any(Path("/proc", pid).exists() for pid in helpers) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not [pid for pid in helpers if Path("/proc", pid).exists()]
    done = subprocess.run([sys.executable, "-c", script % 1], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("begun\nended\n", "")
