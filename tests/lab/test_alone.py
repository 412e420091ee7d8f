"""A primary without its peer: nobody makes up for what a dead worker took along, and yet users see no error."""

from __future__ import annotations

import sys
import time

import pytest

from hast.lab import Host, Lab, one_disk
from hast.lab.processes import Running

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("alone")]

WORKER = r"^hastd: disk1 \(primary\)"
ROUNDS = 12
WRITER = """
import os
fd = os.open("/dev/hast/disk1", os.O_RDWR)
number = 0
while True:
    number += 1
    os.pwrite(fd, number.to_bytes(4096, "little"), 4096 * (number % 64))
    os.fsync(fd)
    print(number, flush=True)
"""


def test_workers_of_a_primary_that_is_alone_die_in_the_middle_of_flushes_and_no_user_is_told_an_error() -> None:
    with Lab(configuration=one_disk.configuration("timeout 5", "wait-for-peer 0")) as lab:
        host = lab.hast1
        host.run("hastctl create disk1", check=True)
        one_disk.start(host, "primary")
        writer = host.spawn([sys.executable, "-c", WRITER])
        for _ in range(ROUNDS):
            wait_written(host, writer)
            host.wait_for("a worker", lambda: bool(host.processes(WORKER)), 10)
            time.sleep(0.6)
            host.processes(WORKER)[0].kill()
        wait_written(host, writer)
        writer.kill()


def wait_written(host: Host, writer: Running) -> None:
    before = writer.output().count("\n")
    host.wait_for("records", lambda: writer.poll() is not None or writer.output().count("\n") > before + 20, 20)
    assert writer.poll() is None, f"{writer.errors()} {host.log()[-2000:]}"
