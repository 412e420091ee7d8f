"""Two worker processes and an NBD client: what is written to the primary is on both copies, whatever breaks."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbd_client import WRITE, NbdClient
from worker_pair import SecondaryNode, Worker, create_image, data_area, start_primary, wait_until

from hast.config.model import Device, DiskCache, Resource
from hast.format.constants import Checksum, Compression, Feature, Replication
from hast.format.handshake import HelloReply
from hast.worker import messages


class Pair:
    """Factory of nodes that ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.one = directory / "one.img"
        self.two = directory / "two.img"
        create_image(self.one)
        create_image(self.two)
        self._ends: list[Callable[[], None]] = []

    def secondary(self, **settings: Any) -> SecondaryNode:
        node = SecondaryNode(self.two, **settings)
        self._ends.append(node.close)
        return node

    def primary(self, *remotes: str, **settings: Any) -> tuple[Worker, Path]:
        worker, path = start_primary(self.one, remotes, self.directory, **settings)
        self._ends.append(worker.kill)
        return worker, path

    def client(self, path: Path) -> NbdClient:
        client = NbdClient(path)
        self._ends.append(client.close)
        return client

    def up(self, **settings: Any) -> tuple[Worker, SecondaryNode, NbdClient]:
        """A connected pair and a client."""
        node = self.secondary()
        worker, path = self.primary(node.address, **settings)
        worker.expect_ready()
        worker.expect_event("connect")
        return worker, node, self.client(path)

    def equal(self) -> bool:
        return data_area(self.one) == data_area(self.two)

    def close(self) -> None:
        for end in reversed(self._ends):
            end()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def synced(worker: Worker) -> bool:
    status = worker.status()
    return status["status"] == "complete" and status["sync"] is None and status["peer_missing"] == 0


def test_a_primary_says_that_its_peer_is_whole_while_it_is_there_and_has_everything(pair: Pair) -> None:
    worker, node, client = pair.up()
    wait_until(lambda: worker.status()["peer_whole"], "a whole peer")
    node.worker.kill()
    wait_until(lambda: not worker.status()["peer_whole"], "no peer")
    assert client.write(0, b"x" * 4096) == 0


@pytest.mark.parametrize("replication", list(Replication))
@pytest.mark.parametrize(
    ("checksum", "compression"),
    [(Checksum.NONE, Compression.NONE), (Checksum.CRC32, Compression.LZF), (Checksum.SHA256, Compression.HOLE)],
)
def test_writes_are_on_both_copies(
    pair: Pair, replication: Replication, checksum: Checksum, compression: Compression
) -> None:
    worker, _node, client = pair.up(replication=replication, checksum=checksum, compression=compression)
    rng = random.Random(1)
    written_bytes = 0
    for index in range(60):
        length = rng.choice([512, 4096, 65536, 300 * 1024])
        offset = rng.randrange(0, (client.size - length) // 512) * 512
        data = bytes(length) if index % 5 == 0 else rng.randbytes(length)
        written_bytes += length
        assert client.write(offset, data, fua=index % 10 == 0) == 0
        assert client.read(offset, length) == data
    assert client.zero(0, 1024 * 1024) == 0
    assert client.trim(1024 * 1024, 65536) == 0
    assert client.flush() == 0
    assert pair.equal()
    status = worker.status()
    assert status["status"] == "complete"
    assert status["statistics"]["writes"] == 61
    assert status["statistics"]["read_bytes"] == written_bytes
    assert status["statistics"]["write_bytes"] == written_bytes + 1024 * 1024
    assert status["statistics"]["delete_bytes"] == 65536
    assert {"read", "write", "flush"} == set(status["latency"])
    assert status["latency"]["write"]["peer"]["p99_s"] > 0
    assert status["at_risk_bytes"] == 0
    assert status["link"]["received_bytes"] > 0
    assert worker.stop() == 0
    assert pair.equal()


def test_pipelined_writes_of_one_block_end_the_same_on_both_copies(pair: Pair) -> None:
    _worker, _node, client = pair.up()
    for index in range(400):
        client.send(1, (index % 3) * 512, data=bytes([index % 251 + 1]) * 4096)
    for _ in range(400):
        assert client.receive()[1] == 0
    client.flush()
    assert pair.equal()


def test_a_killed_secondary_comes_back_and_gets_what_it_missed(pair: Pair) -> None:
    worker, node, client = pair.up()
    assert client.write(0, b"a" * 65536) == 0
    node.worker.process.kill()
    worker.expect_event("disconnect")
    for extent in range(10):
        assert client.write(extent * 262144, os.urandom(65536)) == 0
    worker.expect_event("connect", count=2)
    wait_until(lambda: synced(worker), "sync")
    client.flush()
    assert pair.equal()


def test_a_primary_that_starts_alone_fills_its_peer_later(pair: Pair) -> None:
    worker, path = pair.primary()
    worker.expect_ready()
    client = pair.client(path)
    blocks = os.urandom(1024 * 1024)
    assert client.write(65536, blocks) == 0
    assert worker.status()["status"] == "degraded"
    node = pair.secondary()
    resource = Resource("disk1", "disk1", str(pair.one), (node.address,), device=Device.NONE)
    assert worker.ask("reload", resource=messages.resource_to_json(resource))["error"] is None
    worker.expect_event("connect")
    wait_until(lambda: synced(worker), "sync")
    client.flush()
    assert pair.equal()


def test_a_killed_primary_worker_resyncs_what_was_in_flight(pair: Pair) -> None:
    worker, node, client = pair.up()
    for index in range(50):
        client.send(1, index * 65536, data=os.urandom(4096))
    worker.process.kill()
    worker.process.wait()
    again, path = pair.primary(node.address)
    again.expect_ready()
    again.expect_event("connect")
    wait_until(lambda: synced(again), "sync")
    pair.client(path).flush()
    assert pair.equal()


def test_a_peer_without_our_features_is_served_as_the_reference_is(pair: Pair) -> None:
    node = pair.secondary(features=int(Feature.NONE))
    worker, path = pair.primary(node.address)
    worker.expect_ready()
    worker.expect_event("connect")
    client = pair.client(path)
    data = os.urandom(1024 * 1024)
    assert client.write(0, data) == 0
    assert client.zero(512 * 1024, 300 * 1024) == 0
    assert client.flush() == 0
    assert pair.equal()


def test_stopping_leaves_equal_copies_and_a_clean_map(pair: Pair) -> None:
    worker, _node, client = pair.up()
    for index in range(20):
        assert client.write(index * 65536, os.urandom(4096)) == 0
    assert worker.stop() == 0
    assert pair.equal()
    assert pair.one.read_bytes()[4096:4608] == bytes(512)


def test_a_provider_in_use_is_refused_with_its_reason(pair: Pair) -> None:
    first, _ = pair.primary()
    first.expect_ready()
    second, _ = pair.primary()
    said = second.expect(lambda message: message.get("say") == "refused")
    assert "in use by another process" in said["text"]
    assert second.process.wait(10) == said["exit"] == 66


def test_an_unreachable_peer_delays_the_device_only_briefly(pair: Pair) -> None:
    worker, _ = pair.primary("tcp4://127.0.0.1:1")
    worker.expect_ready()
    assert worker.status()["status"] == "degraded"


def test_a_stopped_worker_loses_its_title_and_socket(pair: Pair) -> None:
    worker, _ = pair.primary()
    worker.expect_ready()
    title = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert title == "hastd: disk1 (primary)"
    assert worker.stop() == 0


def test_a_lost_supervisor_is_waited_for_while_the_worker_serves(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))
    (tmp_path / "worker").mkdir()
    worker, _node, client = pair.up()
    assert client.write(0, b"z" * 4096) == 0
    worker.control.close()
    door = tmp_path / "worker" / "disk1.adopt"
    wait_until(door.exists, "the worker's socket")
    assert client.write(4096, b"y" * 4096) == 0
    worker.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.control.connect(str(door))
    offer, descriptors = messages.receive(worker.control)
    assert offer is not None
    for descriptor in descriptors:
        os.close(descriptor)
    assert worker.ask("adopt")["error"] is None
    assert not door.exists()
    assert worker.status()["status"] == "complete"
    assert worker.stop() == 0
    assert pair.equal()


def test_a_worker_that_was_told_of_its_end_ends_in_order_when_its_supervisor_is_lost(pair: Pair) -> None:
    worker, _node, client = pair.up()
    assert client.write(0, b"z" * 4096) == 0
    assert worker.ask("leave", within_s=20.0)["error"] is None
    worker.control.close()
    assert worker.process.wait(20) == 0
    assert pair.equal()


def test_a_worker_that_cannot_be_found_ends_in_order_when_its_supervisor_is_lost(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path / "not there"))
    worker, _node, client = pair.up()
    assert client.write(0, b"z" * 4096) == 0
    worker.control.close()
    assert worker.process.wait(20) == 0
    assert pair.equal()


def test_async_writes_wait_when_the_peer_does_not_keep_up(pair: Pair) -> None:
    """A stopped peer costs memory up to a limit, then the clients wait; nothing is lost when it goes on."""
    for image in (pair.one, pair.two):
        create_image(image, size_bytes=96 << 20)
    worker, node, client = pair.up(replication=Replication.ASYNC, compression=Compression.NONE)
    os.kill(node.worker.process.pid, signal.SIGSTOP)
    answered: list[int] = []
    data = os.urandom(1 << 20)
    thread = threading.Thread(target=lambda: answered.extend(client.write(n << 20, data) for n in range(90)))
    thread.start()
    waited_at = wait_until(lambda: stalled(worker), "a full queue", 5.0)
    os.kill(node.worker.process.pid, signal.SIGCONT)
    thread.join(30)
    assert answered == [0] * 90
    assert 30 << 20 <= waited_at <= 40 << 20
    assert client.flush() == 0
    assert worker.status()["status"] == "complete"
    assert pair.equal()


def stalled(worker: Worker) -> int:
    """Bytes waiting for the peer, when they no longer grow."""
    before = worker.status()["link"]["queued_bytes"]
    time.sleep(0.3)
    after = worker.status()["link"]["queued_bytes"]
    return int(after) if after == before and after > 30 << 20 else 0


def test_frozen_writes_wait_and_go_on_when_thawed(pair: Pair) -> None:
    worker, _node, client = pair.up()
    assert worker.ask("freeze", reason="the arbiter cannot be reached")["error"] is None
    handle = client.send(WRITE, 0, data=b"f" * 4096)
    assert not client.readable(0.3)
    assert [problem["kind"] for problem in worker.status()["problems"]] == ["frozen"]
    assert worker.ask("thaw")["error"] is None
    assert client.receive()[:2] == (handle, 0)
    assert pair.equal()


def test_withheld_writes_are_on_both_copies_and_their_clients_hear_nothing(pair: Pair) -> None:
    worker, node, client = pair.up()
    assert worker.ask("leave", within_s=9.0)["error"] is None
    node.worker.expect_event("peer-leaves")
    assert worker.ask("withhold", limit_s=5.0, in_use=False)["quiet"]
    client.send(WRITE, 0, data=b"w" * 4096)
    assert not client.readable(0.3)
    assert worker.stop() == 0
    with pytest.raises(ConnectionError):
        client.receive()
    assert pair.equal()
    assert data_area(pair.one)[:4096] == b"w" * 4096
    node.worker.expect_event("peer-left")


def test_users_that_do_not_fall_silent_are_waited_for_no_longer_than_the_limit(pair: Pair) -> None:
    worker, _node, client = pair.up()
    assert client.write(0, b"w" * 4096) == 0
    assert not worker.ask("withhold", limit_s=0.3, in_use=True)["quiet"]


def test_a_secondary_that_stops_for_good_tells_its_primary(pair: Pair) -> None:
    worker, node, client = pair.up()
    messages.send(node.worker.control, {"do": "stop", "id": 0, "deadline_s": 5.0, "leaving": True})
    assert node.worker.process.wait(10) == 0
    worker.expect_event("peer-stops")
    said = worker.expect_event("disconnect")
    assert "the peer stopped in order" in said["text"]
    assert client.write(0, b"a" * 4096) == 0


def test_a_secondary_that_refuses_is_named_in_the_status(pair: Pair) -> None:
    node = pair.secondary()
    node.refuse = HelloReply(errmsg="Remote node acts as init for the resource and not as secondary.")
    worker, _path = pair.primary(node.address)
    worker.expect_ready()
    status = worker.status()
    assert status["status"] == "degraded"
    assert status["problems"][0]["text"] == node.refuse.errmsg
    node.refuse = None
    resource = Resource("disk1", "disk1", str(pair.one), (node.address,), "127.0.0.1", device=Device.NONE)
    assert worker.ask("reload", resource=messages.resource_to_json(resource))["error"] is None
    worker.expect_event("connect")
    assert worker.status()["problems"] == []


@pytest.mark.parametrize("cache", [DiskCache.ON, DiskCache.OFF])
def test_the_status_tells_whether_the_disk_is_used_through_the_page_cache(pair: Pair, cache: DiskCache) -> None:
    worker, node, client = pair.up(disk_cache=cache)
    assert client.write(0, b"a" * 4096) == 0
    assert client.read(0, 4096) == b"a" * 4096
    assert worker.status()["disk_cache"] is (cache is DiskCache.ON)
    assert worker.status()["disk_by"] in (("cache",) if cache is DiskCache.ON else ("io_uring", "threads"))
    assert node.worker.status()["disk_cache"] is True  # a file
    assert node.worker.status()["disk_by"] == "cache"
