"""Fail-over of the article's whole set-up: three disks, a raidz1 pool, a service in it that a client writes to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from failover_story import SLACK_S, check_time

from hast.lab import Lab
from hast.lab.cluster import Cluster, status
from hast.lab.demo import act6_daemons, pools
from hast.lab.laboratory import article_configuration

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.xdist_group("failover-lab")]

DISKS = ("disk1", "disk2", "disk3")
DEVICES = "/dev/hast/disk1 /dev/hast/disk2 /dev/hast/disk3"


@contextmanager
def article(*hosts: str) -> Iterator[Cluster]:
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    pool = pools.Zfs()
    configuration = "timeout 5\n" + article_configuration()
    with Lab(("hast1", "hast2", "client", *hosts), configuration, act6_daemons.etc(pool), 128 << 20) as lab:
        cluster = Cluster.over(lab, DISKS, pool.boot)
        for host in cluster.pair:
            pool.boot(host)
            host.run("hastd", check=True)
        cluster.create()
        cluster.hast2.run("hastctl role secondary all", check=True)
        cluster.hast1.run("hastctl role primary all", check=True)
        cluster.hast1.run(f"zpool create zhast raidz1 {DEVICES}", check=True)
        for host in cluster.pair:
            cluster.boot(host, "hast-devd", "carpd")
        cluster.wait_settled(cluster.hast1)
        cluster.start_writer()
        cluster.wait_written()
        with cluster.watched():
            yield cluster
        assert cluster.missing() == [], cluster.describe()
        for name, (first, second) in cluster.digests().items():
            assert first == second, f"the copies of {name} differ"


def test_both_cables_of_the_master_leave_no_split_brain_to_anybody() -> None:
    with article() as cluster:
        check_time(cluster, cluster.pull("hast1", "pub", "repl"))
        cluster.wait_role(cluster.hast1, "secondary", 60)
        time.sleep(2)
        cluster.plug("hast1", "pub", "repl")
        cluster.wait_settled(cluster.hast2, 60)
        cluster.wait_written()


def test_flushes_of_zfs_fuse_arrive_whatever_it_says_of_them() -> None:
    """docs/devices.md: it says so of every loop device."""
    with article() as cluster:
        assert "Failed to flush write cache" in cluster.hast1.log()
        before = status(cluster.hast1)
        cluster.wait_written(50)
        after = status(cluster.hast1)
        for name in DISKS:
            assert after[name]["statistics"]["flushes"] >= before[name]["statistics"]["flushes"] + 20


def test_planned_switch_there_and_back() -> None:
    with article() as cluster:
        for master in (cluster.hast1, cluster.hast2):
            asked_s = time.monotonic()
            master.run("carpctl state 1 backup", check=True)
            seconds = cluster.wait_write_after(asked_s)
            print(f"{seconds:.2f} s from the order to an acknowledged write")
            assert seconds < 3.0 + SLACK_S, "\n".join(cluster.timeline(asked_s))
            cluster.wait_settled(cluster.other(master))
            master.run("carpctl state 1 auto", check=True)
            cluster.wait_written()


def test_power_cuts_in_turn() -> None:
    with article() as cluster:
        for master in (cluster.hast1, cluster.hast2):
            cut_s = time.monotonic()
            master.power_off()
            check_time(cluster, cut_s, 6.0)
            cluster.boot(master)
            cluster.wait_settled(cluster.other(master), 60)
            cluster.wait_written()


def test_hastd_of_the_master_killed_under_the_pool_and_started_again() -> None:
    with article() as cluster:
        killed_s = time.monotonic()
        cluster.kill(cluster.hast1, "hastd")
        time.sleep(1.0)
        cluster.boot(cluster.hast1, "hastd")
        check_time(cluster, killed_s, 6.0)
        cluster.wait_settled(cluster.hast1)
        assert cluster.hast1.run("failover status").returncode == 0


def test_hastd_of_the_master_killed_under_the_pool_for_good_and_the_host_can_be_slave_again() -> None:
    """The writer rests when it happens: zfs-fuse confirms one flush after its devices have failed (docs/devices.md)."""
    with article() as cluster:
        cluster.stop_writer()
        killed_s = time.monotonic()
        cluster.kill(cluster.hast1, "hastd")
        cluster.wait_master(cluster.hast2)
        cluster.start_writer()
        check_time(cluster, killed_s, 15.0)
        cluster.boot(cluster.hast1, "hastd")
        cluster.wait_settled(cluster.hast2, 60)
        done = cluster.hast1.run("failover status")
        assert done.returncode == 0, done.stdout
        assert "within 0.0 s" not in cluster.hast1.log()
