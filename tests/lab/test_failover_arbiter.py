"""Fail-over with an arbiter on a third host: dead, slow, cut off; never two masters, not even for a moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from failover_story import check_time

from hast.lab import arbiters
from hast.lab.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.xdist_group("failover-lab")]

WITNESS = arbiters.ADDRESS
ARBITERS = {"witness": f"witness {WITNESS}", "etcd": f"etcd http://{WITNESS}:2379"}


def start_arbiter(cluster: Cluster, kind: str) -> None:
    arbiters.start(cluster.lab.hosts["witness"], kind)


@contextmanager
def arbitrated(kind: str) -> Iterator[Cluster]:
    with Cluster("timeout 5", f"arbiter {ARBITERS[kind]}", hosts=("witness",)) as cluster:
        start_arbiter(cluster, kind)
        cluster.bring_up()
        cluster.start_writer()
        cluster.wait_written()
        with cluster.watched(cut_off_too=True):
            yield cluster
        assert cluster.missing() == [], cluster.describe()


@pytest.mark.parametrize("kind", ["witness", "etcd"])
def test_a_host_that_loses_everything_is_replaced_and_returns(kind: str) -> None:
    with arbitrated(kind) as cluster:
        check_time(cluster, cluster.pull("hast1", "pub", "repl"), 8.0)
        cluster.wait_role(cluster.hast1, "secondary", 60)
        cluster.plug("hast1", "repl", "pub")
        cluster.wait_settled(cluster.hast2, 60)
        cluster.wait_written()


@pytest.mark.parametrize("kind", ["witness", "etcd"])
def test_the_arbiter_dies_and_nothing_happens(kind: str) -> None:
    with arbitrated(kind) as cluster:
        cluster.lab.hosts["witness"].power_off()
        time.sleep(8)
        cluster.wait_written(50)
        assert cluster.is_master(cluster.hast1)
        cluster.lab.hosts["witness"].power_on()
        start_arbiter(cluster, kind)
        check_time(cluster, cluster.pull("hast1", "pub"), 8.0)
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2, 60)


def test_a_frozen_witness_delays_a_fail_over_and_allows_it_when_it_thaws() -> None:
    with arbitrated("witness") as cluster:
        frozen = cluster.lab.hosts["witness"].processes("hast-witness")
        for process in frozen:
            process.kill(signal.SIGSTOP)
        pulled_s = cluster.pull("hast1", "pub", "repl")
        time.sleep(12)
        assert not cluster.is_role(cluster.hast2, "primary")
        for process in frozen:
            process.kill(signal.SIGCONT)
        cluster.wait_write_after(pulled_s, timeout_s=60)
        cluster.plug("hast1", "pub", "repl")
        cluster.wait_settled(cluster.hast2, 60)


@pytest.mark.parametrize("kind", ["witness", "etcd"])
def test_a_host_that_died_before_the_other_does_not_serve_old_data(kind: str) -> None:
    with arbitrated(kind) as cluster:
        cluster.hast2.power_off()
        cluster.wait_written()
        cluster.hast1.power_off()
        cluster.boot(cluster.hast2)
        refused = "went on without it"
        cluster.hast2.wait_for("the refusal", lambda: refused in cluster.hast2.log(), 90)
        assert not cluster.is_role(cluster.hast2, "primary")
        cluster.boot(cluster.hast1)
        cluster.wait_settled(cluster.hast1, 60)
        cluster.wait_written()


def test_a_replication_cable_pulled_leaves_the_master_where_it_is() -> None:
    with arbitrated("witness") as cluster:
        pulled_s = cluster.pull("hast1", "repl")
        cluster.wait_write_after(pulled_s)
        cluster.wait_written()
        assert cluster.is_master(cluster.hast1)
        refused = cluster.hast2.run("hastctl role primary disk1", timeout_s=60)
        assert refused.returncode != 0
        assert cluster.is_role(cluster.hast2, "secondary")
        cluster.plug("hast1", "repl")
        cluster.wait_settled(cluster.hast1, 60)
