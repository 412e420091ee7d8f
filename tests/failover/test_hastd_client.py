"""The client of hastd's control socket: every bad answer is one clear error, and nothing waits for ever."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hast.failover.hastd import Abandoned, Hastd, HastdAbsent, HastdError, encode_request
from hast.format import frame, nv

Answer = Callable[[socket.socket], None]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[Answer], Hastd]]:
    """Makes a server that hands each connection to a function, and a client for it."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def make(answer: Answer) -> Hastd:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(tmp_path / "control"))
        server.listen(4)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        servers.append((server, thread))
        return Hastd(f"unix://{tmp_path}/control")

    yield make
    for server, thread in servers:
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        server.close()


def reply(value: object) -> Answer:
    data = b"".join(bytes(part) for part in frame.encode(2, [nv.string("json", json.dumps(value))]))
    return lambda connection: connection.sendall(data)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda connection: None, "sent what is no reply: the connection ended early"),
        (lambda connection: connection.sendall(b"\xff" * 100), "sent what is no reply"),
        (reply([]), "a reply that is no object"),
        (reply({"error": "not today"}), "not today"),
        (reply({"error": None}), "a status without resources"),
    ],
)
def test_a_bad_answer_is_one_clear_error(answering: Callable[[Answer], Hastd], answer: Answer, error: str) -> None:
    with pytest.raises(HastdError, match=error) as caught:
        answering(answer).roles(5)
    assert "\n" not in str(caught.value)


def test_a_refusal_in_the_old_language_is_told(answering: Callable[[Answer], Hastd]) -> None:
    data = b"".join(bytes(part) for part in frame.encode(2, [nv.i16("error", 4)]))
    with pytest.raises(HastdError, match=r"refused the request \(error 4\)"):
        answering(lambda connection: connection.sendall(data)).roles(5)


def test_a_refused_role_carries_its_code(answering: Callable[[Answer], Hastd]) -> None:
    client = answering(reply({"error": None, "resources": [{"name": "d", "error": "no such thing", "code": 1}]}))
    with pytest.raises(HastdError, match="no such thing") as caught:
        client.set_role("d", "primary", 5)
    assert caught.value.code == 1


def test_a_silent_hastd_is_left_after_the_deadline(
    answering: Callable[[Answer], Hastd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hast.failover.hastd.GRACE_S", 0.1)
    release = threading.Event()
    client = answering(lambda connection: release.wait(20) and None)
    started = time.monotonic()
    with pytest.raises(HastdError, match="did not answer within"):
        client.roles(0.2)
    assert time.monotonic() - started < 10
    release.set()


def test_an_answer_can_be_given_up(answering: Callable[[Answer], Hastd]) -> None:
    release = threading.Event()
    client = answering(lambda connection: release.wait(20) and None)
    with pytest.raises(Abandoned):
        client.set_role("d", "primary", 60, lambda: True)
    release.set()


def test_nobody_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(HastdAbsent, match="start it"):
        Hastd(str(tmp_path / "none")).roles(1)
    (tmp_path / "file").touch()
    with pytest.raises(HastdAbsent):
        Hastd(str(tmp_path / "file")).roles(1)
    with pytest.raises(HastdError, match="cannot be reached"):
        Hastd("/" + "x" * 300).roles(1)


def test_requests_are_framed_as_hastctl_frames_them() -> None:
    decoder = frame.FrameDecoder(4096, 0)
    decoder.feed(encode_request({"command": "status"}))
    message = decoder.next()
    assert message is not None
    assert message.nv.get("cmd", nv.NvType.UINT8) == 64
    assert json.loads(message.nv.get("json", nv.NvType.STRING) or "") == {"command": "status"}
