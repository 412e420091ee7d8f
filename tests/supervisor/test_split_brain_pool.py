"""Split brain of two disks that one pool lies on, between real daemons: both in one direction, or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbd_client import NbdClient
from worker_pair import data_area, wait_until

from hast.cli.client import ControlClient
from hast.format import metadata as metadata_format
from hast.lab.loopback import LoopbackPair, Node

EXTENT = 2 << 20
DISKS = ("disk1", "disk2")
FAILOVER = "resources disk1 disk2\npool zhast\n"


class TornPool:
    """A pair whose disks were written apart: node1 will be primary and has two changed extents on each."""

    def __init__(self, directory: Path) -> None:
        self.pair = LoopbackPair(directory, DISKS, 32 << 20, "\ttimeout 5\n\twait-for-peer 0\n")
        self.one, self.two = self.pair.one, self.pair.two

    def tear(self, second: dict[str, int], policy: str = "manual", failover: str = FAILOVER) -> None:
        """`second`: how many extents node2 changed on each disk."""
        for node in (self.one, self.two):
            text = node.configuration.read_text()
            node.configuration.write_text(text.replace("\ttimeout 5\n", f"\ttimeout 5\n\tsplit-brain {policy}\n"))
            node.configuration.with_name("failover.conf").write_text(failover)
        self.pair.bring_up()
        self.two.hastctl("role", "init", "all")
        self.write(self.one, b"one ", dict.fromkeys(DISKS, 2))
        self.one.hastctl("role", "init", "all")
        self.two.hastctl("role", "primary", "all")
        self.write(self.two, b"two ", second)
        self.two.hastctl("role", "secondary", "all")
        self.one.hastctl("role", "primary", "--force", "all")

    def write(self, node: Node, word: bytes, counts: dict[str, int]) -> None:
        for disk, count in counts.items():
            client = NbdClient(node.nbd_socket(disk))
            for extent in range(count):
                assert client.write(extent * EXTENT, word * 1024) == 0
            client.close()

    def status(self, node: Node) -> list[dict[str, Any]]:
        client = ControlClient(str(node.directory / "run" / "hastctl"))
        found: list[dict[str, Any]] = client.ask({"command": "status", "resources": ["all"]}, 60)["resources"]
        return found

    def reasons(self, node: Node) -> list[str]:
        return [str((each["split_brain"] or {}).get("reason") or "") for each in self.status(node)]

    def wait_reason(self, node: Node, text: str) -> None:
        wait_until(lambda: all(text in reason for reason in self.reasons(node)), f"{text!r} as reason", 40)

    def wait_in_step(self, *disks: str) -> None:
        def in_step() -> bool:
            found = [each for each in self.status(self.one) if each["name"] in (disks or DISKS)]
            return all(each["status"] == "complete" and not each["dirty"] and not each["sync"] for each in found)

        wait_until(in_step, "disks in step", 40)

    def ordered(self) -> list[bool]:
        return [metadata_format.decode(self.two.disk_file(disk).read_bytes()[:4096]).discard for disk in DISKS]

    def contents(self, node: Node) -> list[bytes]:
        return [data_area(node.disk_file(disk))[:4] for disk in DISKS]

    def resolve(self, *arguments: str) -> tuple[int, str]:
        done = self.two.run(["hastctl", "resolve", "-c", str(self.two.configuration), *arguments])
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TornPool]:
    monkeypatch.setenv("HAST_RECONNECT_S", "0.5")
    torn = TornPool(tmp_path)
    with torn.pair:
        yield torn


def test_by_hand_all_resources_of_a_pool_have_to_be_named(torn: TornPool) -> None:
    torn.tear({"disk1": 1, "disk2": 3})
    torn.wait_reason(torn.two, "pool zhast (disk1 disk2): policy manual")
    code, text = torn.resolve("--discard-local", "disk1")
    assert code == 69
    assert "one direction or not at all: hastctl resolve --discard-local disk1 disk2" in text
    assert torn.ordered() == [False, False]
    for node in (torn.one, torn.two):
        assert "hastctl resolve --discard-local disk1 disk2" in node.hastctl("status", "disk1")
    assert torn.resolve("--discard-local", "disk1", "disk2")[0] == 0
    torn.wait_in_step()
    assert torn.contents(torn.one) == torn.contents(torn.two) == [b"one ", b"one "]


def test_by_hand_none_is_ordered_when_one_cannot_be(torn: TornPool) -> None:
    torn.tear({"disk1": 1, "disk2": 3})
    torn.wait_reason(torn.two, "policy manual")
    torn.two.hastctl("role", "primary", "--force", "disk2")
    code, text = torn.resolve("--discard-local", "all")
    assert code == 69
    assert "Nothing is ordered for disk1, and all of one pool or none is: see disk2." in text
    assert torn.ordered() == [False, False]


def test_policies_that_agree_resolve_the_whole_pool(torn: TornPool) -> None:
    torn.tear({"disk1": 1, "disk2": 1}, "discard-least-changes")
    torn.wait_in_step()
    assert torn.contents(torn.one) == torn.contents(torn.two) == [b"one ", b"one "]


def test_policies_that_disagree_resolve_nothing_and_say_so(torn: TornPool) -> None:
    torn.tear({"disk1": 1, "disk2": 3}, "discard-least-changes")
    torn.wait_reason(torn.two, "the policies do not agree, so none is resolved")
    torn.wait_reason(torn.one, "decided by the secondary for all of pool zhast (disk1 disk2)")
    assert torn.contents(torn.two) == [b"two ", b"two "]
    assert torn.ordered() == [False, False]


def test_a_failover_conf_that_cannot_be_read_resolves_nothing_but_by_force(torn: TornPool) -> None:
    torn.tear({"disk1": 1, "disk2": 1}, "discard-least-changes", "pool {\n")
    torn.wait_reason(torn.two, "nobody knows what it belongs to")
    code, text = torn.resolve("--discard-local", "disk1")
    assert code == 69
    assert "failover.conf:1:6" in text
    assert torn.resolve("--discard-local", "--force", "disk1")[0] == 0
    torn.wait_in_step("disk1")
    assert torn.contents(torn.two) == [b"one ", b"two "]
