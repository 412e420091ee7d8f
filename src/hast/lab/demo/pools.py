"""The pool of the story: the article's raidz1, or btrfs raid1 where zfs-fuse is not installed."""

from __future__ import annotations

import shutil
from typing import Protocol

from hast.lab import Lab, zfs
from hast.lab.demo.stage import Actor, Stage
from hast.lab.host import Host

DEVICES = "/dev/hast/disk1 /dev/hast/disk2 /dev/hast/disk3"


class Pool(Protocol):
    """Steps of the story that depend on the kind of pool. The pool is called zhast and mounted on /zhast."""

    FAILOVER: str
    """The statement of failover.conf."""

    def prepare(self, lab: Lab) -> None: ...
    def boot(self, host: Host) -> None:
        """Start what a host needs before hastd."""
        ...

    def create(self, stage: Stage, host: Actor) -> None: ...
    def status(self, stage: Stage, host: Actor) -> None: ...
    def give_up(self, stage: Stage, host: Actor) -> None: ...
    def take(self, stage: Stage, host: Actor) -> None: ...


class Zfs:
    """The article's commands. zpool looks for pools in /dev only, so it is told where the devices are."""

    FAILOVER = "pool zhast { kill 2 }"

    def prepare(self, lab: Lab) -> None:
        for host in (lab.hast1, lab.hast2):
            self.boot(host)

    def boot(self, host: Host) -> None:
        zfs.start(host)

    def create(self, stage: Stage, host: Actor) -> None:
        stage.run(host, f"zpool create zhast raidz1 {DEVICES}")

    def status(self, stage: Stage, host: Actor) -> None:
        output = stage.run(host, "zpool status zhast", r"state: ONLINE")
        lines = [line.split() for line in output.splitlines()]
        for device in ("zhast", "raidz1-0", "hast/disk1", "hast/disk2", "hast/disk3"):
            stage.check(f"{device} is ONLINE without errors", [device, "ONLINE", "0", "0", "0"] in lines)

    def give_up(self, stage: Stage, host: Actor) -> None:
        stage.run(host, "zpool export zhast")

    def take(self, stage: Stage, host: Actor) -> None:
        stage.run(host, "zpool import -d /dev/hast zhast")


class Btrfs:
    """The same with btrfs."""

    FAILOVER = "pool zhast { type btrfs mount /zhast kill 2 }"

    def prepare(self, lab: Lab) -> None:
        pass

    def boot(self, host: Host) -> None:
        pass

    def create(self, stage: Stage, host: Actor) -> None:
        stage.run(host, f"mkfs.btrfs -q -f -L zhast -d raid1 -m raid1 {DEVICES}")
        self.take(stage, host)

    def status(self, stage: Stage, host: Actor) -> None:
        stage.run(host, "btrfs filesystem show /zhast", r"Total devices 3")

    def give_up(self, stage: Stage, host: Actor) -> None:
        stage.run(host, f"umount /zhast && btrfs device scan --forget {DEVICES}")

    def take(self, stage: Stage, host: Actor) -> None:
        stage.run(host, f"btrfs device scan {DEVICES} >/dev/null && mkdir -p /zhast")
        stage.run(host, "mount /dev/hast/disk1 /zhast")


def best() -> Pool:
    """The article's pool if its programs are here."""
    return Zfs() if shutil.which("zfs-fuse") and shutil.which("zpool") else Btrfs()
