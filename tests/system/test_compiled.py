"""Debian 13's package is machine code where every request goes through, Debian 12's is not; pairs of both replicate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import booted
import pytest
from pair import RESOURCES
from system_machine import Machine
from upgrades import Replicating

from hast.lab.cluster import status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("system")]
ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"daemon", "format", "replication", "worker"}
BUILT = {"bookworm": set[str](), "trixie": ROOMS}
"""Of which rooms the package of a release has machine code (debian/rules)."""
SHARED = re.compile(r"/dist-packages/[0-9a-f]+__mypyc\.")
"""Where mypyc puts the code; the libraries beside the sources only lead there."""


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicating]:
    if reason := booted.missing():
        pytest.skip(reason)
    packages = booted.packages(request.param, ROOT, tmp_path_factory.mktemp("packages"))
    with Replicating(packages, request.param) as made:
        yield made


def rooms(paths: str) -> set[str]:
    """Rooms of the package whose libraries are among these lines."""
    return set(re.findall(r"/dist-packages/hast/(\w+)/\S+\.so$", paths, re.M))


def worker_maps(machine: Machine) -> dict[str, str]:
    """What each worker has mapped, by resource."""
    pids = {name: int(entry["workerpid"]) for name, entry in status(machine).items()}
    assert len(pids) == len(RESOURCES)
    assert all(pids.values()), pids
    return {name: machine.run(f"cat /proc/{pid}/maps").stdout for name, pid in pids.items()}


@pytest.mark.parametrize("pair", BUILT, indirect=True)
class TestPackage:
    def test_it_holds_machine_code_where_the_release_can_compile(self, pair: Replicating) -> None:
        assert rooms(pair.hast1.run("dpkg -L python3-hast").stdout) == BUILT[pair.suite]

    def test_its_version_says_whether_it_is_compiled(self, pair: Replicating) -> None:
        told = pair.hast1.run("hastd --version").stdout.split()
        assert told[2:] == (["compiled"] if BUILT[pair.suite] else [])

    def test_workers_of_both_nodes_run_what_the_package_holds(self, pair: Replicating) -> None:
        for machine in pair.machines:
            for name, maps in worker_maps(machine).items():
                assert "python3" in maps, f"{machine.name}, {name}: {maps}"
                assert rooms(maps) == BUILT[pair.suite], f"{machine.name}, {name}"
                assert bool(SHARED.search(maps)) == bool(BUILT[pair.suite]), f"{machine.name}, {name}"

    def test_a_pair_of_it_replicates(self, pair: Replicating) -> None:
        pair.hast1.run("dd if=/dev/urandom of=/mnt/written bs=64k count=512 conv=fsync 2>/dev/null")
        pair.prove()
