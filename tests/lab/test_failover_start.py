"""carpd and hast-devd are started beside a pair that serves already: roles are adopted, clients notice nothing."""

from __future__ import annotations

import random
import time

import pytest

from hast.lab.cluster import PORT, Cluster
from hast.lab.host import Host

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-lab")]

EVERYWHERE = f"resources disk1\nexport nbd disk1 {{ listen 0.0.0.0:{PORT} allow ALL }}\n"
OWN_ADDRESS = {"hast1": "10.10.10.181", "hast2": "10.10.10.182"}
PAUSE_S = 0.8
"""Less than any change of roles takes with its client; more than a busy machine holds a writer up."""


def check(serving: str, moments: list[tuple[float, str, str]]) -> None:
    """Serve by hand, start the programs at their moments (seconds, host, program); nothing may happen to the client."""
    with Cluster("timeout 5", failover=EVERYWHERE) as cluster:
        server = cluster.lab.hosts[serving]
        serve_by_hand(cluster, server)
        cluster.start_writer(OWN_ADDRESS[serving])
        cluster.wait_written()
        before = len(server.log())
        started_s = time.monotonic()
        for at_s, name, program in sorted(moments):
            time.sleep(max(0.0, started_s + at_s - time.monotonic()))
            cluster.lab.hosts[name].spawn(program)
        cluster.wait_settled(server)
        time.sleep(4)
        log, story = server.log()[before:], f"{moments}\n{cluster.describe()}"
        assert "Role changed" not in log, story
        assert "Switching to secondary" not in log, story
        assert cluster.is_master(server), story
        assert cluster.longest_pause_s() < PAUSE_S, story
        assert cluster.missing() == [], story


def serve_by_hand(cluster: Cluster, server: Host) -> None:
    cluster.create()
    for host in cluster.pair:
        host.run("hastd", check=True)
    cluster.other(server).run("hastctl role secondary disk1", check=True)
    server.run("failover master", check=True)
    server.wait_for("both copies", lambda: cluster.is_complete(server), 20)


def both(at_s: float = 0.0) -> list[tuple[float, str, str]]:
    return [(at_s, host, program) for program in ("hast-devd", "carpd") for host in ("hast1", "hast2")]


@pytest.mark.parametrize("serving", [pytest.param("hast1", marks=pytest.mark.slow), "hast2"])
def test_both_hosts_at_once(serving: str) -> None:
    check(serving, both())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_any_order(seed: int) -> None:
    dice = random.Random(seed)
    longest_s = dice.choice((0.5, 3.0, 8.0))
    check(dice.choice(("hast1", "hast2")), [(dice.uniform(0, longest_s), *rest) for _, *rest in both()])


@pytest.mark.slow
def test_the_host_that_serves_long_after_the_other() -> None:
    moments = [(8.0 if host == "hast2" else 0.0, host, program) for _, host, program in both()]
    check("hast2", moments)
