"""Scatter-sending: everything arrives in order, EPOLLOUT only while something waits, a broken socket is told once."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from hast.worker import outbox as outbox_module
from hast.worker.outbox import MAX_BUFFERS, Outbox
from hast.worker.reactor import EpollReactor

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def reactor() -> Iterator[EpollReactor]:
    reactor = EpollReactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    left.setblocking(False)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    yield left, right
    left.close()
    right.close()


def watched(reactor: EpollReactor, sock: socket.socket, failures: list[str]) -> Outbox:
    outbox = Outbox(reactor, sock, failures.append)
    reactor.add(sock.fileno(), select.EPOLLIN, lambda mask: outbox.writable() if mask & select.EPOLLOUT else None)
    return outbox


def receive(reactor: EpollReactor, sock: socket.socket, size: int) -> bytes:
    """Read `size` bytes on the reactor while the outbox sends."""
    received = bytearray()

    def readable(_mask: int) -> None:
        received.extend(sock.recv(65536))
        if len(received) >= size:
            reactor.remove(sock.fileno())
            reactor.stop()

    reactor.add(sock.fileno(), select.EPOLLIN, readable)
    reactor.run()
    return bytes(received)


def test_more_than_the_kernel_takes_arrives_whole_and_in_order(reactor: EpollReactor, pair: Pair) -> None:
    failures: list[str] = []
    outbox = watched(reactor, pair[0], failures)
    first = [bytes([index % 251]) * (index % 700) for index in range(MAX_BUFFERS * 2 + 10)]
    second = [b"tail" * 1000]
    outbox.send(first)
    outbox.send(second)
    expected = b"".join(first + second)
    assert outbox.queued_bytes > 0
    assert receive(reactor, pair[1], len(expected)) == expected
    assert outbox.queued_bytes == 0
    assert outbox.sent_bytes == len(expected)
    assert failures == []


def test_a_closed_connection_is_reported_once(reactor: EpollReactor, pair: Pair) -> None:
    failures: list[str] = []
    outbox = watched(reactor, pair[0], failures)
    pair[1].close()
    outbox.send([b"x"])
    outbox.send([b"y"])
    assert failures == ["Broken pipe"]


def test_a_peer_that_never_reads_breaks_the_connection(
    reactor: EpollReactor, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_QUEUED_BYTES", 100_000)
    failures: list[str] = []
    outbox = watched(reactor, pair[0], failures)
    for _ in range(10):
        outbox.send([bytes(50_000)])
    assert failures == ["the other side does not take what it is sent"]
    assert outbox.queued_bytes == 0
