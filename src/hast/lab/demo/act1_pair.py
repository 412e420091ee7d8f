"""Act 1: three disks on each host become three replicated resources."""

from __future__ import annotations

import re

from hast.lab import Lab
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage

TITLE = "Act 1: two hosts, three disks each"
DISKS = ("disk1", "disk2", "disk3")
COMPLETE_TIMEOUT_S = 30.0


def all_complete(role: str, remote: str) -> re.Pattern[str]:
    """What the article shows for each of three resources."""
    one = (
        rf"^disk\d:\n\s+role: {role}\n(?:\s.*\n)*?\s+remoteaddr: {remote}\n(?:\s.*\n)*?\s+replication: fullsync\n"
        rf"(?:\s.*\n)*?\s+status: complete\n(?:\s.*\n)*?\s+dirty: 0 \(0B\)"
    )
    return re.compile(one, re.MULTILINE)


def show_status(stage: Stage, lab: Lab, primary: str) -> None:
    """`hastctl status` on both hosts, until it is what the article shows."""
    for name, peer in (("hast1", "hast2"), ("hast2", "hast1")):
        pattern = all_complete("primary" if name == primary else "secondary", peer)
        stage.until(
            lab.hosts[name],
            "hastctl status",
            lambda output, pattern=pattern: len(pattern.findall(output)) == len(DISKS),  # type: ignore[misc]
            "three times `status: complete`, `dirty: 0 (0B)`",
            COMPLETE_TIMEOUT_S,
        )


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Configuration, daemons, roles, status on both."""
    first, second = lab.hast1, lab.hast2
    stage.say("the same /etc/hast.conf on both")
    stage.run(first, "cat /etc/hast.conf", "resource disk3")
    stage.run(second, "hostname; grep hast /etc/hosts", "hast2.freebsd.loc")
    stage.say("hastd on both")
    for host in (first, second):
        stage.run(host, "hastd")
    for host, role in ((first, "primary"), (second, "secondary")):
        stage.say(f"{host.name}: initialise, create, {role}")
        for command in ("role init", "create", f"role {role}"):
            for disk in DISKS:
                stage.run(host, f"hastctl {command} {disk}")
    stage.say("the magic word is `status: complete`")
    show_status(stage, lab, "hast1")
    stage.say("/dev/hast has devices on the active node only")
    stage.run(first, "ls /dev/hast", r"^disk1\n\s*disk2\n\s*disk3")
    stage.refuse(second, "ls /dev/hast", "No such file or directory")
    pool.prepare(lab)
