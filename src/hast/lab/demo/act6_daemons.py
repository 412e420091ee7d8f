"""Act 6: what makes fail-overs happen by themselves is started, and a client writes through the shared address."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hast.lab import Lab
from hast.lab.cluster import ADDRESS, CARP_CONF, DEVD_CONF, PORT, Cluster
from hast.lab.demo.act1_pair import DISKS
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import STEP_TIMEOUT_S, Stage
from hast.lab.records import SLOTS

TITLE = "Act 6: carpd, hast-devd, failover; a client writes"
MASTER_TIMEOUT_S = 40.0
LONGEST_PAUSE_S = 1.0
VOLUME_BYTES = SLOTS * 4096

FAILOVER_CONF = """\
resources disk1 disk2 disk3
{pool}
service volume {{
    start "truncate -s {size} /zhast/volume && qemu-nbd --fork -t -e 8 -f raw -b {address} -p {port} \
--pid-file /run/volume.pid /zhast/volume"
    stop "kill $(cat /run/volume.pid); sleep 0.2; rm -f /run/volume.pid"
    status "kill -0 $(cat /run/volume.pid)"
}}
"""


def etc(pool: Pool) -> Mapping[str, str]:
    """The files of both hosts under /etc, beside hast.conf."""
    watched = " ".join(f"resource {disk}" for disk in DISKS)
    return {
        "carp.conf": CARP_CONF.format(resources=watched),
        "devd.conf": DEVD_CONF,
        "failover.conf": FAILOVER_CONF.format(pool=pool.FAILOVER, size=VOLUME_BYTES, address=ADDRESS, port=PORT),
    }


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Configuration, daemons, the first master, the client."""
    cluster = stage.cluster = Cluster.over(lab, DISKS, pool.boot)
    for name in ("carp.conf", "devd.conf", "failover.conf"):
        stage.run(lab.hast1, f"cat /etc/{name}")
    for host in cluster.pair:
        stage.say(f"{host.name}: event rules, then the address; the roles follow by themselves")
        stage.run(host, "hast-devd")
        stage.run(host, "carpd")
    stage.until(lab.hast1, "carpctl status", lambda text: "MASTER" in text, "hast1 to be master", MASTER_TIMEOUT_S)
    cluster.wait_settled(lab.hast1, MASTER_TIMEOUT_S)
    lab.hast1.wait_for("the end of failover", lambda: lab.hast1.run("failover status").returncode == 0, STEP_TIMEOUT_S)
    stage.run(lab.hast1, "ip -4 -brief addr show pub; failover status", ADDRESS)
    stage.run(lab.hast2, "carpctl status; hastctl status --table", "BACKUP")
    stage.say(f"client: records of 4 KiB, each with a flush, over NBD to {ADDRESS}:{PORT}, a file in the pool")
    cluster.start_writer()
    cluster.wait_written(100)
    stage.check(f"{len(cluster.journal().acknowledged)} records are acknowledged; it goes on", True)
    _kill_hastd(stage, lab, cluster)


def _kill_hastd(stage: Stage, lab: Lab, cluster: Cluster) -> None:
    """hastd of the master dies under the pool, and the next one takes over what it left."""
    stage.say("hast1: hastd is killed under the pool; its workers go on, and the next hastd takes them over")
    began_s = time.monotonic()
    stage.run(lab.hast1, "kill -9 $(cat /var/run/hastd.pid)")
    cluster.wait_written(50)
    stage.run(lab.hast1, "hastd && hastctl status --table", "primary")
    cluster.wait_written(50)
    pause_s = cluster.longest_pause_s(began_s)
    stage.check(f"the client wrote on; its longest pause was {pause_s:.2f} s", pause_s < LONGEST_PAUSE_S)
