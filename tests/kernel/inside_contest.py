"""Runs as the only program of a small virtual machine: /dev/hast beside what the kernel itself has to keep two copies.

DRBD as two nodes on loopback, md's RAID 1 over a disk and a network block device, our pair with a device by nbd and by
ublk, and one disk alone; all disks are ram disks past the page cache. Each step prints one line; the host looks for the
last.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from inside_node import Node, processes, run, step, until

SUCCESS = "CONTEST: ALL STEPS PASSED"
KINDS = os.environ.get("KINDS", "nbd ublk").split()
BRD = os.environ.get("BRD", "")
DISK_KIB = 65536
SIZE_MIB = 32
DISKS, ROUNDS, RUN_S = 16, 2, 2
JOBS = {
    "4 KiB random writes, depth 32 (IOPS)": ("iops", "--rw=randwrite", "--bs=4k", "--iodepth=32"),
    "4 KiB random writes, depth 1 (IOPS)": ("iops", "--rw=randwrite", "--bs=4k", "--iodepth=1"),
    "4 KiB random reads, depth 32 (IOPS)": ("iops", "--rw=randread", "--bs=4k", "--iodepth=32"),
    "128 KiB sequential writes, depth 8 (MiB/s)": ("bw", "--rw=write", "--bs=128k", "--iodepth=8"),
}
NBD_PORT, DRBD_PORTS, HAST_PORTS = 10809, (7788, 7789), (9000, 9001)


def one_disk(disks: list[str]) -> str:
    return disks[0]


def drbd(disks: list[str]) -> str:
    """Two resources of one kernel, each the other's peer, protocol C."""
    setup = "/sbin/drbdsetup-84"
    for folder in ("/var/lock", "/var/lib/drbd", "/var/run"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for minor in (0, 1):
        disk, name = disks[minor], f"r{minor}"
        run("/sbin/drbdmeta", "--force", str(minor), "v08", disk, "internal", "create-md")
        run(setup, "new-resource", name)
        run(setup, "new-minor", name, str(minor), "0")
        run(setup, "attach", str(minor), disk, disk, "internal")
        own, peer = (f"ipv4:127.0.0.1:{port}" for port in (DRBD_PORTS if minor == 0 else DRBD_PORTS[::-1]))
        run(setup, "connect", name, own, peer, "--protocol=C")
    until("DRBD to connect", lambda: Path("/proc/drbd").read_text().count("cs:Connected") == 2)
    run(setup, "primary", "--force", "0")
    until("DRBD's first copy", lambda: "ds:UpToDate/UpToDate" in Path("/proc/drbd").read_text())
    return "/dev/drbd0"


def md(disks: list[str]) -> str:
    """RAID 1 with a bitmap over a disk and an nbdkit; reads are the disk's."""
    subprocess.Popen(["/sbin/nbdkit", "--foreground", "--port", str(NBD_PORT), "file", disks[1]])
    until("nbdkit", lambda: _listens(NBD_PORT))
    run("/sbin/nbd-client", "-nonetlink", "127.0.0.1", str(NBD_PORT), "/dev/nbd0")
    until("nbd0's size", lambda: Path("/sys/block/nbd0/size").read_text().strip() != "0")
    words = ["--create", "/dev/md0", "--level=1", "--raid-devices=2", "--assume-clean", "--run", "--bitmap=internal"]
    environment = {**os.environ, "MDADM_NO_UDEV": "1"}
    run("/sbin/mdadm", *words, disks[0], "--write-mostly", "/dev/nbd0", environment=environment)
    return "/dev/md0"


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Hast:
    """Our pair, whose primary has a device of this kind."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.number = number
        self.nodes: list[Node] = []

    def __call__(self, disks: list[str]) -> str:
        ports = [port + 10 * self.number for port in HAST_PORTS]
        for index, disk in enumerate(disks[:2]):
            node = Node(2 * self.number + index + 1, self._configuration(index, disk, ports))
            self.nodes.append(node)
            node.hastctl("create", "disk1")
            node.start()
        one, two = self.nodes
        two.hastctl("role", "secondary", "disk1")
        one.hastctl("role", "primary", "disk1")
        until("the pair", lambda: [node.status()["disk1"]["status"] for node in self.nodes] == ["complete"] * 2)
        return str(one.devices / "disk1")

    def _configuration(self, index: int, disk: str, ports: list[int]) -> str:
        kind = self.kind if index == 0 else "none"
        return (
            f"listen tcp4://127.0.0.1:{ports[index]}\nresource disk1 {{\n\tdevice {kind}\n\tdisk-cache off\n"
            f"\ton machine {{\n\t\tlocal {disk}\n\t\tremote tcp4://127.0.0.1:{ports[1 - index]}\n\t}}\n}}\n"
        )


def measure(device: str, *options: str) -> dict[str, object]:
    result = Path("/tmp/fio.json")
    words = ["/sbin/fio", "--name=job", "--thread", "--ioengine=libaio", "--direct=1", f"--filename={device}"]
    words += [f"--size={SIZE_MIB}m", f"--output={result}", "--output-format=json", "--unified_rw_reporting=1"]
    run(*words, *options)
    text = result.read_text()
    return dict(json.loads(text[text.index("{") :])["jobs"][0]["mixed"])


def contest(devices: dict[str, str]) -> None:
    for device in devices.values():
        measure(device, "--rw=write", "--bs=1m", "--iodepth=4")
    for job, (unit, *options) in JOBS.items():
        found: dict[str, list[float]] = {name: [] for name in devices}
        for _ in range(ROUNDS):
            for name, device in devices.items():
                report = measure(device, *options, "--time_based", f"--runtime={RUN_S}")
                found[name].append(float(str(report["iops" if unit == "iops" else "bw_bytes"])))
        scale = 1 if unit == "iops" else 1 << 20
        told = []
        for name, values in found.items():
            ratios = [value / alone for value, alone in zip(values, found["one disk"], strict=True)]
            told.append(f"{name} {statistics.median(values) / scale:.0f} ({min(ratios):.3f}-{max(ratios):.3f})")
        step(f"{job}, in brackets the ratio to one disk: {', '.join(told)}")


def main() -> None:
    socket.sethostname("machine")
    run("/bin/ip", "link", "set", "lo", "up")
    contestants: dict[str, Callable[[list[str]], str]] = {"one disk": one_disk, "DRBD": drbd, "md over nbd": md}
    hast = [Hast(kind, number) for number, kind in enumerate(KINDS)]
    contestants |= {f"hast, {each.kind}": each for each in hast}
    try:
        run("/bin/busybox", "insmod", BRD, f"rd_nr={DISKS}", f"rd_size={DISK_KIB}")
        devices = {}
        for number, (name, make) in enumerate(contestants.items()):
            devices[name] = make([f"/dev/ram{2 * number}", f"/dev/ram{2 * number + 1}"])
            step(f"{name}: {devices[name]}")
        contest(devices)
        for each in hast:
            for node in each.nodes:
                node.hastctl("role", "init", "disk1")
                node.stop()
        assert not processes("hastd: disk1"), "a worker was left"
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
        for each in hast:
            for node in each.nodes:
                print(node.log()[-3000:])
        time.sleep(1)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
