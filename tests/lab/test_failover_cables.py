"""Cables pulled from a pair that fails over by itself, while a client writes: what is acknowledged stays."""

from __future__ import annotations

import re
import time

import pytest
from failover_story import check_time, writing

from hast.lab.cluster import Cluster
from hast.lab.one_disk import configuration

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]


def test_client_cable_of_the_master() -> None:
    with writing() as cluster:
        check_time(cluster, cluster.pull("hast1", "pub"))
        assert cluster.is_role(cluster.hast1, "secondary")
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2)
        cluster.wait_written()


def test_replication_cable() -> None:
    with writing() as cluster:
        pulled_s = cluster.pull("hast1", "repl")
        cluster.wait_write_after(pulled_s)
        cluster.wait_demoted_copy(cluster.hast2)
        assert "status: degraded" in cluster.hast1.run("hastctl status disk1").stdout
        cluster.wait_written()
        cluster.plug("hast1", "repl")
        cluster.wait_settled(cluster.hast1)
        assert "Role changed" not in "".join(cluster.timeline(pulled_s))
        synced = re.findall(r"Synchronization started\. (\d+) bytes", cluster.hast1.log())
        assert int(synced[-1]) <= 8 << 20, "only what changed is copied"


def test_both_cables_of_the_master() -> None:
    with writing() as cluster:
        check_time(cluster, cluster.pull("hast1", "pub", "repl"))
        cluster.wait_role(cluster.hast1, "secondary")
        cluster.plug("hast1", "repl", "pub")
        cluster.wait_settled(cluster.hast2)
        time.sleep(1)
        assert cluster.is_master(cluster.hast2)
        cluster.wait_written()


@pytest.mark.slow
def test_both_cables_of_the_slave() -> None:
    with writing() as cluster:
        pulled_s = cluster.pull("hast2", "pub", "repl")
        cluster.wait_write_after(pulled_s)
        cluster.wait_demoted_copy(cluster.hast2)
        cluster.plug("hast2", "repl", "pub")
        cluster.wait_settled(cluster.hast1)
        assert "Role changed" not in "".join(cluster.timeline(pulled_s))


@pytest.mark.slow
def test_a_second_path_for_replication_takes_over_from_the_first() -> None:
    second = {"hast2": "10.10.10.182", "hast1": "10.10.10.181"}
    text = configuration("timeout 5")
    for peer, address in second.items():
        text = text.replace(f"\t\tremote {peer}\n", f"\t\tremote {peer}\n\t\tremote {address}\n")
    with Cluster(etc={"hast.conf": text}) as cluster:
        cluster.bring_up()
        cluster.start_writer()
        cluster.wait_written()
        pulled_s = cluster.pull("hast1", "repl")
        cluster.wait_write_after(pulled_s)
        cluster.wait_settled(cluster.hast1)
        cluster.pull("hast1", "pub")
        cluster.wait_master(cluster.hast2)
        assert cluster.missing() == []


@pytest.mark.slow
def test_a_cable_that_comes_and_goes() -> None:
    with writing() as cluster:
        for _ in range(6):
            cluster.pull("hast1", "pub")
            time.sleep(1.7)
            cluster.plug("hast1", "pub")
            time.sleep(1.3)
        cluster.wait_written(timeout_s=40)
        master = cluster.hast1 if cluster.is_carp(cluster.hast1, "MASTER") else cluster.hast2
        cluster.wait_settled(master)
