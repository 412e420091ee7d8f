"""SIGTERM to the daemons of a master that serves, in any order, while its peer fails over by itself: no split brain, no
acknowledged record lost, no two masters.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time

import pytest
from failover_story import writing

from hast.lab import Lab, zfs
from hast.lab.cluster import Cluster
from hast.lab.demo import pools
from hast.lab.host import Host
from hast.lab.laboratory import PAIR, article_configuration

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


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0.0, 0.4])
@pytest.mark.parametrize(
    "order",
    [
        ("hastd", "hast-devd", "carpd"),
        ("hast-devd", "hastd", "carpd"),
        ("carpd", "hastd", "hast-devd"),
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


WRITER = """
import os
fd = os.open("/zhast/records", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
for number in range(1, 1000000):
    os.write(fd, b"%063d\\n" % number)
    os.fsync(fd)
    print(number, flush=True)
"""


def _complete(host: Host) -> bool:
    return host.run("hastctl status --table", timeout_s=10).stdout.count("complete") == 3


@pytest.mark.slow
def test_hastd_is_stopped_under_a_pool_in_use_and_every_acknowledged_record_is_on_the_other_host() -> None:
    """docs/failures.md, "A pool is in use when its devices end"."""
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    configuration = "timeout 5\n" + article_configuration()
    with Lab(PAIR, configuration, {"failover.conf": "resources disk1 disk2 disk3\npool zhast\n"}, 128 << 20) as lab:
        for host in (lab.hast1, lab.hast2):
            zfs.start(host)
            host.run("hastctl create disk1 disk2 disk3", check=True)
            host.run("hastd", check=True)
        lab.hast2.run("hastctl role secondary all", check=True)
        lab.hast1.run("hastctl role primary all", check=True, timeout_s=60)
        lab.hast1.run(f"zpool create zhast raidz1 {pools.DEVICES}", check=True, timeout_s=60)
        lab.hast1.wait_for("both copies", lambda: _complete(lab.hast1), 30)
        writer = lab.hast1.spawn([sys.executable, "-c", WRITER])
        lab.hast1.wait_for("records", lambda: writer.output().count("\n") > 50, 30)
        for process in lab.hast1.processes("^hastd$"):
            process.kill(signal.SIGTERM)
        lab.hast1.wait_for("the end of hastd", lambda: not lab.hast1.processes("^hastd"), STOP_S)
        time.sleep(1)
        acknowledged = int(writer.output().split()[-1])
        for process in lab.hast1.processes("^zfs-fuse"):
            process.kill()
        lab.hast2.run("hastctl role primary all", check=True, timeout_s=60)
        lab.hast2.run("zpool import -f -d /dev/hast zhast", check=True, timeout_s=60)
        assert int(lab.hast2.run("tail -c 64 /zhast/records", check=True).stdout) >= acknowledged
