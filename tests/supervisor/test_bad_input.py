"""Random bytes on the sockets of hastd close only their own conversation (S12)."""

from __future__ import annotations

import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon import Daemon
from hast.format import frame, nv

FIELD = st.one_of(
    st.builds(
        nv.string, st.sampled_from(["resource", "resource0", "json", "errmsg"]), st.text("abc{}[]: 0/", max_size=20)
    ),
    st.builds(nv.u8, st.sampled_from(["cmd", "version", "role", "token"]), st.integers(0, 255)),
    st.builds(nv.u8s, st.sampled_from(["token", "bootid"]), st.binary(min_size=1, max_size=20)),
    st.builds(nv.u64, st.sampled_from(["resuid", "localcnt", "seq", "cmd"]), st.integers(0, 2**64 - 1)),
)
MESSAGE = st.lists(FIELD, min_size=1, max_size=6).map(
    lambda fields: b"".join(bytes(p) for p in frame.encode(2, fields))
)
NOISE = st.one_of(st.binary(max_size=200), MESSAGE, st.builds(lambda a, b: a + b, MESSAGE, st.binary(max_size=40)))


def talk(family: int, where: object, data: bytes) -> None:
    with socket.socket(family) as sock:
        sock.settimeout(15)
        sock.connect(where)  # type: ignore[arg-type]
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=NOISE)
def test_control_socket(standing_daemon: Daemon, data: bytes) -> None:
    talk(socket.AF_UNIX, str(standing_daemon.directory / "ctl"), data)
    assert standing_daemon.ask({"command": "version"})["error"] is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=NOISE)
def test_peer_listener(standing_daemon: Daemon, data: bytes) -> None:
    talk(socket.AF_INET, ("127.0.0.1", standing_daemon.port), data)
    assert standing_daemon.ask({"command": "version"})["error"] is None


def test_nothing_unexpected_was_logged(standing_daemon: Daemon) -> None:
    log = standing_daemon.log()
    assert "Traceback" not in log
    assert "Control request failed" not in log
