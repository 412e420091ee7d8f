"""Act 4: the manual fail-over of the article, to hast2."""

from __future__ import annotations

from hast.lab import Lab
from hast.lab.demo.act1_pair import DISKS, show_status
from hast.lab.demo.act2_pool import verify_files, write_files
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage
from hast.lab.host import Host

TITLE = "Act 4: manual fail-over to hast2"


def switch(stage: Stage, pool: Pool, source: Host, target: Host) -> None:
    """Give the pool up on one host, exchange the roles, take it on the other."""
    pool.give_up(stage, source)
    for disk in DISKS:
        stage.run(source, f"hastctl role secondary {disk}")
    for disk in DISKS:
        stage.run(target, f"hastctl role primary {disk}")
    pool.take(stage, target)


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Switch, verify every file, write more."""
    switch(stage, pool, lab.hast1, lab.hast2)
    pool.status(stage, lab.hast2)
    show_status(stage, lab, "hast2")
    stage.refuse(lab.hast1, "ls /dev/hast", "No such file or directory")
    stage.say("every file that was written on hast1, read on hast2")
    verify_files(stage, lab.hast2, "from-hast1")
    write_files(stage, lab.hast2, "from-hast2")
