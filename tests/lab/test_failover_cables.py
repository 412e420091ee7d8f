"""Cables pulled from a pair that fails over by itself, while a client writes: what is acknowledged stays."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hast.lab.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

FAILOVER_TARGET_S = 5.0
"""From the cable pull to the first acknowledged write, on a quiet machine."""
SLACK_S = 4.0
"""For a machine that runs other tests."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("timeout 5") as cluster:
        cluster.bring_up()
        cluster.start_writer()
        cluster.wait_written()
        yield cluster


def test_client_cable_of_the_master(cluster: Cluster) -> None:
    with cluster.watched():
        pulled_s = cluster.pull("hast1", "pub")
        seconds = cluster.wait_write_after(pulled_s)
        print(f"{seconds:.2f} s from cable pull to acknowledged write")
        assert seconds < FAILOVER_TARGET_S + SLACK_S, "\n".join(cluster.timeline(pulled_s))
        assert cluster.is_role(cluster.hast1, "secondary")
        cluster.plug("hast1", "pub")
        cluster.wait_settled(cluster.hast2)
        cluster.wait_written()
    assert cluster.missing() == []
    first, second = cluster.digests()["disk1"]
    assert first == second


def test_replication_cable(cluster: Cluster) -> None:
    with cluster.watched():
        pulled_s = cluster.pull("hast1", "repl")
        cluster.wait_write_after(pulled_s)
        assert cluster.is_master(cluster.hast1)
        cluster.wait_demoted_copy(cluster.hast2)
        cluster.wait_written()
        cluster.plug("hast1", "repl")
        cluster.wait_settled(cluster.hast1)
    assert "Role changed" not in "".join(cluster.timeline(pulled_s))
    assert cluster.missing() == []
    first, second = cluster.digests()["disk1"]
    assert first == second


def test_both_cables_of_the_master(cluster: Cluster) -> None:
    with cluster.watched():
        pulled_s = cluster.pull("hast1", "pub", "repl")
        seconds = cluster.wait_write_after(pulled_s)
        print(f"{seconds:.2f} s from cable pull to acknowledged write")
        assert seconds < FAILOVER_TARGET_S + SLACK_S, "\n".join(cluster.timeline(pulled_s))
        cluster.wait_role(cluster.hast1, "secondary")
        cluster.plug("hast1", "repl", "pub")
        cluster.wait_settled(cluster.hast2)
        time.sleep(1)
        assert cluster.is_master(cluster.hast2)
    assert cluster.missing() == []
    first, second = cluster.digests()["disk1"]
    assert first == second
