"""What hostile bytes are fed to, and what must hold whatever they are. A target raises only where there is a defect.

Each keeps its own state as the product would (a client after the other on one export, one channel to the kernel), so
that what one input leaves behind meets the next.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from hast.daemon.tls import Channel, TlsError
from hast.failover.exports.nbd_tls import Before, BeforeTls
from hast.format import nbd
from hast.format.compression import (
    LZF_MIN_BYTES,
    CompressionError,
    lzf_decompress,
    python_lzf_compress,
    python_lzf_decompress,
)
from hast.format.kernel_tls import MAX_RECORD_BYTES
from hast.format.nbd import NbdError
from hast.replication.types import FLUSH, READ, WRITE, Request
from hast.worker.export.export import NbdExport
from hast.worker.export.export_connection import Connection
from hast.worker.export.fuse import FuseFile

SIZE_BYTES = 1 << 20
BLOCK_BYTES = 512
FUSE_WRITE, FUSE_READ = 16, 15
ZEROS = memoryview(bytes(32 << 20))


class Target(Protocol):
    """`corpus` are good inputs to start from; `feed` takes a bad one."""

    corpus: Sequence[bytes]

    def feed(self, data: bytes, rng: random.Random) -> None: ...
    def close(self) -> None: ...


class _Timer:
    def cancel(self) -> None: ...


class _Reactor:
    """Runs what is to be run soon when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.watched: dict[int, int] = {}

    def now(self) -> float:
        return 0.0

    def add(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        assert fd not in self.watched
        self.watched[fd] = events

    def modify(self, fd: int, events: int) -> None:
        assert fd in self.watched
        self.watched[fd] = events

    def remove(self, fd: int) -> None:
        del self.watched[fd]

    def call_at(self, when_s: float, callback: Callable[[], None]) -> _Timer:
        if when_s <= 0:
            self.soon.append(callback)
        return _Timer()

    call_soon_threadsafe = run = stop = None


def _check(request: Request) -> None:
    """What the engine may count on."""
    assert 0 <= request.offset <= request.offset + request.length <= SIZE_BYTES, request
    assert not (request.offset | request.length) % BLOCK_BYTES, request
    assert (request.op == FLUSH) == (request.length == 0), request
    assert request.op != WRITE or len(request.data or b"") == request.length, request


class _Engine:
    """Answers later, in any order, now and then with an error."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def submit(self, batch: list[Request]) -> None:
        for request in batch:
            _check(request)
        self.waiting += batch

    def answer(self, rng: random.Random) -> None:
        rng.shuffle(self.waiting)
        while self.waiting:
            request = self.waiting.pop()
            request.error = errno.EIO if rng.random() < 0.1 else 0
            if request.op == READ and not request.error:
                request.data = ZEROS[: request.length]
            cast(Any, request.client).completed([request])


class _Peer:
    """The client's end as the connection sees it: bytes in pieces, replies taken whole, in part or not at all."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self._left = memoryview(data)
        self._rng = rng
        self.closed = False
        self.sent_bytes = 0

    def fileno(self) -> int:
        return 77

    def recv_into(self, view: memoryview) -> int:
        if not self._left:
            return 0
        count = min(len(view), len(self._left), self._rng.choice((1, 7, 28, 4096, 4096)))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def recv(self, most: int) -> bytes:
        piece = bytes(self._left[:most])
        self._left = self._left[most:]
        return piece

    def sendmsg(self, buffers: list[Any]) -> int:
        if self._rng.random() < 0.05:
            raise BlockingIOError
        total = sum(map(len, buffers))
        sent = total if self._rng.random() < 0.9 else self._rng.randint(0, total)
        self.sent_bytes += sent
        return sent

    def close(self) -> None:
        self.closed = True


class NbdClient:
    """`worker/export/export_connection.py` from the greeting to the end of a client."""

    def __init__(self) -> None:
        self._reactor, self._engine = _Reactor(), _Engine()
        self._export = NbdExport(
            cast(Any, self._reactor),
            self._engine.submit,
            lambda: False,
            SIZE_BYTES,
            BLOCK_BYTES,
            name="disk1",
            listeners=[],
        )

    @property
    def corpus(self) -> Sequence[bytes]:
        flags = nbd.CLIENT_FLAGS.pack(3)
        info = struct.pack(">I5sHHH", 5, b"disk1", 2, 3, 1)
        options = [
            _option(each, data) for each, data in ((8, b""), (3, b""), (6, info), (5, b""), (7, info), (1, b"disk1"))
        ]
        structured, listing, asked, tls, go, by_name = options
        requests = b"".join(
            [
                _request(1, 0, 4096, bytes(4096)),
                _request(0, 4096, 8192),
                _request(3, 0, 0),
                _request(4, 0, 65536),
                _request(6, 65536, 65536),
                _request(0, SIZE_BYTES - 512, 512, flags=4),
                _request(1, 512, 512, bytes(512), flags=1),
            ]
        )
        return [
            flags + go + requests + _request(2, 0, 0),
            flags + structured + asked + go + requests[4124:],
            flags + listing + tls + by_name + _request(0, 0, SIZE_BYTES) + _request(2, 0, 0),
            flags + go + _request(0, 0, 512) * 20,
            flags + _option(2, b""),
        ]

    def feed(self, data: bytes, rng: random.Random) -> None:
        peer = _Peer(data, rng)
        connection = Connection(cast(Any, self._export), cast(socket.socket, peer), "fuzz")
        for _ in range(2 * len(data) + 8):
            if connection.closed:
                break
            mask = self._reactor.watched[77]
            events = mask & (select.EPOLLIN if rng.random() < 0.7 else select.EPOLLIN | select.EPOLLOUT)
            if rng.random() < 0.3:
                self._engine.answer(rng)
            if not connection.closed and events:
                connection._ready(events)
            while self._reactor.soon:
                self._reactor.soon.pop()()
            if not mask & select.EPOLLIN:
                self._engine.answer(rng)
        if not connection.closed:
            connection.close()
        self._engine.answer(rng)
        assert peer.closed
        assert self._export.held_bytes == 0, f"{self._export.held_bytes} bytes stay held"
        assert connection.in_flight == 0
        assert not self._reactor.watched

    def close(self) -> None: ...


def _option(number: int, data: bytes) -> bytes:
    return nbd.OPTION.pack(nbd.OPTION_MAGIC, number, len(data)) + data


def _request(kind: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> bytes:
    return nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, kind, 99, offset, length) + data


class FuseChannel:
    """`worker/export/fuse.py`, over packets in the place of /dev/fuse."""

    def __init__(self) -> None:
        self._kernel, self._served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (self._kernel, self._served):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
            sock.setblocking(False)
        self._engine, self._reactor = _Engine(), _Reactor()
        self._file = FuseFile(
            cast(Any, self._reactor),
            self._engine.submit,
            lambda: False,
            SIZE_BYTES,
            BLOCK_BYTES,
            descriptor=self._served.fileno(),
        )
        self._file.start()
        self._room = memoryview(bytearray(4 << 20))

    @property
    def corpus(self) -> Sequence[bytes]:
        bodies = {
            1: b"disk\0",
            3: bytes(16),
            4: struct.pack("=IIQQ", 8, 0, 1, SIZE_BYTES) + bytes(64),
            14: bytes(8),
            15: struct.pack("=QQIIQII", 5, 4096, 4096, 0, 0, 0, 0),
            16: struct.pack("=QQIIQII", 5, 4096, 1024, 0, 0, 0, 0) + bytes(1024),
            20: bytes(16),
            22: bytes(8) + b"security.capability\0",
            26: struct.pack("=IIIIII", 7, 45, 131072, 0xFFFFFFFF, 0xFFFFFFFF, 0) + bytes(40),
            28: struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0),
            43: struct.pack("=QQQII", 5, 4096, 8192, 3, 0),
        }
        others = dict.fromkeys((2, 17, 18, 25, 27, 29, 36, 38, 46), bytes(24))
        return [
            struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 9, 1 + (opcode != 1), 0, 0, 0, 0, 0) + body
            for opcode, body in {**bodies, **others}.items()
        ]

    def feed(self, data: bytes, rng: random.Random) -> None:
        for packet in {data, data[:120]}:
            if len(packet) >= 40:  # the kernel sends nothing shorter than its header
                self._kernel.send(packet)
        self._file._ready(select.EPOLLIN)
        assert self._file.serving
        self._engine.answer(rng)
        while True:
            try:
                received = self._kernel.recv_into(self._room)
            except BlockingIOError:
                break
            length, error, _unique = struct.unpack_from("=IiQ", self._room)
            assert length == received, "a reply that says another length than it has"
            assert error <= 0
        assert self._file.in_flight == 0

    def close(self) -> None:
        self._file.close()
        self._kernel.close()
        self._served.close()


class Lzf:
    """The C decoder beside ours: both give the same, or neither gives anything."""

    def __init__(self) -> None:
        blocks = [
            bytes(2048),
            b"HAST" * 512,
            os.urandom(300) + bytes(700),
            bytes(range(256)) * 8,
            b"a" * 40 + b"b" * 600,
        ]
        streams = [python_lzf_compress(block, len(block)) for block in blocks]
        self.corpus = [
            struct.pack(">H", len(block)) + each for block, each in zip(blocks, streams, strict=True) if each
        ]

    def feed(self, data: bytes, rng: random.Random) -> None:
        size, stream = max(LZF_MIN_BYTES + 1, int.from_bytes(data[:2], "big")), data[2:]
        found: list[bytes | None] = []
        for decode in (lzf_decompress, python_lzf_decompress):
            try:
                found.append(decode(stream, size))
            except CompressionError:
                found.append(None)
        assert found[0] == found[1], "the two decoders differ"
        assert found[0] is None or len(found[0]) == size

    def close(self) -> None: ...


class TlsRecords:
    """Records before the handshake is over: as `daemon/tls_stream.py` reads them, into a server that asks for a key."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            base = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            made = [*base, "-days", "2", "-subj", "/CN=x", "-keyout", "k", "-out", "c"]
            subprocess.run(made, cwd=directory, check=True, capture_output=True)
            path = Path(directory)
            self._server = _tls13(ssl.PROTOCOL_TLS_SERVER)
            self._server.verify_mode = ssl.CERT_REQUIRED
            self._server.load_verify_locations(path / "c")
            client = _tls13(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
            for context in (self._server, client):
                context.load_cert_chain(path / "c", path / "k")
        hello = Channel(client, server=False).handshake()
        client.minimum_version = ssl.TLSVersion.TLSv1_2
        self.corpus = [
            hello,
            Channel(client, server=False).handshake(),
            hello + hello,
            hello + b"\x15\x03\x03\0\2\2\x28",
        ]

    def feed(self, data: bytes, rng: random.Random) -> None:
        channel = Channel(self._server, server=True)
        position = 0
        while position + 5 <= len(data):
            size = int.from_bytes(data[position + 3 : position + 5], "big")
            if size > MAX_RECORD_BYTES or position + 5 + size > len(data):
                break
            channel.receive(data[position : position + 5 + size])
            position += 5 + size
            try:
                channel.handshake()
            except TlsError:
                channel.last_words()
                return
        assert not channel.established

    def close(self) -> None: ...


def _tls13(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class NbdBeforeTls:
    """`failover/exports/nbd_tls.py`: what an NBD client says before STARTTLS."""

    def __init__(self) -> None:
        flags = nbd.CLIENT_FLAGS.pack(3)
        self.corpus = [
            flags + _option(5, b""),
            flags + _option(3, b"") + _option(7, bytes(6)) + _option(5, b""),
            flags + _option(2, b""),
            flags + _option(1, b"disk1"),
        ]

    def feed(self, data: bytes, rng: random.Random) -> None:
        before, position = BeforeTls(), 0
        while position < len(data):
            count = rng.choice((1, 4, 20, 4096))
            try:
                answer, then = before.receive(data[position : position + count])
            except NbdError:
                return
            position += count
            assert len(answer) % 20 == 0
            if then is not Before.MORE:
                return

    def close(self) -> None: ...


TARGETS: dict[str, Callable[[], Target]] = {
    "nbd": NbdClient,
    "fuse": FuseChannel,
    "lzf": Lzf,
    "tls": TlsRecords,
    "nbd-before-tls": NbdBeforeTls,
}
