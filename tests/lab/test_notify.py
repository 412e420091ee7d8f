"""hast-notify, as nobody in the group hast, on both hosts of a pair that fails over: a power cut of the master."""

from __future__ import annotations

import grp
import json
from typing import Any

import pytest

from hast.lab.cluster import Cluster
from hast.lab.host import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.lab,
    pytest.mark.device,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("failover-lab"),
]

GROUP_ID = 990
NOBODY = 65534
CONFIGURATION = """\
degraded 3
command "cat >>/var/tell/told; echo >>/var/tell/told" {
    gather 0
    only degraded failover-done failover-failed resync-done
}
"""
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={GROUP_ID}", "--clear-groups", "--inh-caps=+dac_read_search")
"""Everybody's user in the group `hast`; it may read the interpreter wherever that lies, which opens no socket."""


def groups() -> str:
    """The machine's, and `hast`."""
    known = [f"{each.gr_name}:x:{each.gr_gid}:" for each in grp.getgrall() if each.gr_name != "hast"]
    return "\n".join([*known, f"hast:x:{GROUP_ID}:"]) + "\n"


def notify(host: Host) -> None:
    host.run(f"install -d -o {NOBODY} -g {GROUP_ID} /var/tell /run/tell", check=True)
    options = ["-F", "-P", "/run/tell/pid", "--state", "/var/tell/state.json"]
    host.spawn([*AS_NOBODY, "--ambient-caps=+dac_read_search", "hast-notify", *options])


def told(host: Host) -> list[tuple[str, str]]:
    path = host.plan.state / "var/tell/told"
    posts: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(each["event"], each["state"]) for post in posts for each in post["messages"]]


def test_a_power_cut_of_the_master_is_told_by_the_other_host_and_so_is_its_end() -> None:
    with Cluster("timeout 5", etc={"hast-notify.conf": CONFIGURATION, "group": groups()}) as cluster:
        cluster.bring_up(elected=False)
        survivor = cluster.hast2
        for host in cluster.pair:
            notify(host)
        survivor.wait_for("a first look", lambda: (survivor.plan.state / "var/tell/state.json").exists(), 30)
        cluster.hast1.power_off()
        begun = {("failover-done", "happened"), ("degraded", "begun")}
        cluster._wait(survivor, "the fail-over to be told", lambda: begun <= set(told(survivor)), 60)
        cluster.boot(cluster.hast1)
        cluster.wait_settled(survivor)
        ended = ("degraded", "over")
        cluster._wait(survivor, "the end to be told", lambda: ended in told(survivor), 60)
        assert told(survivor).count(("degraded", "begun")) == 1
        assert ("failover-failed", "happened") not in told(survivor)
