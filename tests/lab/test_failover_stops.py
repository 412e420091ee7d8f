"""Daemons of a pair that fails over by itself are stopped on purpose, alone and in every order of two, while a client
writes: the service moves away first, nothing acknowledged is missing, and there is one master at the end.
"""

from __future__ import annotations

import itertools
import signal
import time

import pytest
from failover_story import writing

from hast.lab.cluster import Cluster
from hast.lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

DAEMONS = ("hastd", "hast-devd", "carpd")
PAUSE_S = 3.0
CARPD_PATIENCE_S = 8.0
"""Longer than a hastd may be silent before carpd draws its conclusions."""
SLACK_S = 6.0
"""For a machine that runs other tests at the same time."""


def terminate(host: Host, program: str) -> None:
    """`kill -TERM`, and wait for its end."""
    pattern = rf"(^|/){program}\b"
    for process in host.processes(pattern)[:1]:
        process.kill(signal.SIGTERM)
    host.wait_for(f"the end of {program}", lambda: not host.processes(pattern), 40)


def stop(host: Host, program: str) -> None:
    """`systemctl stop` as the unit says."""
    if program == "carpd":
        print(host.run(f"failover leave --stopping {program}", timeout_s=150))
    terminate(host, program)


def check_moved(cluster: Cluster, asked_s: float) -> None:
    seconds = cluster.wait_write_after(asked_s)
    print(f"{seconds:.2f} s from the order to an acknowledged write")
    assert seconds < PAUSE_S + SLACK_S, "\n".join(cluster.timeline(asked_s))
    assert cluster.is_role(cluster.hast2, "primary")
    assert not cluster.is_role(cluster.hast1, "primary")


@pytest.mark.parametrize(
    "program", ["hastd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hast-devd", "carpd"))]
)
def test_the_service_moves_away_before_a_daemon_of_the_master_ends(program: str) -> None:
    with writing() as cluster:
        asked_s = time.monotonic()
        stop(cluster.hast1, program)
        check_moved(cluster, asked_s)
        cluster.boot(cluster.hast1, program)
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
def test_a_plain_signal_to_carpd_moves_the_service_too() -> None:
    with writing() as cluster:
        asked_s = time.monotonic()
        terminate(cluster.hast1, "carpd")
        check_moved(cluster, asked_s)
        cluster.boot(cluster.hast1, "carpd")
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
@pytest.mark.parametrize("order", itertools.permutations(DAEMONS, 2), ids="-".join)
def test_two_daemons_of_the_master_in_any_order(order: tuple[str, str]) -> None:
    with writing() as cluster:
        asked_s = time.monotonic()
        for program in order:
            stop(cluster.hast1, program)
        check_moved(cluster, asked_s)
        for program in DAEMONS:
            if program in order:
                cluster.boot(cluster.hast1, program)
        cluster.wait_settled(cluster.hast2)


@pytest.mark.slow
@pytest.mark.parametrize("program", DAEMONS)
def test_a_daemon_of_the_slave_stops_and_the_client_notices_nothing(program: str) -> None:
    with writing() as cluster:
        stop(cluster.hast2, program)
        cluster.wait_written()
        cluster.boot(cluster.hast2, program)
        cluster.wait_settled(cluster.hast1)
        assert cluster.is_master(cluster.hast1)


def test_all_daemons_of_the_master_at_once_as_a_host_without_units_does_it() -> None:
    with writing() as cluster:
        asked_s = time.monotonic()
        for program in DAEMONS:
            for process in cluster.hast1.processes(rf"(^|/){program}\b")[:1]:
                process.kill(signal.SIGTERM)
        for program in DAEMONS:
            terminate(cluster.hast1, program)
        check_moved(cluster, asked_s)
        cluster.boot(cluster.hast1)
        cluster.wait_settled(cluster.hast2)
        for host in cluster.pair:
            assert "plit-brain" not in host.log(), cluster.describe()


def test_without_a_whole_copy_the_address_stays_and_all_stops_in_order() -> None:
    with writing() as cluster:
        cluster.pull("hast1", "repl")
        cluster.hast1.wait_for("the loss of the link", lambda: not cluster.is_complete(cluster.hast1), 20)
        cluster.wait_written()
        left = cluster.hast1.run("failover leave --stopping hastd", timeout_s=150)
        assert (left.returncode, "no other host has taken over" in left.stderr) == (2, True), left
        assert "ends without a successor" in cluster.hast1.log()
        assert cluster.is_role(cluster.hast1, "secondary")
        assert cluster.is_carp(cluster.hast1, "MASTER")
        terminate(cluster.hast1, "hastd")
        time.sleep(CARPD_PATIENCE_S)
        assert cluster.is_carp(cluster.hast1, "MASTER"), cluster.describe()
        assert cluster.is_role(cluster.hast2, "secondary"), cluster.describe()
        cluster.boot(cluster.hast1, "hastd")
        cluster.plug("hast1", "repl")
        cluster.wait_settled(cluster.hast1)
