"""Act 8: the master loses its power, and comes back."""

from __future__ import annotations

import time

from hast.lab import Lab
from hast.lab.demo.act1_pair import DISKS, show_status
from hast.lab.demo.act7_cable import check_records, show_failover, the_cluster
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage

TITLE = "Act 8: a power cut of hast2, and its return"


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Cut, watch, verify, boot, watch it return as secondary; at the end both copies are compared."""
    cluster = the_cluster(stage)
    stage.say("hast2, the master: kill -9 of everything at once, in the middle of writing")
    cut_s = time.monotonic()
    lab.hast2.power_off()
    show_failover(stage, cluster, cut_s)
    check_records(stage, cluster)
    pool.status(stage, lab.hast1)
    cluster.wait_written(50)
    stage.say("hast2 is switched on and boots: what it missed is copied while the client writes")
    booted_s = time.monotonic()
    cluster.boot(lab.hast2)
    cluster.wait_settled(lab.hast1)
    for line in cluster.timeline(booted_s):
        if "Synchronization" in line or "Role changed" in line:
            print(f"  {line}")
    check_records(stage, cluster)
    cluster.stop_writer()
    show_status(stage, lab, "hast1")
    stage.run(lab.hast1, "hastctl verify all", "both copies are equal")
    sums = cluster.digests()
    for disk in DISKS:
        stage.check(f"{disk}: both copies are the same, byte for byte", len(set(sums[disk])) == 1)
