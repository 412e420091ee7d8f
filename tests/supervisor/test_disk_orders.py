"""Two real hastd: disks are taken out of service, into it again, and replaced, while a client writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import DATA_OFFSET, Pair, problems
from writing_client import BLOCK, Writer

from daemon import Daemon, wait_for
from hast.format import metadata as metadata_format

SIZE = 16 << 20


class DiskPair(Pair):
    """Its disks change."""

    complete_s = 30.0

    def check_equal(self, writer: Writer) -> None:
        """The disks in use hold the same, and all that was acknowledged."""
        first, second = (
            Path(node.status()["localpath"]).read_bytes()[DATA_OFFSET:SIZE] for node in (self.one, self.two)
        )
        assert first == second
        for block, data in writer.content.items():
            assert first[block * BLOCK :][:BLOCK] == data


@pytest.fixture
def pair(make_daemon: MakeDaemon) -> Iterator[DiskPair]:
    made = DiskPair(make_daemon(fake=False), make_daemon(fake=False))
    for node, peer in (made.both, made.both[::-1]):
        node.write_config({"disk1": f"remote tcp4://127.0.0.1:{peer.port}"}, inside="timeout 5")
    made.bring_up()
    yield made
    made.check_logs()


def order(daemon: Daemon, command: str, *arguments: str) -> str:
    """Run a command of hastctl; what it complains of."""
    done = daemon.hastctl(command, "disk1", *arguments)
    assert (done.returncode != 0) == bool(done.stderr), done.stderr
    return done.stderr


def new_disk(daemon: Daemon, size: int = SIZE) -> str:
    path = daemon.directory / "new.img"
    with path.open("wb") as file:
        file.truncate(size)
    return str(path)


def test_the_disk_of_a_primary_is_detached_and_attached_under_load(pair: DiskPair, writer: Writer) -> None:
    worker = pair.one.status()["workerpid"]
    assert order(pair.one, "detach") == ""
    held = Path(f"/proc/{worker}/fd").iterdir()
    assert not [fd for fd in held if fd.exists() and str(fd.resolve()).endswith("disk1.img")]
    assert pair.one.status()["status"] == "degraded"
    assert "out of service" in problems(pair.one, "disk")
    writer.goes_on(5)
    assert "not in use" in order(pair.one, "detach")
    assert "the other node lacks" in order(pair.two, "detach")
    assert "the other node lacks" in order(pair.two, "replace", new_disk(pair.two))
    assert order(pair.one, "attach") == ""
    writer.goes_on(5)
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    assert pair.one.status()["workerpid"] == worker
    started = [event["text"] for event in pair.one.status()["history"] if event["event"] == "syncstart"]
    assert "2097152 bytes to go" in started[-1], "no more than the extent that was written"
    pair.check_equal(writer)
    assert pair.one.role("secondary")["error"] is None
    assert pair.two.role("primary")["error"] is None
    pair.wait_complete()
    pair.check_equal(writer)


def test_a_primary_without_a_whole_peer_keeps_its_disk(pair: DiskPair, writer: Writer) -> None:
    assert pair.two.role("init")["error"] is None
    wait_for(lambda: pair.one.status()["status"] == "degraded", "the loss of the peer")
    assert "only copy" in order(pair.one, "detach")
    assert "only copy" in order(pair.one, "replace", new_disk(pair.one))
    writer.goes_on(5)
    assert not problems(pair.one, "disk")


@pytest.mark.slow
def test_the_disk_of_a_secondary_is_detached_and_attached_under_load(pair: DiskPair, writer: Writer) -> None:
    assert order(pair.two, "detach") == ""
    wait_for(lambda: "out of service" in problems(pair.one, "refused"), "the reason on the primary")
    assert pair.one.status()["status"] == "degraded"
    assert "out of service" in problems(pair.two, "disk")
    writer.goes_on(5)
    assert "out of service" in str(pair.two.role("primary")["error"])
    assert pair.two.role("secondary")["error"] is None
    assert order(pair.two, "attach") == ""
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    pair.check_equal(writer)


def test_the_disk_of_a_primary_is_replaced_under_load(pair: DiskPair, writer: Writer) -> None:
    path = new_disk(pair.one, SIZE + (1 << 20))
    worker = pair.one.status()["workerpid"]
    assert order(pair.one, "replace", path) == ""
    writer.goes_on(5)
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    assert pair.one.status()["workerpid"] == worker
    assert pair.one.status()["localpath"] == path
    pair.check_equal(writer)
    pair.one.write_config({"disk1": f"local {path}\n remote tcp4://127.0.0.1:{pair.two.port}"}, inside="timeout 5")
    assert pair.one.ask({"command": "reload"})["error"] is None
    assert pair.one.status()["workerpid"] == worker


def test_the_disk_of_a_secondary_is_replaced_under_load(pair: DiskPair, writer: Writer) -> None:
    path = new_disk(pair.two, SIZE + (1 << 20))
    assert order(pair.two, "replace", path) == ""
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    assert pair.two.status()["localpath"] == path
    pair.check_equal(writer)


@pytest.mark.parametrize("node", ["one", "two"])
def test_a_disk_that_will_not_do_is_refused_and_nothing_changes(pair: DiskPair, writer: Writer, node: str) -> None:
    daemon: Daemon = getattr(pair, node)
    assert "too small" in order(daemon, "replace", new_disk(daemon, SIZE - 4096))
    assert "neither a regular file" in order(daemon, "replace", str(daemon.directory))
    other = Path(new_disk(daemon))
    block = (daemon.directory / "disk1.img").read_bytes()[:4096]
    foreign = metadata_format.encode(replace(metadata_format.decode(block), resource="disk9"))
    other.write_bytes(foreign + bytes(SIZE - 4096))
    assert "belongs to resource disk9" in order(daemon, "replace", str(other))
    other.write_bytes(foreign.replace(b"disk9", b"disk8") + bytes(SIZE - 4096))
    assert "damaged" in order(daemon, "replace", str(other))
    assert order(daemon, "replace", str(daemon.directory / "disk1.img")) != ""
    writer.goes_on(5)
    pair.wait_complete()
    assert daemon.status()["localpath"].endswith("disk1.img")


def test_a_detached_disk_stays_so_over_the_death_of_hastd(pair: DiskPair, writer: Writer) -> None:
    assert order(pair.one, "detach") == ""
    pair.one.kill()
    pair.one.start()
    assert "out of service" in problems(pair.one, "disk")
    writer.goes_on(5)
    assert order(pair.one, "attach") == ""
    pair.wait_complete()
    writer.stop()
    pair.wait_complete()
    pair.check_equal(writer)
