"""Two real hastd, of which both serve reads. No root."""

from __future__ import annotations

import os
import signal

from daemon_pair import Pair, io, needs_qemu_io

from daemon import wait_for

pytestmark = needs_qemu_io


def peer_reads(pair: Pair) -> int:
    return int(pair.one.status()["statistics"]["peer_reads"])


def test_the_other_host_serves_reads_when_a_reload_says_so_and_its_loss_costs_none(pair: Pair) -> None:
    io(pair.one, "write -P 7 0 1M")
    pair.one.write_config({"disk1": f"remote tcp4://127.0.0.1:{pair.two.port}"}, inside="timeout 5\n read-balancing on")
    pair.one.hastctl("reload")

    def served_there() -> bool:
        io(pair.one, "read -P 7 0 4k")
        return peer_reads(pair) > 0

    wait_for(served_there, "a read at the other host", 30)
    os.kill(pair.two.status()["workerpid"], signal.SIGKILL)
    for offset in range(8):
        io(pair.one, f"read -P 7 {offset * 4}k 4k")
