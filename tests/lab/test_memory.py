"""Memory of a worker under load: what is resident, and the part of it that is locked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device]

MOST_KIB = 64 << 10
LOAD_S = 3.0
FIO = "fio --name=load --filename=/dev/hast/disk1 --direct=1 --ioengine=libaio --time_based --runtime=60 --size=96m"
LOADS = {"small": "--rw=randrw --bs=4k --iodepth=32", "large": "--rw=write --bs=1m --iodepth=32"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(configuration=one_disk.configuration("timeout 5"), disk_size_bytes=128 << 20) as lab:
        one_disk.bring_up(lab)
        yield lab


def memory_kib(host: Host, role: str) -> dict[str, int]:
    """VmHWM, VmRSS and the like of the worker, and `Locked`."""
    (worker,) = host.processes(rf"^hastd: disk1 \({role}\)")
    text = "".join(Path(f"/proc/{worker.pid}/{name}").read_text() for name in ("status", "smaps_rollup"))
    return {name: int(kib) for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}


@pytest.mark.parametrize("load", LOADS)
def test_a_worker_under_load_stays_within_its_memory_and_locks_it_only_for_a_device(lab: Lab, load: str) -> None:
    fio = lab.hast1.spawn(f"{FIO} {LOADS[load]}")
    time.sleep(LOAD_S)
    assert fio.poll() is None, fio.errors()
    found = {"primary": memory_kib(lab.hast1, "primary"), "secondary": memory_kib(lab.hast2, "secondary")}
    for process in lab.hast1.processes("^fio "):
        process.kill()
    for role, kib in found.items():
        print(load, role, {name: kib[name] for name in ("VmHWM", "VmRSS", "Locked")})
        assert kib["VmHWM"] <= MOST_KIB, (role, kib)
    assert 0 < found["primary"]["Locked"] <= MOST_KIB
    assert found["secondary"]["Locked"] == 0
