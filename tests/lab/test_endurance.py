"""What stands on /dev/hast outlives every process of ours, under fio that verifies: a device, file systems, a pool.

`make endurance` strikes HAST_KILLS workers on each, a tenth as often each other process, in an order that HAST_SEED
gives, and prints the pauses that a user saw. `make test` does each once.
"""

from __future__ import annotations

import os
import random
import shutil

import pytest
from endurance import BLOWS, SITES, Endurance, site

pytestmark = [pytest.mark.lab, pytest.mark.device]

KILLS = int(os.environ.get("HAST_KILLS") or 20)
SEED = int(os.environ.get("HAST_SEED") or 0)


def struck(below: str, kills: int, only: tuple[str, ...] = ()) -> None:
    if below == "raidz1" and shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    times = {what: max(1, round(kills * blow.share)) for what, blow in BLOWS.items() if what in only or not only}
    order = [what for what, count in times.items() for _ in range(count)]
    random.Random(SEED).shuffle(order)
    with site(below) as it:
        trial = Endurance(it, random.Random(SEED))
        trial.run(order)
    print(f"\n{trial.table(below)}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("below", SITES)
def test_users_see_a_pause_and_no_error_however_often_processes_die(below: str) -> None:
    struck(below, KILLS)


def test_each_process_dies_once_under_a_load_that_verifies() -> None:
    struck("ext4", 1, ("worker", "supervisor", "restart"))
