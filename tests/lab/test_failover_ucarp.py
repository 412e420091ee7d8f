"""ucarp instead of carpd on one of the two hosts, with `failover` as its up and down script; both ways round."""

from __future__ import annotations

import shutil
import time

import pytest
from failover_story import check_time

from hast.lab import Host
from hast.lab.cluster import ADDRESS, Cluster

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, pytest.mark.xdist_group("failover-lab")]

SCRIPT = """#!/bin/sh
ip addr {action} 10.10.10.180/24 dev pub
failover {verb} &
"""


def start_ucarp(cluster: Cluster, host: Host) -> None:
    for name, action, verb in (("up", "add", "master"), ("down", "del", "slave")):
        path = host.path(f"/run/{name}.sh")
        path.write_text(SCRIPT.format(action=action, verb=verb))
        path.chmod(0o755)
    source = "10.10.10.181" if host is cluster.hast1 else "10.10.10.182"
    skew = "0" if host is cluster.hast1 else "100"
    host.spawn(
        f"ucarp -i pub -s {source} -v 1 -p mypassword -a {ADDRESS} -b 1 -k {skew} -r 3 -u /run/up.sh -d /run/down.sh -z"
    )


def has_address(host: Host) -> bool:
    return f"{ADDRESS}/" in host.run("ip -4 addr show pub").stdout


@pytest.mark.parametrize("other", ["hast1", "hast2"])
def test_fail_over_between_carpd_and_ucarp(other: str) -> None:
    if shutil.which("ucarp") is None:
        pytest.skip("needs ucarp")
    with Cluster("timeout 5") as cluster:
        cluster.create()
        ucarp = cluster.lab.hosts[other]
        for host in cluster.pair:
            cluster.boot(host, "hastd")
            host.run("failover slave", check=True)
        for host in cluster.pair:
            if host is ucarp:
                start_ucarp(cluster, host)
            else:
                cluster.boot(host, "hast-devd", "carpd")
            cluster.wait_role(cluster.hast1, "primary")
        cluster.start_writer()
        cluster.wait_written()
        cut_s = time.monotonic()
        if ucarp is cluster.hast1:
            for process in ucarp.processes("ucarp"):
                process.kill()
            ucarp.run(["ip", "addr", "del", f"{ADDRESS}/24", "dev", "pub"])
            ucarp.run("failover slave", check=True, timeout_s=30)
        else:
            cluster.pull("hast1", "pub")
        with cluster.watched():
            check_time(cluster, cut_s)
        assert has_address(cluster.hast2)
        assert not has_address(cluster.hast1)
        assert cluster.missing() == []
