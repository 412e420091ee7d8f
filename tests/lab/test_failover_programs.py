"""Programs of a pair that fails over by itself are killed, one after the other, while a client writes."""

from __future__ import annotations

import time

import pytest
from failover_story import check_time, writing

from hast.lab.cluster import Cluster, one_disk_failover, status

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]


@pytest.mark.slow
def test_hastd_of_the_master_killed_and_started_again() -> None:
    with writing() as cluster:
        killed_s = time.monotonic()
        cluster.kill(cluster.hast1, "hastd")
        time.sleep(0.5)
        cluster.boot(cluster.hast1, "hastd")
        cluster.wait_write_after(killed_s)
        cluster.wait_settled(cluster.hast1)


@pytest.mark.slow
def test_hastd_of_the_master_killed_for_good() -> None:
    with writing() as cluster:
        killed_s = time.monotonic()
        cluster.kill(cluster.hast1, "hastd")
        check_time(cluster, killed_s, 12.0)
        cluster.boot(cluster.hast1, "hastd")
        cluster.wait_settled(cluster.hast2)


def test_hastd_alone_of_the_master_killed_for_good_moves_the_service_and_killed_for_a_moment_does_not() -> None:
    with writing() as cluster:
        kill_supervisor(cluster)
        cluster.wait_written()
        cluster.boot(cluster.hast1, "hastd")
        cluster.wait_settled(cluster.hast1)
        cluster.wait_written()
        kill_supervisor(cluster)
        cluster.hast1.wait_for("CARP of hast2", lambda: cluster.is_carp(cluster.hast2, "MASTER"), 20)
        cluster.wait_written()
        cluster.boot(cluster.hast1, "hastd")
        cluster.wait_settled(cluster.hast2)


def kill_supervisor(cluster: Cluster) -> None:
    """hastd of hast1 without its workers."""
    for process in cluster.hast1.processes("^hastd$"):
        process.kill()


@pytest.mark.slow
def test_hastd_of_the_slave_killed_and_started_again() -> None:
    with writing() as cluster:
        cluster.kill(cluster.hast2, "hastd")
        cluster.wait_written()
        cluster.boot(cluster.hast2, "hastd")
        cluster.wait_settled(cluster.hast1)


def test_carpd_of_the_master_killed_for_good() -> None:
    with writing() as cluster:
        killed_s = time.monotonic()
        cluster.kill(cluster.hast1, "carpd")
        check_time(cluster, killed_s)
        show = "ip -4 addr show pub"
        cluster.hast1.wait_for("the address to expire", lambda: "10.180/" not in cluster.hast1.run(show).stdout, 5)
        cluster.boot(cluster.hast1, "carpd")
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
def test_carpd_of_the_master_killed_and_started_again() -> None:
    with writing() as cluster:
        cluster.kill(cluster.hast1, "carpd")
        cluster.boot(cluster.hast1, "carpd")
        cluster.wait_written(timeout_s=40)
        master = cluster.hast1 if cluster.is_carp(cluster.hast1, "MASTER") else cluster.hast2
        cluster.wait_settled(master)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["hast1", "hast2"])
def test_hast_devd_killed_before_a_cable_pull_goes_on_when_started_again(killed: str) -> None:
    with writing() as cluster:
        host = cluster.lab.hosts[killed]
        cluster.kill(host, "hast-devd")
        pulled_s = cluster.pull("hast1", "pub")
        host.wait_for("CARP of hast2", lambda: cluster.is_carp(cluster.hast2, "MASTER"), 15)
        cluster.boot(host, "hast-devd")
        cluster.wait_write_after(pulled_s)
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.8, 1.2])
def test_failover_killed_on_its_way_is_made_good_by_hand(delay_s: float) -> None:
    with writing() as cluster:
        pulled_s = cluster.pull("hast1", "pub")
        cluster.hast2.wait_for("CARP", lambda: cluster.is_carp(cluster.hast2, "MASTER"), 15)
        time.sleep(delay_s)
        cluster.kill(cluster.hast2, "failover")
        done = cluster.hast2.run("failover master", timeout_s=60)
        assert done.returncode == 0, done.stderr
        cluster.wait_write_after(pulled_s)
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
def test_a_fail_over_by_hand_at_the_same_time_as_the_automatic_one() -> None:
    with writing() as cluster:
        pulled_s = cluster.pull("hast1", "pub")
        by_hand = [cluster.hast2.spawn("failover master"), cluster.hast1.spawn("failover slave")]
        cluster.wait_write_after(pulled_s)
        assert [run.wait(60).returncode for run in by_hand] == [0, 0], cluster.describe()
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2)


def test_a_planned_switch_by_carpctl() -> None:
    with writing() as cluster:
        asked_s = time.monotonic()
        cluster.hast1.run("carpctl state 1 backup", check=True)
        seconds = cluster.wait_write_after(asked_s)
        print(f"{seconds:.2f} s from the order to an acknowledged write")
        assert seconds < 2.0 + 10.0, "\n".join(cluster.timeline(asked_s))
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
def test_a_master_with_a_large_advskew_whose_disk_fails_loses_the_address() -> None:
    """200 and the 100 of hast2 reach the mark of a master that should not be one (docs/failures.md)."""
    with writing() as cluster:
        cluster.hast1.run("carpctl state 1 backup", check=True)
        cluster.wait_settled(cluster.hast2)
        cluster.hast1.run("carpctl state 1 auto", check=True)
        cluster.wait_written()
        cluster.lab.fail_disk("hast2", "ad1")
        cluster.wait_master(cluster.hast1)
        cluster.wait_written()
        cluster.hast2.run("failover slave")
        cluster.lab.replace_disk("hast2", "ad1")
        for command in ("role init", "create", "role secondary"):
            cluster.hast2.run(f"hastctl {command} disk1", check=True)
        cluster.wait_settled(cluster.hast1)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["carpctl state 1 backup", "failover leave"])
def test_disk_failure_on_the_master(order: str) -> None:
    with writing() as cluster:
        cluster.lab.fail_disk("hast1", "ad1")
        cluster.wait_written(50)
        assert "stale" in cluster.hast1.run("hastctl status disk1 --json").stdout
        cluster.wait_demoted_copy(cluster.hast1)
        assert "data: disk1 stale; adds 200" in cluster.hast1.run("carpctl status").stdout
        time.sleep(3)
        assert cluster.is_master(cluster.hast1)
        assert status(cluster.hast1)["disk1"]["peer_whole"]
        cluster.hast1.run(order, check=True, timeout_s=60)
        cluster.wait_master(cluster.hast2)
        cluster.wait_written()
        assert cluster.missing() == []
        cluster.hast1.run("failover slave")
        cluster.lab.replace_disk("hast1", "ad1")
        cluster.hast1.run("hastctl role init disk1", check=True)
        cluster.hast1.run("hastctl create disk1", check=True)
        cluster.hast1.run("hastctl role secondary disk1", check=True)
        cluster.wait_settled(cluster.hast2)


SICK_SERVICE = """
health 1
service web { start "test ! -e /run/broken && touch /run/web" stop "rm -f /run/web" status "test -e /run/web" }
"""


def test_a_master_whose_service_cannot_be_repaired_hands_over() -> None:
    with Cluster("timeout 5", failover=one_disk_failover() + SICK_SERVICE) as cluster:
        cluster.bring_up()
        cluster.start_writer()
        cluster.wait_written()
        started_s = time.monotonic()
        cluster.hast1.run(["sh", "-c", "touch /run/broken; rm /run/web"], check=True)
        cluster.wait_master(cluster.hast2)
        print(f"{time.monotonic() - started_s:.1f} s from the failure to another master")
        cluster.wait_settled(cluster.hast2)
        cluster.wait_written()
        assert cluster.missing() == [], cluster.describe()
        log = cluster.hast1.log()
        assert "health: the other node is asked to take over: service web: down" in log
        assert log.count("the other node is asked to take over") == 1
        assert cluster.hast1.run("failover status").returncode == 0
