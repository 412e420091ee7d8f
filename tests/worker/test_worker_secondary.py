"""The secondary's worker on its own: what a primary may do to it, and what it tells when it cannot go on."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_pair import Worker, create_image, data_area, read_frame

from hast.config.model import Device, Resource
from hast.format import frame, handshake, nv
from hast.format.constants import Command, Compression, Feature
from hast.format.reply import ReplyDecoder
from hast.format.request import encode_requests
from hast.replication.types import FLUSH, READ, WRITE, WireRequest
from hast.worker import messages

RESUID = 5


class Primary:
    """The test as a primary connected to one secondary worker."""

    def __init__(self, image: Path, features: int = 0, hello: bytes | None = None, **settings: Any) -> None:
        self.a, a = socket.socketpair()
        self.b, b = socket.socketpair()
        for sock in (self.a, self.b):
            sock.settimeout(20)
        second_hello = handshake.SecondHello("disk1", b"t" * 16, RESUID, 0, 0, virgin=True)
        resource = Resource("disk1", "disk1", str(image), (), device=Device.NONE, **settings)
        start = {
            "role": "secondary",
            "resource": messages.resource_to_json(resource),
            "hello": (nv.encode(second_hello.fields()) if hello is None else hello).hex(),
            "version": 2,
            "features": features,
            "peer": "tester",
        }
        with a, b:
            self.worker = Worker(start, [a.fileno(), b.fileno()])

    def send(self, *batch: WireRequest) -> None:
        self.a.sendall(b"".join(bytes(part) for part in encode_requests(batch, 2)))

    def replies(self, count: int) -> list[tuple[int, int, bool, bytes]]:
        decoder, buffer, got = ReplyDecoder(1 << 20), b"", []
        while len(got) < count:
            data = self.b.recv(1 << 20)
            assert data, "closed"
            buffer += data
            batch, used = decoder.decode(memoryview(buffer), 0, len(buffer))
            got += [(seq, error, received, bytes(part or b"")) for seq, error, received, part in batch]
            buffer = buffer[used:]
        return got

    def close_connections(self) -> None:
        self.a.close()
        self.b.close()

    def close(self) -> None:
        self.close_connections()
        self.worker.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    create_image(path)
    return path


@pytest.fixture
def primary(image: Path) -> Iterator[Primary]:
    primary = Primary(image)
    read_frame(primary.a)
    yield primary
    primary.close()


def test_requests_are_answered_in_batches_and_land_on_the_disk(primary: Primary, image: Path) -> None:
    blocks = [os.urandom(4096) for _ in range(100)]
    primary.send(*[(WRITE, 1 + n, n * 4096, 4096, block, False) for n, block in enumerate(blocks)])
    primary.send((FLUSH, 200, 0, 0, None, False), (READ, 201, 0, 8192, None, False))
    got = primary.replies(102)
    assert {error for _, error, _, _ in got} == {0}
    assert (201, 0, False, blocks[0] + blocks[1]) in got
    assert data_area(image)[: 100 * 4096] == b"".join(blocks)


def test_bad_requests_are_answered_with_an_error_and_the_stream_goes_on(primary: Primary, image: Path) -> None:
    primary.send(
        (WRITE, 1, 100, 512, bytes(512), False),
        (READ, 2, 1 << 40, 512, None, False),
        (READ, 3, 0, 0, None, False),
        (Command.SYNC_BEGIN, 4, 0, 0, None, False),
        (WRITE, 5, 0, 512, b"k" * 512, False),
    )
    assert sorted((seq, error) for seq, error, _, _ in primary.replies(5)) == [
        (1, 22),
        (2, 22),
        (3, 22),
        (4, 22),
        (5, 0),
    ]
    assert data_area(image)[:512] == b"k" * 512


@pytest.mark.parametrize(
    "junk", [b"\xff" * 100, b"\x02\x00\x00\x00\x00", b"\x02\xff\xff\xff\xff", b"\x02\x05\x00\x00\x00abcde"]
)
def test_bytes_that_are_no_message_end_the_conversation_with_a_reason(primary: Primary, junk: bytes) -> None:
    primary.a.sendall(junk)
    said = primary.worker.expect_event("disconnect")
    assert "bad request" in said["text"]
    assert primary.worker.process.wait(10) == 75
    assert "Internal error" not in primary.worker.log()


@pytest.mark.parametrize("victim", ["a", "b"])
def test_the_end_of_either_connection_ends_the_worker(primary: Primary, victim: str) -> None:
    primary.worker.expect_ready()
    getattr(primary, victim).close()
    primary.worker.expect_event("disconnect")
    assert primary.worker.process.wait(10) == 75


def test_a_write_cut_off_in_the_middle_is_not_executed(primary: Primary, image: Path) -> None:
    whole = b"".join(bytes(part) for part in encode_requests([(WRITE, 1, 0, 65536, b"x" * 65536, False)], 2))
    primary.a.sendall(whole[:-1])
    primary.a.close()
    assert primary.worker.process.wait(10) == 75
    assert data_area(image)[:65536] == bytes(65536)


def test_a_silent_primary_with_our_features_is_given_up_after_the_timeout(image: Path) -> None:
    primary = Primary(image, features=int(Feature.PING), timeout_s=5)
    try:
        primary.worker.expect_ready()
        began_s = time.monotonic()
        said = primary.worker.expect_event("disconnect")
        assert "nothing was heard" in said["text"]
        assert 4 < time.monotonic() - began_s < 9
    finally:
        primary.close()


def test_a_primary_that_reads_no_replies_is_not_read_either(image: Path) -> None:
    primary = Primary(image, compression=Compression.NONE)
    try:
        _flood(primary)
    finally:
        primary.close()


def _flood(primary: Primary) -> None:
    read_frame(primary.a)
    primary.worker.expect_ready()
    primary.a.setblocking(False)
    sent = 0
    batch = b"".join(bytes(p) for p in encode_requests([(READ, n + 1, 0, 1 << 20, None, False) for n in range(16)], 2))
    for _ in range(5000):
        if not select.select([], [primary.a], [], 1.0)[1]:
            break
        sent += primary.a.send(batch)
    else:
        pytest.fail("the worker reads requests without end")
    resident_kib = int(Path(f"/proc/{primary.worker.process.pid}/statm").read_text().split()[1]) * 4
    assert resident_kib < 400 * 1024
    assert primary.worker.status()["status"] == "complete"
    primary.close_connections()
    assert primary.worker.process.wait(20) == 75


def test_a_provider_that_cannot_be_used_is_told_to_the_primary_and_the_supervisor(tmp_path: Path) -> None:
    primary = Primary(tmp_path / "missing")
    try:
        assert "local provider" in read_frame(primary.a).nv.get("errmsg", nv.NvType.STRING)
        said = primary.worker.expect(lambda message: message.get("say") == "refused")
        assert "No such file" in said["text"]
        assert primary.worker.process.wait(10) == 66
    finally:
        primary.close()


def test_a_second_hello_that_is_none_is_refused(image: Path) -> None:
    primary = Primary(image, hello=b"\x01\x02garbage")
    try:
        primary.worker.expect(lambda message: message.get("say") == "refused")
        assert primary.worker.process.wait(10) == 78
    finally:
        primary.close()


def test_a_request_before_the_handshake_is_over_ends_it(image: Path) -> None:
    primary = Primary(image)
    try:
        primary.send((FLUSH, 1, 0, 0, None, False))
        assert primary.worker.process.wait(10) in (0, 75)
    finally:
        primary.close()


def test_the_title_names_resource_and_role_while_connected(primary: Primary) -> None:
    primary.worker.expect_ready()
    title = Path(f"/proc/{primary.worker.process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert title == "hastd: disk1 (secondary)"


def test_a_message_4_with_a_raw_map_reaches_the_primary_whole(tmp_path: Path) -> None:
    image = tmp_path / "image"
    geometry = create_image(image, size_bytes=8 << 20, resuid=RESUID)
    with image.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(geometry.map_size_bytes))
    primary = Primary(image)
    try:
        message = read_frame(primary.a)
        assert isinstance(message, frame.Frame)
        assert len(bytes(message.data or b"")) == geometry.map_size_bytes
    finally:
        primary.close()
