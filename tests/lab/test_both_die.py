"""hastd dies while it replaces a worker that died: the one that was just beginning takes the device over by itself."""

from __future__ import annotations

import time

import pytest
from endurance import Load, kill_supervisor_at_once, kill_worker_of, site, start_hastd

pytestmark = [pytest.mark.lab, pytest.mark.device]

WORKER = r"^hastd: disk1 \(primary\)"


def test_hastd_killed_while_the_next_worker_begins_costs_its_users_a_pause_and_no_error() -> None:
    with site("device") as it:
        host, load = it.lab.hast1, Load(it)
        for _ in range(3):
            time.sleep(1.5)
            load.check()
            old = host.processes(WORKER)
            kill_worker_of(it, "disk1")
            host.wait_for("the next", lambda old=old: set(host.processes(WORKER)) - set(old) != set(), 10)  # type: ignore[misc]
            kill_supervisor_at_once(host)
            start_hastd(host)
        time.sleep(2.0)
        load.end()
