"""Disks past the page cache on a booted Debian: io_uring is there for workers without rights, in a confined unit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import booted
import pytest
from pair import RESOURCES
from system_machine import Machine, until
from upgrades import Replicating

from hast.lab.cluster import status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("system")]
ROOT = Path(__file__).resolve().parents[2]
CHANGE = r"sed -i 's/^\(resource [a-z0-9]* {\)/\1\n\tdisk-cache off/' /etc/hast.conf && hastctl reload"
AGAIN_S = 60


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Replicating]:
    if reason := booted.missing():
        pytest.skip(reason)
    with Replicating(booted.packages("bookworm", ROOT, tmp_path / "packages"), "bookworm") as made:
        yield made


def worker_pids(machine: Machine) -> list[int]:
    return [int(entry["workerpid"]) for entry in status(machine).values()]


def rings(machine: Machine, pid: int) -> int:
    return machine.run(f"ls -l /proc/{pid}/fd").stdout.count("[io_uring]")


def test_a_confined_worker_without_rights_uses_io_uring_and_the_pair_replicates(pair: Replicating) -> None:
    for machine in pair.machines:
        assert [rings(machine, pid) for pid in worker_pids(machine)] == [0] * len(RESOURCES)
        machine.run(CHANGE)
        before = worker_pids(machine)
        machine.run("kill -9 " + " ".join(map(str, before)))
        until(
            f"other workers on {machine.name}",
            lambda machine=machine, before=before: not {0, *before} & set(worker_pids(machine)),  # type: ignore[misc]
            AGAIN_S,
        )
        pair.wait_complete(pair.hast1)
    for machine in pair.machines:
        for pid in worker_pids(machine):
            assert rings(machine, pid), machine.run("journalctl -u hastd --no-pager | tail -20").stdout
            assert machine.run(f"stat -c %U /proc/{pid}").stdout.strip() == "hast-worker"
    pair.hast1.run("dd if=/dev/urandom of=/mnt/written bs=64k count=512 conv=fsync 2>/dev/null")
    pair.prove()
