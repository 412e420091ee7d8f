"""The NBD export, byte by byte: handshake, checks, limits, order, and what misbehaving clients get."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram_worker import RamNbd

from hast.format import nbd
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO
from hast.worker.buffers import ReceiveBuffer
from hast.worker.export.export_negotiate import ExportDescription, Negotiation, Phase
from hast.worker.export.limits import ExportLimits

SIZE = 8 << 20
GO, INFO, LIST, EXPORT_NAME, ABORT, STRUCTURED = 7, 6, 3, 1, 2, 8


class RawClient:
    """Sends and receives exact bytes."""

    def __init__(self, path: Path, timeout_s: float = 10) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout_s)
        self.sock.connect(str(path))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError(data)
            data += part
        return data

    def greet(self) -> RawClient:
        assert self.receive(18) == b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
        self.sock.sendall(struct.pack(">I", 3))
        return self

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Replies to an option up to ACK or an error."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        replies = []
        while True:
            magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
            assert (magic, option) == (0x3E889045565A9, number)
            replies.append((kind, self.receive(length)))
            if kind == 1 or kind & 0x80000000:
                return replies

    def go(self, name: bytes = b"disk1", structured: bool = False) -> RawClient:
        self.greet()
        if structured:
            assert self.option(STRUCTURED) == [(1, b"")]
        assert self.option(GO, info_data(name))[-1] == (1, b"")
        return self

    def send(self, kind: int, cookie: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0) -> None:
        length = length or len(data)
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + data)

    def reply(self) -> tuple[int, int]:
        """(error, cookie) of a simple reply without data."""
        magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698
        return error, cookie

    def closed(self) -> bool:
        """Whether the server closes (after what it may still send)."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


def info_data(name: bytes, *wanted: int) -> bytes:
    return struct.pack(">I", len(name)) + name + struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)


Serve = Callable[..., RamNbd]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[RamNbd] = []

    def start(block_bytes: int = 512, limits: ExportLimits | None = None) -> RamNbd:
        running.append(RamNbd(tmp_path / f"{len(running)}.sock", SIZE, block_bytes, limits))
        return running[-1]

    yield start
    for export in running:
        export.stop()


def eventually(condition: Callable[[], bool], within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# --- handshake ------------------------------------------------------------------------------------------------------


def test_go_tells_size_flags_and_block_sizes_by_name_or_without(serve: Serve) -> None:
    export = serve(4096)
    for name in (b"disk1", b""):
        with RawClient(export.path) as client:
            replies = client.greet().option(GO, info_data(name))
            assert replies[0] == (3, struct.pack(">HQH", 0, SIZE, 1 | 4 | 8 | 32 | 64 | 256))
            assert replies[1] == (3, struct.pack(">HIII", 3, 4096, 4096, 32 << 20))
            assert replies[2] == (1, b"")


def test_export_name_answers_with_and_without_zeroes(serve: Serve) -> None:
    export = serve()
    for flags, zeroes in ((3, 0), (1, 124), (0, 124)):
        with RawClient(export.path) as client:
            client.receive(18)
            client.sock.sendall(struct.pack(">I", flags) + b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 5) + b"disk1")
            answer = client.receive(10 + zeroes)
            assert answer[:8] == struct.pack(">Q", SIZE)
            client.send(3, 1)
            assert client.reply() == (0, 1)


def test_list_info_and_abort(serve: Serve) -> None:
    with RawClient(serve().path) as client:
        client.greet()
        assert client.option(LIST) == [(2, struct.pack(">I", 5) + b"disk1"), (1, b"")]
        assert (3, struct.pack(">H", 1) + b"disk1") in client.option(INFO, info_data(b"", 1))
        assert client.option(ABORT) == [(1, b"")]
        assert client.closed()


def test_unknown_names_and_options_are_refused_and_the_talk_goes_on(serve: Serve) -> None:
    with RawClient(serve().path) as client:
        client.greet()
        assert client.option(GO, info_data(b"other"))[0][0] == 0x80000006
        assert client.option(5) == [(0x80000001, b"")]
        assert client.option(99, b"x" * 1000) == [(0x80000001, b"")]
        assert client.option(GO, b"\0")[0][0] == 0x80000003
        assert client.option(LIST, b"data")[0][0] == 0x80000003
        assert client.option(GO, info_data(b"disk1"))[-1] == (1, b"")
        client.send(3, 1)
        assert client.reply() == (0, 1)


def test_export_name_with_an_unknown_name_closes(serve: Serve) -> None:
    with RawClient(serve().path) as client:
        client.greet()
        client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 5) + b"other")
        assert client.closed()


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">I", 0xFF),
        struct.pack(">I", 3) + b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 0xFFFFFFFF),
    ],
)
def test_garbage_in_the_handshake_closes_only_that_client(serve: Serve, garbage: bytes) -> None:
    export = serve()
    with RawClient(export.path) as good, RawClient(export.path) as bad:
        good.go()
        bad.receive(18)
        bad.sock.sendall(garbage)
        assert bad.closed()
        good.send(3, 5)
        assert good.reply() == (0, 5)


def test_a_client_that_haggles_for_ever_is_closed(serve: Serve) -> None:
    with RawClient(serve().path) as client:
        client.greet()
        client.sock.sendall((b"IHAVEOPT" + struct.pack(">II", LIST, 0)) * 100)
        assert client.closed()


def test_a_silent_client_is_closed_at_the_handshake_deadline(serve: Serve) -> None:
    export = serve(limits=ExportLimits(handshake_s=0.2))
    with RawClient(export.path) as silent, RawClient(export.path) as talking:
        talking.go()
        assert silent.closed()
        time.sleep(0.2)
        talking.send(3, 1)
        assert talking.reply() == (0, 1)


def test_too_many_clients_are_turned_away_and_a_leaving_one_makes_room(serve: Serve) -> None:
    export = serve(limits=ExportLimits(clients=2))
    with RawClient(export.path) as first, RawClient(export.path) as second:
        first.go()
        second.go()
        with RawClient(export.path) as third:
            assert third.closed()
        second.sock.close()
        assert eventually(lambda: export.call(lambda: export.export.status()["clients"]) == 1)
        with RawClient(export.path) as fourth:
            fourth.go()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_no_bytes_break_the_negotiation(pieces: list[bytes], valid_start: bool) -> None:
    negotiation = Negotiation(ExportDescription("disk1", SIZE, 512))
    buffer = ReceiveBuffer(4096)
    try:
        for piece in [struct.pack(">I", 3) + b"IHAVEOPT" if valid_start else b"", *pieces]:
            buffer.feed(piece)
            negotiation.advance(buffer)
    except nbd.NbdError:
        pass
    assert negotiation.phase in Phase


# --- requests -------------------------------------------------------------------------------------------------------


def test_every_command_reaches_the_engine_as_what_it_is(serve: Serve) -> None:
    export = serve()
    export.engine.keep_batches = True
    with RawClient(export.path) as client:
        client.go()
        client.send(1, 1, 4096, data=b"a" * 512, flags=1)
        assert client.reply() == (0, 1)
        client.send(0, 2, 4096, 512)
        assert client.reply() == (0, 2)
        assert client.receive(512) == b"a" * 512
        client.send(3, 3)
        assert client.reply() == (0, 3)
        client.send(4, 4, 0, 1024)
        assert client.reply() == (0, 4)
        client.send(6, 5, 4096, 512, flags=1 | 2)
        assert client.reply() == (0, 5)
    seen = [(item.op, item.offset, item.length, item.fua) for batch in export.engine.batches for item in batch]
    assert seen == [
        (WRITE, 4096, 512, True),
        (READ, 4096, 512, False),
        (FLUSH, 0, 0, False),
        (DELETE, 0, 1024, False),
        (ZERO, 4096, 512, True),
    ]
    assert export.engine.memory[4096:4608] == bytes(512)


@pytest.mark.parametrize(
    ("kind", "offset", "length", "flags", "error"),
    [
        (0, SIZE, 512, 0, errno.EINVAL),
        (0, 2**64 - 512, 512, 0, errno.EINVAL),
        (4, SIZE, 512, 0, errno.EINVAL),
        (6, SIZE, 512, 0, errno.ENOSPC),
        (0, 1, 512, 0, errno.EINVAL),
        (0, 0, 100, 0, errno.EINVAL),
        (0, 0, 0, 0, errno.EINVAL),
        (0, 0, 512, 0x8000, errno.EINVAL),
        (3, 0, 0, 2, errno.EINVAL),
        (5, 0, 512, 0, errno.EINVAL),
        (7, 0, 512, 0, errno.EINVAL),
        (1234, 0, 512, 0, errno.EINVAL),
    ],
)
def test_requests_that_cannot_be_are_refused_and_the_connection_stays(
    serve: Serve, kind: int, offset: int, length: int, flags: int, error: int
) -> None:
    with RawClient(serve().path) as client:
        client.go()
        client.send(kind, 77, offset, length, flags=flags)
        assert client.reply() == (error, 77)
        client.send(3, 78)
        assert client.reply() == (0, 78)


def test_a_refused_write_is_skipped_with_its_payload(serve: Serve) -> None:
    export = serve(4096)
    with RawClient(export.path) as client:
        client.go()
        client.send(1, 1, SIZE, data=b"x" * 4096)
        assert client.reply() == (errno.ENOSPC, 1)
        client.send(1, 2, 0, data=b"x" * 512)
        assert client.reply() == (errno.EINVAL, 2)
        client.send(1, 3, 0, data=b"y" * 4096)
        assert client.reply() == (0, 3)
    assert export.engine.memory[:4096] == b"y" * 4096


def test_read_longer_than_the_maximum_is_refused(serve: Serve) -> None:
    with RawClient(serve().path) as client:
        client.go(structured=True)
        client.send(0, 1, 0, (32 << 20) + 512)
        assert struct.unpack(">IHHQIIH", client.receive(26))[5] == errno.EINVAL


def test_structured_reads_carry_their_offset_and_errors_are_chunks(serve: Serve) -> None:
    export = serve()
    export.engine.memory[512:1024] = b"s" * 512
    export.engine.fail = lambda request: errno.EIO if request.offset == 4096 else 0
    with RawClient(export.path) as client:
        client.go(structured=True)
        client.send(0, 9, 512, 512, flags=4)
        assert struct.unpack(">IHHQIQ", client.receive(28)) == (0x668E33EF, 1, 1, 9, 520, 512)
        assert client.receive(512) == b"s" * 512
        client.send(0, 10, 4096, 512)
        assert struct.unpack(">IHHQIIH", client.receive(26)) == (0x668E33EF, 1, 0x8001, 10, 6, errno.EIO, 0)
        client.send(1, 11, 4096, data=b"x" * 512)
        assert client.reply() == (errno.EIO, 11)


def test_errors_that_nbd_has_no_number_for_become_eio(serve: Serve) -> None:
    export = serve()
    export.engine.fail = lambda request: errno.EHOSTUNREACH if request.op == READ else errno.ENOSPC
    with RawClient(export.path) as client:
        client.go()
        client.send(0, 1, 0, 512)
        assert client.reply() == (errno.EIO, 1)
        client.send(1, 2, 0, data=bytes(512))
        assert client.reply() == (errno.ENOSPC, 2)


def test_what_arrives_together_is_submitted_together_and_answered_together(serve: Serve) -> None:
    export = serve()
    export.engine.keep_batches = True
    with RawClient(export.path) as client:
        client.go()
        one = struct.pack(">IHHQQI", 0x25609513, 0, 1, 0, 0, 512) + b"w" * 512
        client.sock.sendall(one * 50)
        assert client.receive(16 * 50) == struct.pack(">IIQ", 0x67446698, 0, 0) * 50
    assert len(export.engine.batches) < 5


@pytest.mark.parametrize("structured", [False, True])
def test_long_reads_and_writes_reach_the_engine_in_pieces_and_are_answered_once(serve: Serve, structured: bool) -> None:
    export = serve()
    export.engine.keep_batches = True
    data = bytes(range(256)) * (5 << 12)
    with RawClient(export.path) as client:
        client.go(structured=structured)
        client.send(1, 1, 512, data=data)
        assert client.reply() == (0, 1)
        client.send(0, 2, 512, len(data))
        client.receive(28 if structured else 16)
        assert client.receive(len(data)) == data
        export.engine.fail = lambda request: errno.EIO if request.offset == 512 + (3 << 20) else 0
        client.send(1, 3, 512, data=data)
        assert client.reply() == (errno.EIO, 3)
    assert max(item.length for batch in export.engine.batches for item in batch) == 1 << 20


def test_answers_come_in_the_order_of_completion_with_their_cookies(serve: Serve) -> None:
    export = serve()
    export.engine.hold = True
    with RawClient(export.path) as client:
        client.go()
        for cookie in (10, 11, 12):
            client.send(1, cookie, 0, data=bytes(512))
        assert eventually(lambda: len(export.engine.held) == 3)
        export.call(lambda: export.engine.carry_out([export.engine.held[2], export.engine.held[0]]))
        assert [client.reply(), client.reply()] == [(0, 12), (0, 10)]
        export.call(lambda: export.engine.carry_out([export.engine.held[1]]))
        assert client.reply() == (0, 11)


def test_disconnect_waits_for_answers_then_closes(serve: Serve) -> None:
    export = serve()
    export.engine.hold = True
    with RawClient(export.path) as client:
        client.go()
        client.send(1, 1, 0, data=bytes(512))
        client.send(2, 2)
        client.send(1, 3, 0, data=b"x" * 512)
        assert eventually(lambda: len(export.engine.held) == 1)
        export.call(export.engine.release)
        assert client.reply() == (0, 1)
        assert client.closed()
    assert export.engine.memory[:512] == bytes(512)


def test_a_vanished_client_leaves_nothing_behind(serve: Serve) -> None:
    export = serve()
    export.engine.hold = True
    with RawClient(export.path) as client:
        client.go()
        for cookie in range(20):
            client.send(0, cookie, 0, 1 << 20)
        assert eventually(lambda: len(export.engine.held) == 20)
    assert eventually(lambda: export.call(lambda: export.export.status()["clients"]) == 0)
    export.call(export.engine.release)
    assert export.call(lambda: export.export.status()["held_bytes"]) == 0


def test_a_client_that_is_gone_before_it_is_greeted_leaves_nothing_behind(serve: Serve) -> None:
    export = serve()

    def come_and_go() -> None:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(export.path))

    export.call(come_and_go)  # while the export does nothing else: they are gone when it accepts them
    with RawClient(export.path) as client:
        client.go()
        assert export.call(lambda: export.export.status()["clients"]) == 1


def test_garbage_instead_of_a_request_closes_after_the_good_ones(serve: Serve) -> None:
    export = serve()
    with RawClient(export.path) as client:
        client.go()
        client.send(1, 1, 0, data=b"k" * 512)
        client.sock.sendall(b"\0" * 28)
        assert client.reply() == (0, 1)
        assert client.closed()
    assert export.engine.memory[:512] == b"k" * 512


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_client_over_its_limit_is_not_read_until_answers_made_room(serve: Serve) -> None:
    export = serve(limits=ExportLimits(client_bytes=4 << 20))
    export.engine.hold = True
    with RawClient(export.path) as client:
        client.go()
        for cookie in range(20):
            client.send(0, cookie, 0, 1 << 20)
        assert eventually(lambda: len(export.engine.held) == 4)
        time.sleep(0.05)
        assert len(export.engine.held) == 4
        export.engine.hold = False
        export.call(export.engine.release)
        for cookie in range(20):
            assert client.reply() == (0, cookie)
            client.receive(1 << 20)


def test_a_client_that_does_not_read_its_answers_is_bounded_and_disturbs_nobody(serve: Serve) -> None:
    limits = ExportLimits(client_bytes=2 << 20)
    export = serve(limits=limits)
    with RawClient(export.path) as greedy, RawClient(export.path) as other:
        greedy.go()
        other.go()
        for cookie in range(60):
            greedy.send(0, cookie, 0, 1 << 20)
        time.sleep(0.1)
        assert export.call(lambda: export.export.held_bytes) <= 4 << 20
        other.send(3, 1)
        assert other.reply() == (0, 1)
        for cookie in range(60):
            assert greedy.reply() == (0, cookie)
            greedy.receive(1 << 20)


def test_the_number_of_requests_in_flight_is_bounded(serve: Serve) -> None:
    export = serve(limits=ExportLimits(requests=16))
    export.engine.hold = True
    with RawClient(export.path) as client:
        client.go()
        for cookie in range(40):
            client.send(3, cookie)
        assert eventually(lambda: len(export.engine.held) == 16)
        export.engine.hold = False
        export.call(export.engine.release)
        assert [client.reply()[1] for _ in range(40)] == list(range(40))


def test_all_clients_together_stay_within_the_exports_limit_and_all_finish(serve: Serve) -> None:
    export = serve(limits=ExportLimits(export_bytes=4 << 20, chunk_bytes=64 << 10))
    clients = [RawClient(export.path).go() for _ in range(8)]
    data = b"d" * (2 << 20)
    header = struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, len(data))
    try:
        for client in clients:
            client.sock.sendall(header + data[:100])
        time.sleep(0.1)
        assert export.call(lambda: export.export.held_bytes) <= (4 << 20) + (2 << 20) + 100
        for client in clients:
            client.sock.sendall(data[100:])
            assert client.reply() == (0, 1)
        assert export.call(lambda: export.export.held_bytes) == 0
    finally:
        for client in clients:
            client.sock.close()


def test_a_payload_that_does_not_come_is_not_waited_for_for_ever(serve: Serve) -> None:
    export = serve(limits=ExportLimits(payload_s=0.2, chunk_bytes=64 << 10))
    with RawClient(export.path) as client:
        client.go()
        client.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 1 << 20))
        assert client.closed()
    assert eventually(lambda: export.call(lambda: export.export.held_bytes) == 0)


def test_congestion_stops_reading_and_resume_goes_on(serve: Serve) -> None:
    export = serve()
    with RawClient(export.path) as client:
        client.go()
        export.engine.is_congested = True
        client.send(3, 1)
        client.send(3, 2)
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.reply()
        client.sock.settimeout(10)
        export.engine.is_congested = False
        export.call(export.export.resume)
        assert [client.reply(), client.reply()] == [(0, 1), (0, 2)]


def test_bytes_may_arrive_one_by_one(serve: Serve) -> None:
    export = serve()
    with RawClient(export.path) as client:
        client.go()
        for byte in struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 512) + b"b" * 512:
            client.sock.sendall(bytes([byte]))
        assert client.reply() == (0, 1)
    assert export.engine.memory[:512] == b"b" * 512


def test_close_ends_every_connection(serve: Serve) -> None:
    export = serve()
    with RawClient(export.path) as client, RawClient(export.path) as silent:
        client.go()
        silent.receive(18)
        export.call(export.export.close)
        assert client.closed()
        assert silent.closed()


def test_a_tcp_listener_can_be_added_while_serving(serve: Serve) -> None:
    export = serve()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    export.call(lambda: export.export.add_listener(listener))
    client = RawClient.__new__(RawClient)
    client.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    with client:
        client.go()
        client.send(1, 1, 0, data=b"t" * 4096)
        assert client.reply() == (0, 1)
