"""Dialling: success, refusal, source addresses, UNIX sockets, silent hosts; always one answer, always in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.worker.link.dial import Dialer
from hast.worker.reactor import EpollReactor


@pytest.fixture
def reactor() -> Iterator[EpollReactor]:
    reactor = EpollReactor()
    yield reactor
    reactor.close()


def dial(
    reactor: EpollReactor, remote: str, source: str | None = None, timeout_s: float = 5
) -> tuple[socket.socket | None, str]:
    answers: list[tuple[socket.socket | None, str]] = []

    def dialed(sock: socket.socket | None, reason: str) -> None:
        answers.append((sock, reason))
        reactor.call_later(0.02, reactor.stop)

    Dialer(reactor, remote, source, timeout_s, dialed)
    assert answers == []
    reactor.run()
    assert len(answers) == 1
    return answers[0]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_tcp_connection_is_made_without_delay_and_with_keepalive(
    reactor: EpollReactor, listener: socket.socket
) -> None:
    sock, reason = dial(reactor, f"tcp4://127.0.0.1:{listener.getsockname()[1]}", timeout_s=6)
    assert sock is not None, reason
    with sock:
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6000


def test_the_source_address_is_bound(reactor: EpollReactor, listener: socket.socket) -> None:
    sock, reason = dial(reactor, f"127.0.0.1:{listener.getsockname()[1]}", "127.0.0.9")
    assert sock is not None, reason
    with sock:
        assert sock.getsockname()[0] == "127.0.0.9"


def test_a_source_of_another_family_is_refused(reactor: EpollReactor, listener: socket.socket) -> None:
    sock, reason = dial(reactor, f"127.0.0.1:{listener.getsockname()[1]}", "::1")
    assert sock is None
    assert "family" in reason


def test_nobody_listening_is_told_at_once(reactor: EpollReactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert dial(reactor, f"127.0.0.1:{port}") == (None, "Connection refused")


def test_a_unix_socket_can_be_dialled(reactor: EpollReactor, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        sock, reason = dial(reactor, f"unix://{path}")
        assert sock is not None, reason
        sock.close()


def test_a_name_that_does_not_resolve_is_an_answer(reactor: EpollReactor) -> None:
    sock, reason = dial(reactor, "no-such-host.invalid")
    assert sock is None
    assert reason.startswith(("cannot resolve", "no answer"))


def test_a_malformed_address_is_an_answer(reactor: EpollReactor) -> None:
    sock, reason = dial(reactor, "[::1]")
    assert sock is None
    assert "port" in reason


def test_a_silent_host_costs_no_more_than_the_deadline(reactor: EpollReactor) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        began_s = time.monotonic()
        sock, reason = dial(reactor, f"127.0.0.1:{full.getsockname()[1]}", timeout_s=0.3)
        took_s = time.monotonic() - began_s
        for filler in fillers:
            filler.close()
    assert sock is None
    assert reason == "no answer within 0.3 s"
    assert took_s < 1.5


def test_a_cancelled_attempt_never_answers(reactor: EpollReactor, listener: socket.socket) -> None:
    answers: list[str] = []
    dialer = Dialer(
        reactor, f"127.0.0.1:{listener.getsockname()[1]}", None, 1, lambda _sock, reason: answers.append(reason)
    )
    dialer.cancel()
    reactor.call_later(0.1, reactor.stop)
    reactor.run()
    assert answers == []
