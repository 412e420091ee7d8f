"""The control socket: reference messages against the vectors, JSON, events, and bad clients."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, wait_for
from hast.format import control, frame, nv
from hast.format.constants import Role
from hast.format.nv import Nv, NvType


def converse(daemon: Daemon, request: bytes) -> bytes:
    with connect(daemon) as sock:
        sock.sendall(request)
        parts = []
        while piece := sock.recv(65536):
            parts.append(piece)
    return b"".join(parts)


def connect(daemon: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(15)
    sock.connect(str(daemon.directory / "ctl"))
    return sock


def encode(fields: list[nv.Field]) -> bytes:
    return b"".join(bytes(part) for part in frame.encode(2, fields))


def ask(daemon: Daemon, fields: list[nv.Field]) -> Nv:
    reply = converse(daemon, encode(fields))
    version, size = frame.HEADER.unpack_from(reply)
    assert (version, size) == (2, len(reply) - frame.HEADER.size)
    return nv.decode(reply[frame.HEADER.size :])


def vector(shared_compat: Path, name: str) -> bytes:
    return bytes.fromhex((shared_compat / "vectors" / f"{name}.hex").read_text())


def test_socket_is_for_root_only(standing_daemon: Daemon) -> None:
    assert stat.S_IMODE(os.stat(standing_daemon.directory / "ctl").st_mode) == 0o600


def test_reference_status_of_all(daemon: Daemon, shared_compat: Path) -> None:
    reply = converse(daemon, vector(shared_compat, "30-ctl-status-all"))
    entry = control.read_status_reply(nv.decode(reply[5:]))[0]
    assert (entry["name"], entry["role"], entry["workerpid"]) == ("disk1", "init", 0)


def test_reference_unknown_resource_is_bit_exact(make_daemon: MakeDaemon, shared_compat: Path) -> None:
    daemon = make_daemon().start()
    reply = converse(daemon, encode(control.status_request(["nosuch"])))
    assert reply == vector(shared_compat, "33-ctl-reply-unknown-resource")


def test_reference_role_change_is_bit_exact(make_daemon: MakeDaemon, shared_compat: Path) -> None:
    daemon = make_daemon({"shared": "remote none"}).start()
    reply = converse(daemon, vector(shared_compat, "31-ctl-role-primary-shared"))
    assert reply == vector(shared_compat, "32-ctl-role-reply")
    assert daemon.status("shared")["role"] == "primary"


def test_reference_status_of_init_is_bit_exact(make_daemon: MakeDaemon, shared_compat: Path) -> None:
    daemon = make_daemon()
    daemon.write_config(
        {"shared": "local /dev/da0 remote tcp4://10.0.0.2"}, inside="replication memsync compression hole"
    )
    daemon.start()
    reply = converse(daemon, encode(control.status_request(["shared"])))
    assert reply == vector(shared_compat, "34-ctl-status-reply-init")


def test_reference_invalid_request(standing_daemon: Daemon, shared_compat: Path) -> None:
    assert converse(standing_daemon, encode([nv.u8("cmd", 2)])) == vector(shared_compat, "36-ctl-reply-invalid")
    bad_role = [nv.u8("cmd", 1), nv.u8("role", 9), nv.string("resource0", "disk1")]
    assert converse(standing_daemon, encode(bad_role)) == vector(shared_compat, "36-ctl-reply-invalid")


def test_unknown_command_is_unimplemented(standing_daemon: Daemon) -> None:
    assert ask(standing_daemon, [nv.u8("cmd", 9)]).get("error", NvType.INT16) == 4


def test_status_of_no_resources_is_not_an_empty_message(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({})
    daemon.start()
    assert ask(daemon, control.status_request(["all"])).get("error", NvType.INT16) == 0


def test_refused_role_is_an_error_for_the_reference_too(daemon: Daemon) -> None:
    daemon.order("disk1", refuse="no")
    entry = control.read_role_reply(ask(daemon, control.role_request(Role.PRIMARY, ["disk1"])))[0]
    assert entry["code"] == 69


def test_status_object_has_the_documented_keys(standing_daemon: Daemon) -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    for key in standing_daemon.status():
        assert f"`{key}`" in text or key == "error", key


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ("{}", "not an object"),
        ('{"command": "dance"}', "Unknown command 'dance'"),
        ('{"command": "status"}', "names no resources"),
        ('{"command": "status", "resources": "all"}', "names no resources"),
        ('{"command": "status", "resources": [1]}', "names no resources"),
        ('{"command": "role", "resources": ["disk1"], "role": "king"}', "Unknown role 'king'"),
        ('{"command": "sync-rate", "resources": ["disk1"], "bytes_s": -1}', "not a number"),
        ('{"command": "sync-rate", "resources": ["disk1"], "bytes_s": true}', "not a number"),
        ('{"command": "sync-rate", "resources": ["disk1"], "bytes_s": "fast"}', "not a number"),
    ],
)
def test_bad_json_request_is_answered_with_one_line(standing_daemon: Daemon, text: str, error: str) -> None:
    reply = ask(standing_daemon, control.json_request(text)).get("json", NvType.STRING)
    assert isinstance(reply, str)
    found = json.loads(reply)["error"]
    assert error in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello, daemon!",
        b"\x02\x00\x00\x00\x00",
        b"\x02\xff\xff\xff\x7f",
        b"\x02\x04\x00\x00\x00\x00\x00\x00\x00",
        b"\x09",
    ],
)
def test_garbage_is_closed_and_others_are_served(standing_daemon: Daemon, garbage: bytes) -> None:
    with connect(standing_daemon) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        try:
            assert sock.recv(100) == b""
        except ConnectionResetError:
            pass
    assert standing_daemon.status()["name"] == "disk1"


def test_silent_clients_hold_up_nobody(standing_daemon: Daemon) -> None:
    with ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(connect(standing_daemon)).sendall(b"\x02\x10")
        began = time.monotonic()
        assert standing_daemon.status()["name"] == "disk1"
        assert time.monotonic() - began < 2


def test_client_that_leaves_in_the_middle_of_a_role_change_does_not_stop_it(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=0.5)
    with connect(daemon) as sock:
        sock.sendall(encode(control.role_request(Role.PRIMARY, ["disk1"])))
        time.sleep(0.2)
    wait_for(lambda: daemon.status()["nbd_socket"] and daemon.status()["workerpid"], "promotion")
    wait_for(lambda: any(e["event"] == "role" for e in daemon.status()["history"]), "role event")


def test_events_come_in_order_with_replay(daemon: Daemon) -> None:
    daemon.order("disk1", events=["connect", "syncstart"])
    daemon.role("primary")
    events = list(itertools.islice(daemon.client.events(0), 4))
    assert events[0]["error"] is None
    assert sorted(event["event"] for event in events[1:]) == ["connect", "role", "syncstart"]
    assert [event["seq"] for event in events[1:]] == [1, 2, 3]
    role = next(event for event in events[1:] if event["event"] == "role")
    assert (role["resource"], role["old"], role["new"]) == ("disk1", "init", "primary")


def test_events_without_since_begin_now(daemon: Daemon) -> None:
    daemon.role("secondary")
    stream = daemon.client.events()
    first = next(stream)
    assert first["seq"] >= 1
    daemon.role("init")
    event = next(stream)
    assert (event["event"], event["new"]) == ("role", "init")


def test_word_of_an_arbiter_is_passed_to_the_worker_of_a_primary_only(daemon: Daemon) -> None:
    requests = [
        {"command": "answer", "question": "outdate-peer", "yes": True},
        {"command": "freeze", "reason": "maintenance"},
        {"command": "thaw"},
    ]
    for request in requests:
        result = daemon.ask({**request, "resources": ["disk1", "nope"]})["resources"]
        assert "is not primary" in result[0]["error"]
        assert result[1]["code"] == 1
    daemon.role("primary")
    for request in requests:
        assert daemon.ask({**request, "resources": ["disk1"]})["resources"][0]["error"] is None
    seen = (daemon.directory / "orders" / "disk1.seen").read_text().splitlines()
    told = [json.loads(line)["message"] for line in seen[1:]]
    assert [message["do"] for message in told] == ["answer", "freeze", "thaw"]
    assert (told[0]["yes"], told[1]["reason"]) == (True, "maintenance")


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs root and /usr/bin/python3"
)
def test_other_users_are_turned_away_even_where_the_mode_lets_them_in(daemon: Daemon) -> None:
    path = daemon.directory / "ctl"
    for each in (daemon.directory.parent, daemon.directory):
        each.chmod(0o755)
    path.chmod(0o666)
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); print(len(s.recv(1)))"
    command = ["/usr/bin/python3", "-c", code]
    done = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=20)
    assert done.stdout == "0\n", done.stderr
    assert "neither root nor hastd's user" in daemon.log()


def test_fresh_status_reads_the_provider_again(daemon: Daemon) -> None:
    assert daemon.status()["extentsize"] == 0
    assert daemon.hastctl("create", "disk1").returncode == 0
    fresh = daemon.ask({"command": "status", "resources": ["disk1"], "fresh": True})["resources"][0]
    assert (fresh["extentsize"], daemon.status()["extentsize"]) == (2097152, 2097152)
