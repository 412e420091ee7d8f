"""SIGTERM to the daemons of a master that serves, in any order, while its peer fails over by itself: no split brain, no
acknowledged record lost, no two masters.
"""

from __future__ import annotations

import signal
import time

import pytest
from failover_story import writing

from hast.lab.cluster import Cluster
from hast.lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

DAEMONS = ("hastd", "hast-devd", "carpd")
STOP_S = 60.0


def terminate(host: Host, program: str) -> None:
    """SIGTERM to the daemon itself; hastd ends its workers."""
    pattern = "^hastd$" if program == "hastd" else rf"(^|/){program}\b"
    for process in host.processes(pattern):
        process.kill(signal.SIGTERM)


def stop_in_order(cluster: Cluster, master: Host, order: tuple[str, ...], pause_s: float) -> None:
    for program in order:
        terminate(master, program)
        time.sleep(pause_s)
    master.wait_for("the end of the daemons", lambda: not master.processes(r"(^|/)(hastd|hast-devd|carpd)\b"), STOP_S)


@pytest.mark.parametrize("pause_s", [0.0, pytest.param(0.4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "order",
    [
        ("hastd", "hast-devd", "carpd"),
        ("hast-devd", "hastd", "carpd"),
        pytest.param(("carpd", "hastd", "hast-devd"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_daemons_of_the_master_stopped_in_any_order(order: tuple[str, ...], pause_s: float) -> None:
    with writing() as cluster:
        stop_in_order(cluster, cluster.hast1, order, pause_s)
        cluster.wait_master(cluster.hast2, 60)
        cluster.wait_written(timeout_s=40)
        cluster.boot(cluster.hast1)
        cluster.wait_settled(cluster.hast2, 60)
        for host in cluster.pair:
            assert "plit-brain" not in host.log(), cluster.describe()
