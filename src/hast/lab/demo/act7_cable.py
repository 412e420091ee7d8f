"""Act 7: the client network's cable of the master is pulled."""

from __future__ import annotations

from hast.lab import Lab
from hast.lab.cluster import Cluster
from hast.lab.demo.act1_pair import show_status
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage, StoryError

TITLE = "Act 7: the cable of hast1 is pulled"
FAILOVER_TIMEOUT_S = 40.0
TELLING = (" carpd", " failover:", " hast:", "Role changed", "Synchronization")


def the_cluster(stage: Stage) -> Cluster:
    """The running pair of act 6. Raises StoryError."""
    if stage.cluster is None:
        raise StoryError("act 6 was not played")
    return stage.cluster


def show_failover(stage: Stage, cluster: Cluster, moment_s: float) -> None:
    """Wait for the first acknowledged record after the fault; what the hosts logged until then, with times."""
    seconds = cluster.wait_write_after(moment_s, timeout_s=FAILOVER_TIMEOUT_S)
    for line in cluster.timeline(moment_s):
        if any(word in line for word in TELLING):
            print(f"  {line}")
    print(f"  {seconds:7.3f} s  client: the next record is acknowledged", flush=True)


def check_records(stage: Stage, cluster: Cluster) -> None:
    """Read all records through the address; the client goes on writing afterwards."""
    count = len(cluster.journal().acknowledged)
    missing = cluster.missing()
    stage.check(f"client: all {count} acknowledged records are there", not missing)
    cluster.start_writer()


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Pull, watch, verify, plug, watch it come back."""
    cluster = the_cluster(stage)
    stage.say("hast1: the cable of the client network is pulled, nobody touches a keyboard")
    show_failover(stage, cluster, cluster.pull("hast1", "pub"))
    check_records(stage, cluster)
    pool.status(stage, lab.hast2)
    stage.say("the cable is put back: hast1 stays what it is now, the secondary")
    cluster.plug("hast1", "pub")
    cluster.wait_settled(lab.hast2)
    stage.run(lab.hast1, "carpctl status", "BACKUP")
    show_status(stage, lab, "hast2")
