"""The story for those without root: the same roles and fail-over, disk images over NBD instead of a pool."""

from __future__ import annotations

import re
from collections.abc import Callable

from hast.lab.demo.stage import Stage
from hast.lab.loopback import LoopbackPair, Node

DISKS = ("disk1", "disk2", "disk3")
SIZE_BYTES = 64 << 20
COMPLETE_TIMEOUT_S = 30.0


def hastctl(node: Node, arguments: str) -> str:
    """A hastctl command line for this node's configuration."""
    first, _, rest = arguments.partition(" ")
    return f"hastctl {first} -c {node.configuration} {rest}".rstrip()


def start(stage: Stage, pair: LoopbackPair) -> None:
    """Daemons, create, roles, status."""
    stage.run(pair.one, f"cat {pair.one.configuration}", "resource disk3")
    for node in (pair.one, pair.two):
        stage.say(f"{node.name}: hastd -F -c {node.configuration}")
        node.start()
    for node, role in ((pair.one, "primary"), (pair.two, "secondary")):
        for command in ("role init", "create", f"role {role}"):
            for disk in DISKS:
                stage.run(node, hastctl(node, f"{command} {disk}"))
    show_status(stage, pair, pair.one)


def show_status(stage: Stage, pair: LoopbackPair, primary: Node) -> None:
    """`status: complete` three times on both."""
    for node in (pair.one, pair.two):
        role = "primary" if node is primary else "secondary"
        pattern = re.compile(rf"^disk\d:\n\s+role: {role}\n(?:\s.*\n)*?\s+status: complete\n", re.MULTILINE)
        stage.until(
            node,
            hastctl(node, "status"),
            lambda output, pattern=pattern: len(pattern.findall(output)) == len(DISKS),  # type: ignore[misc]
            "three times `status: complete`",
            COMPLETE_TIMEOUT_S,
        )


def write(stage: Stage, pair: LoopbackPair) -> None:
    """An image with a file system's worth of data onto each disk, through NBD."""
    for disk in DISKS:
        image = pair.one.directory / f"{disk}.written"
        stage.run(pair.one, f"dd if=/dev/urandom of={image} bs=1M count={SIZE_BYTES >> 21} status=none")
        stage.run(pair.one, f"nbdcopy --flush {image} '{pair.one.nbd_uri(disk)}'")
    stage.run(pair.one, f"qemu-io -f raw -c 'write -P 0x5a 40M 1M' -c flush '{pair.one.nbd_uri('disk1')}'", "wrote")
    show_status(stage, pair, pair.one)


def switch(stage: Stage, pair: LoopbackPair) -> None:
    """Manual fail-over to node2; what was written is read there."""
    for disk in DISKS:
        stage.run(pair.one, hastctl(pair.one, f"role secondary {disk}"))
    for disk in DISKS:
        stage.run(pair.two, hastctl(pair.two, f"role primary {disk}"))
    show_status(stage, pair, pair.two)
    for disk in DISKS:
        verify(stage, pair, pair.two, disk)
    stage.run(pair.two, f"qemu-io -f raw -c 'read -P 0x5a 40M 1M' '{pair.two.nbd_uri('disk1')}'", "read 1048576")


def verify(stage: Stage, pair: LoopbackPair, node: Node, disk: str) -> None:
    """Read a disk over NBD and compare it with what was written."""
    written = pair.one.directory / f"{disk}.written"
    size = written.stat().st_size
    stage.run(
        node,
        f"nbdcopy '{node.nbd_uri(disk)}' - | head -c {size} | cmp - {written} && echo {disk} is as written",
        "as written",
    )


def back(stage: Stage, pair: LoopbackPair) -> None:
    """Back to node1."""
    for disk in DISKS:
        stage.run(pair.two, hastctl(pair.two, f"role secondary {disk}"))
    for disk in DISKS:
        stage.run(pair.one, hastctl(pair.one, f"role primary {disk}"))
    show_status(stage, pair, pair.one)
    for disk in DISKS:
        verify(stage, pair, pair.one, disk)


ACTS: tuple[tuple[str, Callable[[Stage, LoopbackPair], None]], ...] = (
    ("Act 1: two nodes, three disks each", start),
    ("Act 2: data on the disks", write),
    ("Act 3: manual fail-over to node2", switch),
    ("Act 4: and back to node1", back),
)
