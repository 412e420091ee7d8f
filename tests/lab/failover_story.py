"""What the scenarios of fail-over share: a pair under a writing client, and the proof at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hast.lab.cluster import Cluster

FAILOVER_TARGET_S = 5.0
"""From the fault to the first acknowledged write, on a quiet machine."""
SLACK_S = 10.0
"""For a machine that runs other tests at the same time."""


@contextmanager
def writing(*lines: str, hosts: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """A pair with hast1 as master, and a client that writes. At the end nothing may be missing, copies are equal."""
    with Cluster("timeout 5", *lines, hosts=hosts) as cluster:
        cluster.bring_up(elected=False)
        cluster.start_writer()
        cluster.wait_written()
        with cluster.watched():
            yield cluster
        assert cluster.missing() == [], cluster.describe()
        first, second = cluster.digests()["disk1"]
        assert first == second, "the copies differ"


def check_time(cluster: Cluster, moment_s: float, limit_s: float = FAILOVER_TARGET_S) -> float:
    """Wait for the first acknowledged write after the fault; returns the seconds it took."""
    seconds = cluster.wait_write_after(moment_s)
    print(f"{seconds:.2f} s from the fault to an acknowledged write")
    assert seconds < limit_s + SLACK_S, "\n".join(cluster.timeline(moment_s))
    return seconds
