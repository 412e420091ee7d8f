"""Accepting peers (specification section 4.1), with a hastd and hand-made peers."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack
from resource import RLIMIT_NOFILE, prlimit
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, alive, free_port, wait_for
from hast.format import frame, nv
from hast.format.constants import OUR_FEATURES
from hast.format.handshake import Hello, SecondHello
from hast.format.nv import Nv, NvType
from hast.supervisor.listener import MAX_HALF_OPEN_PER_ADDRESS

REMOTE = "remote tcp4://127.0.0.1"


@pytest.fixture
def secondary(make_daemon: MakeDaemon) -> Daemon:
    """hastd whose peer is this machine; disk1 is secondary, disk2 init."""
    daemon = make_daemon({"disk1": REMOTE, "disk2": REMOTE}).start()
    daemon.role("secondary")
    return daemon


def connect(daemon: Daemon) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
    sock.settimeout(10)
    return sock


def send(sock: socket.socket, fields: list[nv.Field], version: int = 1) -> None:
    sock.sendall(b"".join(bytes(part) for part in frame.encode(version, fields)))


def receive(sock: socket.socket) -> tuple[int, Nv]:
    decoder = frame.FrameDecoder(1 << 16, 0)
    while (message := decoder.next()) is None:
        piece = sock.recv(decoder.needed)
        assert piece, "closed without an answer"
        decoder.feed(piece)
    return message.version, message.nv


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def hello(daemon: Daemon, resource: str = "disk1", **more: Any) -> tuple[socket.socket, int, Nv]:
    sock = connect(daemon)
    send(sock, Hello(resource, **more).fields())
    return sock, *receive(sock)


def second_hello(daemon: Daemon, token: bytes) -> socket.socket:
    sock = connect(daemon)
    send(sock, SecondHello("disk1", token, 1, 0, 0).fields(), 2)
    return sock


def token_of(reply: Nv) -> bytes:
    token = reply.get("token", NvType.UINT8_ARRAY)
    assert isinstance(token, bytes)
    return token


def test_first_connection_gets_version_token_and_features(standing_daemon: Daemon) -> None:
    sock, version, reply = hello(standing_daemon, features=0xFFFF)
    with sock:
        assert version == 2
        assert reply.get("version", NvType.UINT8) == 2
        assert len(token_of(reply)) == 16
        assert reply.get("features", NvType.UINT32) == OUR_FEATURES


def test_version_1_peer_is_answered_in_version_1(standing_daemon: Daemon) -> None:
    sock = connect(standing_daemon)
    with sock:
        send(sock, [nv.string("resource", "disk1")])
        version, reply = receive(sock)
        assert version == 1
        assert reply.get("version", NvType.UINT8) == 1
        assert "features" not in reply


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("nope", "Resource not configured."),
        ("disk2", "Remote node acts as init for the resource and not as secondary."),
    ],
)
def test_refusals_have_the_reference_texts(standing_daemon: Daemon, resource: str, text: str) -> None:
    sock, _version, reply = hello(standing_daemon, resource)
    with sock:
        assert reply.get("errmsg", NvType.STRING) == text
        assert "wait" not in reply
        assert closed(sock)


def test_primary_refuses_with_wait(secondary: Daemon) -> None:
    secondary.role("primary", "disk2")
    sock, _version, reply = hello(secondary, "disk2")
    with sock:
        assert (
            reply.get("errmsg", NvType.STRING) == "Remote node acts as primary for the resource and not as secondary."
        )
        assert "wait" in reply


def test_pair_of_connections_starts_a_worker_with_message_3(secondary: Daemon) -> None:
    a, _version, reply = hello(secondary, features=4)
    b = second_hello(secondary, token_of(reply))
    with a, b:
        wait_for(lambda: secondary.status()["workerpid"], "worker")
        seen = (secondary.directory / "orders" / "disk1.seen").read_text().splitlines()
        told = json.loads(seen[0])
        assert told["descriptors"] == 2
        start = told["start"]
        assert (start["role"], start["version"], start["features"], start["peer"]) == ("secondary", 2, 4, "127.0.0.1")
        message = nv.decode(bytes.fromhex(start["hello"]))
        assert message.get("token", NvType.UINT8_ARRAY) == token_of(reply)


def test_second_connection_without_a_first_is_refused(standing_daemon: Daemon) -> None:
    with second_hello(standing_daemon, bytes(16)) as sock:
        assert receive(sock)[1].get("errmsg", NvType.STRING) == "Token doesn't match."
    assert standing_daemon.status()["workerpid"] == 0


def test_wrong_token_is_refused_and_the_right_one_still_works(secondary: Daemon) -> None:
    a, _version, reply = hello(secondary)
    with a:
        with second_hello(secondary, bytes(16)) as wrong:
            assert "errmsg" in receive(wrong)[1]
        with second_hello(secondary, token_of(reply)):
            wait_for(lambda: secondary.status()["workerpid"], "worker")


def test_token_works_only_once(secondary: Daemon) -> None:
    a, _version, reply = hello(secondary)
    with a, second_hello(secondary, token_of(reply)):
        worker = wait_for(lambda: secondary.status()["workerpid"], "worker")
        with second_hello(secondary, token_of(reply)) as replay:
            assert "errmsg" in receive(replay)[1]
        assert secondary.status()["workerpid"] == worker


def test_message_1_alone_leaves_the_live_connection_and_its_worker_alone(secondary: Daemon) -> None:
    """Security finding 6: one packet each 0.5 s kept a pair degraded."""
    secondary.order("disk1", events=["connect"])
    a, _version, reply = hello(secondary)
    with a, second_hello(secondary, token_of(reply)):
        worker = wait_for(lambda: secondary.status()["workerpid"], "worker")
        for _ in range(5):
            hello(secondary)[0].close()
        again, _version, _second = hello(secondary)
        with again, second_hello(secondary, bytes(16)) as wrong:
            assert "errmsg" in receive(wrong)[1]
            assert secondary.status()["workerpid"] == worker
        assert [event["event"] for event in secondary.status()["history"]] == ["role", "connect"]


def test_message_3_with_the_token_replaces_the_live_connection(secondary: Daemon) -> None:
    """The primary is back, and its former connection is not known to be dead here."""
    a, _version, reply = hello(secondary)
    b = second_hello(secondary, token_of(reply))
    with a, b:
        worker = wait_for(lambda: secondary.status()["workerpid"], "worker")
        again, _version, second = hello(secondary)
        with again:
            assert alive(worker)
            with second_hello(secondary, token_of(second)):
                wait_for(lambda: secondary.status()["workerpid"] not in (0, worker), "new worker")
                assert not alive(worker)


def test_new_first_connection_closes_a_half_open_one(standing_daemon: Daemon) -> None:
    first, _version, _reply = hello(standing_daemon)
    second, _version, _reply = hello(standing_daemon)
    with first, second:
        assert closed(first)


def test_role_change_closes_a_half_open_connection(secondary: Daemon) -> None:
    sock, _version, _reply = hello(secondary)
    with sock:
        secondary.role("init")
        assert closed(sock)


def test_inconsistent_copy_is_not_promoted_and_keeps_its_connection(secondary: Daemon) -> None:
    secondary.order("disk1", status={"inconsistent": True})
    a, _version, reply = hello(secondary)
    with a, second_hello(secondary, token_of(reply)):
        worker = wait_for(lambda: secondary.status()["workerpid"], "worker")
        result = secondary.role("primary")
        assert "inconsistent" in result["error"]
        assert secondary.status()["workerpid"] == worker
        assert secondary.role("primary", force=True)["error"] is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x02\x00\x00\x00\x00",
        b"\x02\xff\xff\xff\xff",
        b"\x02\x04\x00\x00\x00\xff\xff\xff\xff",
        b"\x03" + bytes(60),
    ],
)
def test_garbage_closes_only_that_connection(standing_daemon: Daemon, garbage: bytes) -> None:
    with connect(standing_daemon) as sock:
        sock.sendall(garbage)
        assert closed(sock)
    sock, _version, reply = hello(standing_daemon)
    with sock:
        assert "token" in reply


def test_token_of_a_wrong_size_is_dropped(standing_daemon: Daemon) -> None:
    with connect(standing_daemon) as sock:
        send(sock, [nv.string("resource", "disk1"), nv.u8s("token", b"short")], 2)
        assert closed(sock)


def test_silent_peers_cost_nothing_and_are_limited(standing_daemon: Daemon) -> None:
    with ExitStack() as silent:
        held = [silent.enter_context(connect(standing_daemon)) for _ in range(40)]
        began = time.monotonic()
        sock, _version, reply = hello(standing_daemon)
        with sock:
            assert "token" in reply
        assert standing_daemon.status()["role"] == "secondary"
        assert time.monotonic() - began < 3
        assert closed(held[0])


def test_stranger_is_dropped_unread(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote tcp4://192.0.2.1"}).start()
    daemon.role("secondary")
    with connect(daemon) as sock:
        assert closed(sock)
    assert "Client 127.0.0.1 isn't known." in daemon.log()


def test_peer_is_allowed_only_its_own_resources(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote tcp4://192.0.2.1", "disk2": REMOTE}).start()
    daemon.role("secondary", "all")
    sock, _version, reply = hello(daemon, "disk1")
    with sock:
        assert reply.get("errmsg", NvType.STRING) == "No access to the resource."


def test_peer_name_is_resolved(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote tcp4://localhost"}).start()
    daemon.role("secondary")
    sock, _version, reply = hello(daemon)
    with sock:
        assert "token" in reply


def test_ipv6_listener(make_daemon: MakeDaemon) -> None:
    daemon, port = make_daemon(), free_port()
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    daemon.write_config({"disk1": "remote tcp6://[::1]:1"}, listen=f"listen tcp6://[::1]:{port}")
    daemon.start()
    daemon.role("secondary")
    with socket.create_connection(("::1", port), timeout=5) as sock:
        send(sock, Hello("disk1").fields())
        assert "token" in receive(sock)[1]


def test_disconnect_is_reported_when_a_connected_worker_is_killed(secondary: Daemon) -> None:
    secondary.order("disk1", events=["connect"])
    a, _version, reply = hello(secondary)
    with a, second_hello(secondary, token_of(reply)):
        worker = wait_for(lambda: secondary.status()["workerpid"], "worker")
        import os
        import signal

        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: secondary.status()["workerpid"] == 0, "end of the worker")
        names = [event["event"] for event in secondary.status()["history"]]
        assert names == ["role", "connect", "disconnect"]
        assert secondary.status()["role"] == "secondary"


def test_half_open_connections_cost_no_more_descriptors_than_the_limit(secondary: Daemon) -> None:
    """Security finding 4: 580 connections of one address held 584 descriptors, and `role` failed for want of one."""
    assert secondary.process is not None
    folder = f"/proc/{secondary.process.pid}/fd"
    before = len(os.listdir(folder))
    most = 0
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(secondary))
            most = max(most, len(os.listdir(folder)))
        secondary.role("primary", "disk2")
    assert most - before <= MAX_HALF_OPEN_PER_ADDRESS + 4


def test_where_descriptors_are_few_they_are_kept_back_for_control_and_workers(secondary: Daemon) -> None:
    assert secondary.process is not None
    pid = secondary.process.pid
    limit = len(os.listdir(f"/proc/{pid}/fd")) + 18
    prlimit(pid, RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(secondary))
        assert secondary.role("primary", "disk2")["error"] is None
        assert secondary.status("disk1")["role"] == "secondary"
        assert len(os.listdir(f"/proc/{pid}/fd")) < limit - 4
    a, _version, reply = hello(secondary)
    with a, second_hello(secondary, token_of(reply)):
        wait_for(lambda: secondary.status("disk1")["workerpid"], "a worker for the other node")


def test_what_strangers_send_fills_no_log(secondary: Daemon) -> None:
    """Security finding 4: 13,484 lines in 14 s."""
    before = len(secondary.log().splitlines())
    for number in range(200):
        with connect(secondary) as sock:
            if number % 2:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            else:
                send(sock, Hello(f"made-up-{number}").fields())
            while not closed(sock):
                pass
    told = secondary.log().splitlines()[before:]
    assert 2 <= len(told) < 20, told
