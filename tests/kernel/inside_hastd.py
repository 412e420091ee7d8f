"""Runs as the only program of a small virtual machine: a true hastd with a device of the kind in $KIND, under load.

hastd has no second node here. Its worker and itself are killed, started again and replaced in use; the writer checks
each block that it wrote. Every step prints one line; the host looks for the last.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

from inside_node import Node, Prober, device_gone, processes, run, step, tell, until

KIND = os.environ.get("KIND", "nbd")
SUCCESS = f"HASTD OVER {KIND.upper()}: ALL STEPS PASSED"
CONFIGURATION = f"""
resource disk1 {{
    device {KIND}
    on machine {{
        local /tmp/disk1.img
        remote none
    }}
}}
"""
SIZE_BYTES = 96 << 20
WORKERS, SUPERVISORS = 8, 3


class Load:
    """A file system in use, and a prober of the device beside it."""

    def __init__(self) -> None:
        script = (
            "import os, sys\n"
            "for index in range(10**9):\n"
            "    data = bytes([index % 251]) * 65536\n"
            "    with open('/mnt/load', 'wb') as file:\n"
            "        file.write(data)\n"
            "        file.flush()\n"
            "        os.fsync(file.fileno())\n"
            "    with open('/mnt/load', 'rb') as file:\n"
            "        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)\n"
            "        assert file.read() == data\n"
        )
        self._prober = Prober(Path("/mnt/probe"))
        self._writer = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)

    def check(self) -> None:
        self._prober.check()
        assert self._writer.poll() is None, self._writer.communicate()

    def end(self) -> list[tuple[float, float]]:
        """Stop it; the pauses as (moment, seconds)."""
        self.check()
        self._writer.kill()
        self._writer.wait()
        return self._prober.end()


def the_worker() -> int:
    until("a worker", lambda: len(processes("hastd: disk1 (primary)")) == 1)
    return processes("hastd: disk1 (primary)")[0]


def story(node: Node) -> None:
    with Path("/tmp/disk1.img").open("wb") as file:
        file.truncate(SIZE_BYTES)
    node.hastctl("create", "disk1")
    node.start()
    node.hastctl("role", "primary", "disk1")
    device = node.devices / "disk1"
    target = os.readlink(device)
    step(f"primary, {device} -> {target}")
    run("/sbin/mkfs.ext4", "-q", str(device))
    run("/bin/mount", "-t", "ext4", str(device), "/mnt")
    load = Load()
    time.sleep(2)
    workers, supervisors, upgrades = [], [], []
    for _ in range(WORKERS):
        the_worker()
        time.sleep(3)
        load.check()
        workers.append(time.monotonic())
        os.kill(the_worker(), signal.SIGKILL)
    time.sleep(6)
    step("workers killed")
    for _ in range(SUPERVISORS):
        before = the_worker()
        supervisors.append(time.monotonic())
        node.kill()
        time.sleep(1)
        node.start()
        time.sleep(3)
        load.check()
        assert the_worker() == before, "the worker did not live on"
        entry = node.status("disk1")["disk1"]
        assert entry["role"] == "primary", entry
    step("hastd killed and started again: the worker lived on, and was taken over")
    upgrades.append(time.monotonic())
    node.hastctl("upgrade")
    time.sleep(3)
    step("upgraded")
    pauses = load.end()
    tell("worker killed", workers, pauses, supervisors[0])
    tell("hastd killed", supervisors, pauses, upgrades[0])
    tell("upgrade", upgrades, pauses, time.monotonic())
    run("/bin/umount", "/mnt")
    run("/sbin/e2fsck", "-fn", str(device))
    step("file system clean")
    node.hastctl("role", "init", "disk1")
    assert not device.exists()
    until("the device to go", lambda: device_gone(target))
    node.stop()
    step("device gone, hastd ended")


def main() -> None:
    socket.sethostname("machine")
    node = Node(1, CONFIGURATION)
    try:
        story(node)
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
        print(node.log()[-4000:])
    sys.stdout.flush()


if __name__ == "__main__":
    main()
