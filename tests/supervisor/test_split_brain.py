"""Split brain between two real daemons on loopback: detected, shown, resolved both ways, nothing more copied."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbd_client import NbdClient
from worker_pair import data_area, wait_until

from hast.cli.client import ControlClient
from hast.format import metadata as metadata_format
from hast.lab.loopback import LoopbackPair, Node

DISK = "disk1"
EXTENT = 2 << 20
DISK_BYTES = 48 << 20
SETTINGS = "\ttimeout 5\n\twait-for-peer 0\n"
ONE, TWO = b"one " * 1024, b"two " * 1024


class Torn:
    """A pair that was in step, then written apart: node1 is primary and changed extents 0 and 1, node2 is secondary and
    changed extents 1, 2 and 3."""

    def __init__(self, directory: Path) -> None:
        self.pair = LoopbackPair(directory, size_bytes=DISK_BYTES, extra=SETTINGS)
        self.one, self.two = self.pair.one, self.pair.two

    def tear(self, policy: str = "manual", first: str = "one") -> None:
        """`first`: the node that is the first to go on alone."""
        self.pair.bring_up()
        if policy != "manual":
            self.configure(policy)
        self.role(self.two, "init")
        if first == "one":
            self.write(self.one, ONE, 0, 1)
        self.role(self.one, "init")
        if first == "one":
            self.let_time_pass(policy)
        self.role(self.two, "primary")
        self.write(self.two, TWO, 1, 2, 3)
        self.role(self.two, "init")
        if first == "two":
            self.let_time_pass(policy)
            self.role(self.one, "primary")
            self.write(self.one, ONE, 0, 1)
            self.role(self.one, "init")

    def let_time_pass(self, policy: str) -> None:
        """Metadata tells the moment of the first write alone in whole seconds."""
        if policy.endswith("primary"):
            time.sleep(1.1)

    def configure(self, policy: str) -> None:
        for node in (self.one, self.two):
            text = node.configuration.read_text()
            node.configuration.write_text(text.replace("\ttimeout 5\n", f"\ttimeout 5\n\tsplit-brain {policy}\n"))
            node.hastctl("reload")

    def meet(self) -> None:
        """node1 serves, node2 is secondary: they meet."""
        self.role(self.two, "secondary")
        self.role(self.one, "primary", force=True)

    def write(self, node: Node, data: bytes, *extents: int) -> None:
        client = NbdClient(node.nbd_socket(DISK))
        for extent in extents:
            assert client.write(extent * EXTENT, data) == 0
        client.close()

    def ask(self, node: Node, command: str, **fields: Any) -> dict[str, Any]:
        """As hastctl does, without its process."""
        client = ControlClient(str(node.directory / "run" / "hastctl"))
        found: dict[str, Any] = client.ask({"command": command, "resources": [DISK], **fields}, 60)["resources"][0]
        return found

    def status(self, node: Node) -> dict[str, Any]:
        return self.ask(node, "status")

    def role(self, node: Node, role: str, force: bool = False) -> None:
        assert self.ask(node, "role", role=role, force=force)["error"] is None

    def discard(self, node: Node, order: str = "discard") -> None:
        assert self.ask(node, "resolve", order=order)["error"] is None

    def events(self, node: Node, name: str) -> list[dict[str, Any]]:
        return [event for event in self.status(node)["history"] if event["event"] == name]

    def wait_in_step(self, node: Node, deadline_s: float = 40.0) -> None:
        def in_step() -> bool:
            status = self.status(node)
            return status["status"] == "complete" and not status["dirty"] and not status["sync"]

        wait_until(in_step, "both copies in step", deadline_s)
        wait_until(lambda: not self.metadata(self.one).inconsistent, "no mark on node1")
        wait_until(lambda: not self.metadata(self.two).inconsistent, "no mark on node2")

    def metadata(self, node: Node) -> metadata_format.Metadata:
        return metadata_format.decode(node.disk_file(DISK).read_bytes()[:4096])

    def content(self, node: Node, count: int = 5) -> list[bytes]:
        """The first bytes of the first extents."""
        area = data_area(node.disk_file(DISK))
        return [area[extent * EXTENT : extent * EXTENT + 4] for extent in range(count)]

    def equal(self) -> bool:
        return data_area(self.one.disk_file(DISK)) == data_area(self.two.disk_file(DISK))

    def records(self, node: Node) -> list[dict[str, Any]]:
        """The records of discarded changes, each with its map."""
        found = []
        for path in sorted((node.directory / "run" / "state" / "discarded").glob("*.json")):
            record = json.loads(path.read_text())
            found.append(record | {"map": (path.parent / record["map_file"]).read_bytes()})
        return found

    def hastctl(self, node: Node, command: str, *arguments: str) -> tuple[int, str]:
        done = node.run(["hastctl", command, "-c", str(node.configuration), *arguments])
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Torn]:
    monkeypatch.setenv("HAST_RECONNECT_S", "0.5")
    torn = Torn(tmp_path)
    with torn.pair:
        yield torn


def known_on(torn: Torn, node: Node) -> Callable[[], Any]:
    return lambda: torn.status(node)["split_brain"]


def test_both_nodes_show_it_and_nothing_is_overwritten(torn: Torn) -> None:
    torn.tear()
    before = [data_area(node.disk_file(DISK)) for node in (torn.one, torn.two)]
    torn.role(torn.two, "secondary")
    code, text = torn.hastctl(torn.one, "role", "primary", DISK)
    assert code == 69
    assert "hastctl resolve --discard-local" in text
    torn.role(torn.one, "primary", force=True)
    for node, local, peer, differing in ((torn.one, 2, 3, 4), (torn.two, 3, 2, 5)):
        found = wait_until(known_on(torn, node), f"split brain known on {node.name}")
        assert (found["local"]["extents"], found["peer"]["extents"]) == (local, peer)
        assert found["differing_extents"] == differing
        assert found["differing_bytes"] == differing * EXTENT
        assert time.time() - 120 < found["since"] <= time.time()
        assert "manual" in found["reason"]
        assert "split-brain" in {problem["kind"] for problem in torn.status(node)["problems"]}
        assert torn.events(node, "split-brain")
        shown = node.hastctl("status", DISK)
        assert f"local {local} extents" in shown
        assert f"peer {peer} extents" in shown
        assert "next step: to keep" in shown
        assert "split-brain: since" in node.hastctl("list", DISK)
    attempts = torn.status(torn.two)["split_brain"]["attempts"]
    wait_until(lambda: torn.status(torn.two)["split_brain"]["attempts"] > attempts, "another attempt", 15)
    assert [data_area(node.disk_file(DISK)) for node in (torn.one, torn.two)] == before
    torn.two.stop()
    torn.two.start()
    assert torn.status(torn.two)["split_brain"] is None
    torn.role(torn.two, "secondary")
    wait_until(known_on(torn, torn.two), "split brain known again", 15)


def test_the_secondary_gives_up_its_changes_by_order(torn: Torn) -> None:
    torn.tear()
    torn.meet()
    wait_until(known_on(torn, torn.two), "split brain known")
    assert torn.hastctl(torn.one, "resolve", "--discard-local", DISK)[0] == 69
    assert torn.hastctl(torn.two, "resolve", DISK)[0] == 64
    assert torn.hastctl(torn.two, "resolve", "--abandon", DISK)[0] == 69

    code, text = torn.hastctl(torn.two, "resolve", "--discard-local", DISK)
    assert code == 0, text
    assert "3 extents (6.0MB)" in text
    torn.wait_in_step(torn.one)
    assert torn.equal()
    assert torn.content(torn.one) == [b"one ", b"one ", bytes(4), bytes(4), bytes(4)]
    (record,) = torn.records(torn.two)
    assert (record["extents"], record["bytes"]) == (3, 3 * EXTENT)
    assert record["ranges"] == [{"offset": EXTENT, "length": 3 * EXTENT}]
    assert record["map"][:2] == bytes([0b1110, 0])
    assert torn.records(torn.one) == []
    assert sum("Synchronization started. 8388608 bytes" in line for line in torn.one.log().splitlines()) == 1
    for node in (torn.one, torn.two):
        assert torn.status(node)["split_brain"] is None
        assert torn.events(node, "split-brain-resolved")
        assert "split-brain" not in node.hastctl("status", DISK)
        assert torn.metadata(node).ahead_since_s == 0
        assert not torn.metadata(node).discard


def test_the_old_primary_gives_up_its_changes(torn: Torn) -> None:
    torn.tear()
    torn.meet()
    wait_until(known_on(torn, torn.one), "split brain known")
    torn.role(torn.one, "secondary")
    torn.discard(torn.one)
    torn.role(torn.two, "primary")
    torn.wait_in_step(torn.two)
    assert torn.equal()
    assert torn.content(torn.two) == [bytes(4), b"two ", b"two ", b"two ", bytes(4)]
    (record,) = torn.records(torn.one)
    assert record["ranges"] == [{"offset": 0, "length": 2 * EXTENT}]
    assert "8388608 bytes" in torn.events(torn.two, "syncstart")[-1]["text"]


def test_an_order_can_be_taken_back(torn: Torn) -> None:
    torn.tear()
    torn.meet()
    wait_until(known_on(torn, torn.two), "split brain known")
    torn.one.stop()
    torn.discard(torn.two)
    assert torn.status(torn.two)["discard_ordered"]
    assert "discard ordered: yes" in torn.two.hastctl("dump", DISK)
    assert "discarded at the next connection" in torn.two.hastctl("status", DISK)
    torn.discard(torn.two, "abandon")
    assert not torn.status(torn.two)["discard_ordered"]
    attempts = torn.status(torn.two)["split_brain"]["attempts"]
    torn.one.start()
    torn.role(torn.one, "primary", force=True)
    wait_until(lambda: torn.status(torn.two)["split_brain"]["attempts"] > attempts, "refused again", 15)
    assert torn.content(torn.two)[1:4] == [b"two "] * 3


def test_an_order_needs_a_split_brain_or_force(torn: Torn) -> None:
    torn.pair.bring_up()
    code, text = torn.hastctl(torn.two, "resolve", "--discard-local", DISK)
    assert (code, "no split brain to resolve" in text) == (69, True)
    torn.role(torn.two, "init")
    code, text = torn.hastctl(torn.two, "resolve", "--discard-local", DISK)
    assert (code, "--force" in text) == (69, True)
    torn.two.hastctl("resolve", "--discard-local", "--force", DISK)
    torn.role(torn.two, "secondary")
    torn.wait_in_step(torn.one)
    assert not torn.metadata(torn.two).discard
    assert torn.events(torn.two, "warning")
    assert torn.hastctl(torn.two, "resolve", "--discard-local", "nowhere")[0] == 1


@pytest.mark.parametrize(
    ("policy", "first", "resolved"),
    [
        ("discard-least-changes", "one", False),
        ("discard-younger-primary", "one", True),
        pytest.param("discard-older-primary", "two", True, marks=pytest.mark.slow),
    ],
)
def test_policies(torn: Torn, policy: str, first: str, resolved: bool) -> None:
    """node2, the secondary, has more changes."""
    torn.tear(policy, first)
    torn.meet()
    if not resolved:
        found = wait_until(known_on(torn, torn.one), "split brain known")
        assert policy in found["reason"]
        assert torn.records(torn.two) == []
        assert torn.content(torn.two)[1:4] == [b"two "] * 3
        return
    torn.wait_in_step(torn.one)
    assert torn.equal()
    assert torn.content(torn.one) == [b"one ", b"one ", bytes(4), bytes(4), bytes(4)]
    (record,) = torn.records(torn.two)
    assert (record["extents"], record["peer"]["extents"]) == (3, 2)
    assert policy in record["reason"]
    for node in (torn.one, torn.two):
        assert torn.events(node, "split-brain")
        assert torn.events(node, "split-brain-resolved")


def test_least_changes_discards_by_itself_once_the_roles_fit(torn: Torn) -> None:
    torn.tear("discard-least-changes")
    torn.role(torn.one, "secondary")
    torn.role(torn.two, "primary")
    torn.wait_in_step(torn.two)
    assert torn.equal()
    assert torn.content(torn.two) == [bytes(4), b"two ", b"two ", b"two ", bytes(4)]
    assert torn.records(torn.one)[0]["extents"] == 2


@pytest.mark.parametrize("victim", [pytest.param("one", marks=pytest.mark.slow), "two"])
def test_kill_in_the_middle_of_the_resynchronisation(torn: Torn, victim: str) -> None:
    torn.tear()
    torn.meet()
    wait_until(known_on(torn, torn.two), "split brain known")
    torn.one.hastctl("sync-rate", "2M", DISK)
    torn.discard(torn.two)
    wait_until(lambda: torn.status(torn.one)["sync"], "a synchronisation under way", 20)
    torn.one.kill() if victim == "one" else torn.two.kill()
    metadata = torn.metadata(torn.two)
    assert metadata.inconsistent
    assert not metadata.discard
    if victim == "one":
        code, text = torn.hastctl(torn.two, "role", "primary", DISK)
        assert (code, "inconsistent" in text) == (69, True)
        torn.role(torn.two, "secondary")
        torn.one.start()
        torn.role(torn.one, "primary")
    else:
        torn.two.start()
        torn.role(torn.two, "secondary")
    torn.one.hastctl("sync-rate", "0", DISK)
    torn.wait_in_step(torn.one)
    assert torn.equal()
    assert torn.content(torn.one) == [b"one ", b"one ", bytes(4), bytes(4), bytes(4)]
    assert len(torn.records(torn.two)) == 1
