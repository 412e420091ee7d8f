"""Processes and hosts killed under load: no verification error, resync to clean, copies the same byte for byte."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from hast.lab import Host, Lab, Running, one_disk
from hast.lab.load import Writer

pytestmark = [pytest.mark.lab, pytest.mark.device]

DISK_BYTES = 64 << 20
LOAD_S = 4
PROMOTION_S = 15.0
"""A few seconds on a quiet machine; far less than wait-for-peer, which is for hosts that boot."""
WORKER = r"^hastd: disk1 \(primary\)"
FIO = (
    "fio --name=load --filename=/dev/hast/disk1 --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=32"
    " --size=24m --verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based --randrepeat=0"
)


@pytest.fixture
def lab() -> Iterator[Lab]:
    if shutil.which("fio") is None:
        pytest.skip("needs fio")
    with Lab(configuration=one_disk.configuration("timeout 3"), disk_size_bytes=DISK_BYTES) as lab:
        one_disk.bring_up(lab)
        yield lab


def start_load(host: Host, seconds: int = LOAD_S) -> Running:
    load = host.spawn(f"{FIO} --runtime={seconds}")
    host.wait_for("fio", lambda: bool(host.processes("^fio ")), 10)
    return load


def finish_load(load: Running, lab: Lab) -> None:
    done = load.wait(timeout_s=60 + LOAD_S)
    assert "verify" not in done.stderr, done.stderr
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{lab.hast1.log()[-3000:]}"


def assert_copies_equal(lab: Lab) -> None:
    one, two = one_disk.digests(lab)
    assert one == two


def pause(host: Host, seconds: float) -> None:
    host.run(["sleep", str(seconds)])


def test_kill_of_the_secondary_daemon_under_load(lab: Lab) -> None:
    load = start_load(lab.hast1, LOAD_S + 1)
    for _ in range(2):
        pause(lab.hast1, 0.7)
        for process in lab.hast2.processes("hastd"):
            process.kill()
        pause(lab.hast1, 0.7)
        one_disk.start(lab.hast2, "secondary")
    finish_load(load, lab)
    one_disk.wait_complete(lab.hast1)
    assert_copies_equal(lab)


def test_kill_of_the_primary_worker_under_load(lab: Lab) -> None:
    load = start_load(lab.hast1)
    for _ in range(3):
        pause(lab.hast1, 0.8)
        lab.hast1.wait_for("a primary worker", lambda: bool(lab.hast1.processes(WORKER)), 10)
        lab.hast1.processes(WORKER)[0].kill()
    finish_load(load, lab)
    one_disk.wait_complete(lab.hast1)
    assert_copies_equal(lab)


def test_kill_of_both_supervisors_under_load_interrupts_nothing(lab: Lab) -> None:
    workers = [host.processes(r"^hastd: disk1 \(")[0].pid for host in (lab.hast1, lab.hast2)]
    load = start_load(lab.hast1, LOAD_S + 1)
    for _ in range(3):
        pause(lab.hast1, 0.3)
        for host in (lab.hast1, lab.hast2):
            host.processes("^hastd$")[0].kill()
        pause(lab.hast1, 0.3)
        for host in (lab.hast1, lab.hast2):
            host.run("hastd", check=True)
    finish_load(load, lab)
    assert [host.processes(r"^hastd: disk1 \(")[0].pid for host in (lab.hast1, lab.hast2)] == workers
    lab.hast1.processes(WORKER)[0].kill()
    one_disk.wait_complete(lab.hast1)
    assert_copies_equal(lab)


def test_power_cut_of_the_secondary_under_load(lab: Lab) -> None:
    load = start_load(lab.hast1, LOAD_S + 3)
    pause(lab.hast1, 1.0)
    lab.hast2.power_off()
    pause(lab.hast1, 1.0)
    lab.hast2.power_on()
    one_disk.start(lab.hast2, "secondary")
    finish_load(load, lab)
    one_disk.wait_complete(lab.hast1)
    assert_copies_equal(lab)


def test_power_cut_of_the_primary_loses_no_acknowledged_write(lab: Lab) -> None:
    writer = Writer(one_disk.device(lab.hast1), blocks=2048)
    writer.start()
    writer.wait_for_writes(2000)
    lab.hast1.power_off()
    writer.stop()
    began_s = time.monotonic()
    one_disk.set_role(lab.hast2, "primary")
    assert time.monotonic() - began_s < PROMOTION_S
    assert writer.wrong_blocks(one_disk.device(lab.hast2)) == []
    lab.hast1.power_on()
    one_disk.start(lab.hast1, "secondary")
    one_disk.wait_complete(lab.hast2)
    assert writer.wrong_blocks(one_disk.device(lab.hast2)) == []
    assert_copies_equal(lab)


def test_pulled_replication_cable_under_load(lab: Lab) -> None:
    load = start_load(lab.hast1, LOAD_S + 3)
    cable = lab.cable("hast1", "repl")
    pause(lab.hast1, 1.0)
    cable.pull()
    lab.hast1.wait_for("degraded", lambda: "status: degraded" in one_disk.status(lab.hast1), 20)
    cable.plug()
    finish_load(load, lab)
    one_disk.wait_complete(lab.hast1)
    assert_copies_equal(lab)
