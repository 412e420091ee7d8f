"""worker/link/sealed.py between two ends of a connection: parts, full records, and keys that change under traffic."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hast.daemon import node_key
from hast.daemon.kernel_tls import OFF_VARIABLE, KernelSession
from hast.daemon.tls import (
    RECORD_BYTES,
    Channel,
    TlsError,
    client_context,
    keep_certificate,
    known_certificates,
    offer_new_keys,
    server_context,
)
from hast.format.kernel_tls import RECORD_HEADER_BYTES
from hast.worker.interfaces import Reactor
from hast.worker.link import sealed
from hast.worker.link.admitted import Session, accept, binding
from hast.worker.link.decisions.key_use import CONNECTION_IS_SPENT
from hast.worker.link.sealed import SealedStream

TOKEN = bytes(range(32))
RECORDS = 8
"""Under one key."""


class Watched:
    """What an Outbox needs of a reactor."""

    def modify(self, descriptor: int, events: int) -> None:
        pass


def admit(sock: socket.socket, known: str) -> Session:
    """The other node's part: a session that is ended, as its hastd does, and then the one of its worker."""
    sock.settimeout(5)
    context = server_context(known_certificates([known]))
    first = Channel(context, server=True)
    while not first.established:
        first.receive(record(sock))
        sock.sendall(first.handshake())
    sock.sendall(first.end())
    while not first.ended:
        first.receive(record(sock))
        first.open_into(memoryview(bytearray(100)))
    return accept(sock, context, (known,), binding("A", TOKEN), 5.0)


def record(sock: socket.socket) -> bytes:
    header = sock.recv(RECORD_HEADER_BYTES, socket.MSG_WAITALL)
    return header + sock.recv(int.from_bytes(header[3:]), socket.MSG_WAITALL)


class Ends:
    """Two nodes with the same key, and one connection between them whose second session is open."""

    def __init__(self, known: str) -> None:
        self.socks = socket.socketpair()
        self.failed: list[str] = []
        self.heard: dict[SealedStream, bytearray] = {}
        context = client_context()
        offer_new_keys(context)
        made: list[Session] = []
        thread = threading.Thread(target=lambda: made.append(admit(self.socks[1], known)))
        thread.start()
        self.primary = self._stream(self.socks[0], context)
        self.primary.proceed(binding("A", TOKEN))
        while not self.primary.done_in:
            self.take(self.primary)
        thread.join(5)
        self.secondary = self._stream(self.socks[1], None, made[0])
        for sock in self.socks:
            sock.setblocking(False)

    def _stream(
        self, sock: socket.socket, context: ssl.SSLContext | None, session: Session | None = None
    ) -> SealedStream:
        known = (node_key.own_fingerprint(),)
        reactor: Reactor = Watched()  # type: ignore[assignment]
        outer = SealedStream(reactor, sock, self.failed.append, context, known, session)
        self.heard[outer] = bytearray()
        return outer

    def take(self, stream: SealedStream) -> bool:
        """Receive once; whether something came. Raises OSError."""
        view = memoryview(bytearray(1 << 20))
        try:
            count = stream.recv_into(view)
        except BlockingIOError:
            return False
        self.heard[stream] += view[:count]
        return count > 0

    def settle(self) -> None:
        """Until nothing is under way."""
        quiet = 0
        while quiet < 4:
            quiet += 1
            for stream in (self.primary, self.secondary):
                before = stream.sent_bytes
                stream.writable()
                if self.take(stream) or stream.sent_bytes != before:
                    quiet = 0

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HAST_STATE", str(tmp_path))
    monkeypatch.setenv(OFF_VARIABLE, "off")
    monkeypatch.setattr(sealed, "KEY_RECORDS", RECORDS)
    node_key.generate()
    keep_certificate(ssl.PEM_cert_to_DER_cert((tmp_path / node_key.CERTIFICATE).read_text()))
    return node_key.own_fingerprint()


@pytest.fixture
def ends(known: str) -> Iterator[Ends]:
    made = Ends(known)
    yield made
    made.close()


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[Channel]:
    """All that are made from now on by a stream."""
    made: list[Channel] = []

    class Noted(Channel):
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(sealed, "Channel", Noted)
    return made


def test_keys_change_under_traffic_in_both_directions_and_every_byte_arrives_in_order(
    ends: Ends, channels: list[Channel]
) -> None:
    sizes = itertools.cycle([40, 4096, RECORD_BYTES, 131072, 1, 300_000])
    said = {stream: bytearray() for stream in (ends.primary, ends.secondary)}
    for number, size in zip(range(120), sizes, strict=False):
        for stream in said:
            data = os.urandom(size)
            said[stream] += data
            stream.send([data[:10], data[10:]])
        if number % 3 == 0:
            ends.take(ends.secondary)
        if number % 5 == 0:
            ends.take(ends.primary)
        for stream in said:
            stream.writable()
    ends.settle()
    assert ends.heard[ends.secondary] == said[ends.primary]
    assert ends.heard[ends.primary] == said[ends.secondary]
    assert len(channels) >= 6, "two for each change"
    assert not ends.failed
    assert ends.primary.done_in == ends.secondary.done_in == "user"
    assert ends.primary.queued_bytes == ends.secondary.queued_bytes == 0


def test_what_is_only_received_uses_keys_up_as_well(ends: Ends, channels: list[Channel]) -> None:
    for _ in range(RECORDS + 1):
        ends.secondary.send([b"reply"])
        ends.settle()
    assert channels
    assert ends.heard[ends.primary] == b"reply" * (RECORDS + 1)


@pytest.fixture
def unchanging(known: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """The secondary is of an earlier release: it would take the end of a session for the end."""
    monkeypatch.setattr("hast.worker.link.admitted.offer_new_keys", lambda context: None)
    made = Ends(known)
    yield made
    made.close()


@pytest.fixture
def by_the_kernel(ends: Ends) -> Ends:
    """A kernel that makes records as if they were plain."""
    for stream, sock in zip((ends.primary, ends.secondary), ends.socks, strict=True):
        stream._kernel = KernelSession(sock, receives=True)
    return ends


def test_a_side_that_does_not_know_of_new_keys_is_not_asked_for_them_and_the_primary_ends_the_connection(
    unchanging: Ends, channels: list[Channel]
) -> None:
    for _ in range(RECORDS - 1):  # the token was the first
        unchanging.primary.send([b"request"])
        unchanging.settle()
    assert unchanging.heard[unchanging.secondary] == b"request" * (RECORDS - 1)
    assert unchanging.failed == [CONNECTION_IS_SPENT]
    assert not channels


def test_the_primary_ends_a_connection_whose_keys_the_kernel_holds_when_they_are_used_up(by_the_kernel: Ends) -> None:
    ends = by_the_kernel
    for _ in range(RECORDS):
        ends.primary.send([b"request", b"and more"])
        ends.settle()
    assert ends.failed == [CONNECTION_IS_SPENT]
    ends.primary.send([b"nothing goes out any more"])
    ends.settle()
    assert b"nothing" not in ends.heard[ends.secondary]


def test_large_data_uses_a_key_of_the_kernel_up_by_its_records(by_the_kernel: Ends) -> None:
    by_the_kernel.primary.send([bytes(RECORDS * RECORD_BYTES)])
    assert by_the_kernel.failed == [CONNECTION_IS_SPENT]


def test_the_secondary_leaves_the_end_to_the_primary_for_a_while(by_the_kernel: Ends) -> None:
    ends = by_the_kernel
    for _ in range(RECORDS):
        ends.secondary.send([b"reply"])
    assert not ends.failed
    for _ in range(RECORDS // 4):
        ends.secondary.send([b"reply"])
    assert ends.failed == [CONNECTION_IS_SPENT]


def test_the_end_of_a_connection_is_still_seen(ends: Ends) -> None:
    ends.primary.send([b"last"])
    ends.primary.close()
    ends.socks[0].close()
    assert ends.take(ends.secondary)
    assert not ends.failed, "there is nobody to answer"
    view = memoryview(bytearray(100_000))
    assert ends.secondary.recv_into(view) == 0


@pytest.mark.parametrize("wrong", ["token", "key"])
def test_the_next_session_has_to_be_of_the_same_node_and_connection(ends: Ends, wrong: str) -> None:
    """Somebody who has the key of a node that is known, too, and one who joins another connection to this."""
    if wrong == "token":
        ends.primary._binding = binding("B", TOKEN)
    else:
        ends.secondary._peer = "ab" * 32
    ends.primary.send([os.urandom(RECORDS * RECORD_BYTES)])
    ends.primary.send([b"not to be believed"])
    with pytest.raises(TlsError, match="does not belong" if wrong == "token" else "its key is not"):
        ends.settle()
    assert b"believed" not in ends.heard[ends.secondary]


def test_large_data_goes_out_in_parts_while_the_next_is_encrypted(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "KEY_RECORDS", 1 << 20)
    parts: list[int] = []
    noting = SimpleNamespace(send=lambda buffers: parts.append(sum(map(len, buffers))))
    monkeypatch.setattr(ends.primary, "_outbox", noting)  # a compiled Outbox lets nobody change its methods
    ends.primary.send([b"header", bytes(1 << 20)])
    assert len(parts) >= (1 << 20) // sealed.SEAL_BYTES
    assert max(parts) < 2 * sealed.SEAL_BYTES


def test_small_data_is_gathered_into_full_records(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ends.primary._channel.sealed_records
    ends.primary.send([bytes(64), bytes(4096)] * 32)
    assert ends.primary._channel.sealed_records - before <= 32 * 4160 // RECORD_BYTES + 3
