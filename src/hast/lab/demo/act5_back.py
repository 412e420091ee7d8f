"""Act 5: back to hast1; at the end both copies are compared byte for byte."""

from __future__ import annotations

import re

from hast.lab import Lab
from hast.lab.demo.act1_pair import DISKS, show_status
from hast.lab.demo.act2_pool import verify_files
from hast.lab.demo.act4_switch import switch
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage

TITLE = "Act 5: and back to hast1"


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Switch back, verify, put everything away, compare the disks."""
    switch(stage, pool, lab.hast2, lab.hast1)
    pool.status(stage, lab.hast1)
    show_status(stage, lab, "hast1")
    stage.say("the files of both hosts")
    verify_files(stage, lab.hast1, "from-hast1")
    verify_files(stage, lab.hast1, "from-hast2")
    pool.give_up(stage, lab.hast1)
    for host in (lab.hast1, lab.hast2):
        stage.run(host, "hastctl role init all")
    compare_copies(stage, lab)


def compare_copies(stage: Stage, lab: Lab) -> None:
    """The data areas of the raw disks, without the metadata before them."""
    stage.say("what lies on the disks themselves, after HAST's own metadata")
    for number, disk in enumerate(DISKS, start=1):
        dump = stage.run(lab.hast1, f"hastctl dump {disk}")
        found = re.search(r"localoff: (\d+)", dump)
        stage.check(f"metadata of {disk} tells where its data begins", found is not None)
        offset = int(found[1]) if found else 0
        sums = [
            stage.run(host, f"dd if=/dev/ad{number} bs=1M iflag=skip_bytes skip={offset} status=none | sha256sum")
            for host in (lab.hast1, lab.hast2)
        ]
        stage.check(f"{disk}: both copies are the same, byte for byte", sums[0] == sums[1])
