"""Two real hastd that know each other by key, and strangers between and beside them. No root."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import Pair, io, needs_qemu_io
from middle import Middle
from secure_pair import configure, keygen

from daemon import Daemon, wait_for
from hast.daemon.kernel_tls import OFF_VARIABLE, missing
from hast.daemon.node_key import read_fingerprint
from hast.format import frame, handshake
from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION

pytestmark = needs_qemu_io

CHANGED_KEYS = "keys of a connection to the peer are used up"
ALERT_BYTES = 24
"""A record of an alert: header, two bytes, their type, a tag."""


@pytest.fixture
def strangers(make_daemon: MakeDaemon) -> Iterator[Pair]:
    """Two that have keys and are not configured yet."""
    made = Pair(make_daemon(fake=False), make_daemon(fake=False))
    for daemon in made.both:
        daemon.environment_more["HAST_RECONNECT_S"] = "1"
    yield made
    made.check_logs()


@pytest.fixture
def secure(strangers: Pair) -> Pair:
    """Known to each other, in step."""
    introduce(strangers, strangers.two.port)
    return strangers


def introduce(strangers: Pair, towards: int) -> None:
    """Each knows the other, and the first calls the other at this port; until they are in step."""
    one, two = strangers.both
    first, second = keygen(one), keygen(two)
    configure(one, towards, [first], [second])
    configure(two, one.port, [second], [first])
    strangers.bring_up()


def with_somebody_between(strangers: Pair) -> Middle:
    """In step, over a relay that may hurt what it carries."""
    middle = Middle(strangers.two.port)
    introduce(strangers, middle.port)
    return middle


def test_a_pair_with_keys_replicates_and_says_that_its_link_is_secure(secure: Pair) -> None:
    io(secure.one, "write -P 7 0 8M", "write -P 9 3M 1M", "flush", "read -P 9 3M 1M")
    secure.wait_complete()
    first, second = secure.images()
    assert first == second
    assert first[3 << 20] == 9
    for daemon in secure.both:
        status = daemon.status()
        assert status["tls"] == "on"
        assert status["tls_in"] == ("user" if missing() else "kernel")
        assert f"  tls: on, in {'user space' if missing() else 'the kernel'}\n" in daemon.hastctl("list").stdout


def test_roles_are_exchanged_and_the_link_lost_and_made_again_with_keys(secure: Pair) -> None:
    secure.one.role("secondary")
    assert secure.two.role("primary")["error"] is None
    secure.wait_complete()
    io(secure.two, "write -P 5 0 2M")
    secure.one.die()
    io(secure.two, "write -P 6 1M 2M")
    secure.one.start()
    assert secure.one.role("secondary")["error"] is None
    secure.wait_complete()
    first, second = secure.images()
    assert first == second


def plain_hello(port: int) -> bytes:
    """What a node without keys hears after message 1."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        hello = handshake.Hello("disk1", PROTOCOL_VERSION, int(OUR_FEATURES))
        sock.sendall(b"".join(bytes(part) for part in frame.encode(1, hello.fields())))
        return sock.recv(65536)


def test_a_primary_without_a_key_is_told_nothing_and_does_not_disturb_the_pair(secure: Pair) -> None:
    for _ in range(3):
        assert plain_hello(secure.two.port) == b""
    assert secure.words() == ["complete", "complete"]
    wait_for(lambda: "did not show the key" in secure.two.log(), "the log line")


def test_a_primary_with_another_key_is_not_let_in(secure: Pair, tmp_path: Path) -> None:
    """An unprivileged process that has the address and a key of its own."""
    state = tmp_path / "stranger"
    environment = {**os.environ, "HAST_STATE": str(state)}
    script = "from hast.daemon.node_key import generate; generate()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(state / "node.crt", state / "node.key")
    with socket.create_connection(("127.0.0.1", secure.two.port), timeout=5) as raw:
        assert _answer(context.wrap_socket(raw)) == b""
    assert secure.words() == ["complete", "complete"]


def _answer(sock: ssl.SSLSocket) -> bytes:
    """What a primary with this session hears after message 1; nothing where the session is ended."""
    hello = handshake.Hello("disk1", PROTOCOL_VERSION, int(OUR_FEATURES))
    with contextlib.suppress(OSError), sock:
        sock.sendall(b"".join(bytes(part) for part in frame.encode(1, hello.fields())))
        return sock.recv(65536)
    return b""


def test_whoever_listens_where_the_secondary_was_gets_nothing_of_the_disk(secure: Pair) -> None:
    """8457 is a port that any user may listen on."""
    io(secure.one, "write -P 3 0 1M")
    secure.two.stop()
    heard = bytearray()
    with socket.create_server(("127.0.0.1", secure.two.port)) as server:
        server.settimeout(30)
        for _ in range(2):
            sock, _where = server.accept()
            sock.settimeout(5)
            with sock:
                heard += sock.recv(65536)
                sock.sendall(b"\x01\x00\x00\x00\x00" * 20)
    assert heard[:1] == b"\x16", "TLS, and no word of HAST"
    assert b"disk1" not in heard
    wait_for(lambda: "does not speak TLS" in secure.one.log(), "the reason")


def test_a_node_whose_key_is_not_the_one_of_the_file_is_refused_and_named(strangers: Pair) -> None:
    one, two = strangers.both
    first, second = keygen(one), keygen(two)
    configure(one, two.port, [first], ["ab" * 32], "wait-for-peer off")
    configure(two, one.port, [second], [first])
    for daemon in strangers.both:
        assert daemon.hastctl("create", "disk1").returncode == 0
        daemon.start()
    two.role("secondary")
    one.role("primary")
    wait_for(lambda: second in one.log(), "the key that it has")
    assert one.status()["status"] == "degraded"
    configure(one, two.port, [first], [second])
    one.process.send_signal(1)  # type: ignore[union-attr]
    strangers.wait_complete()


def test_a_key_is_changed_without_stopping_the_pair(secure: Pair) -> None:
    one, two = secure.both
    old = shown(one)
    new = keygen(one, "--next")
    theirs = shown(two)
    configure(one, two.port, [old, new], [theirs])
    configure(two, one.port, [theirs], [old, new])
    for daemon in secure.both:
        daemon.process.send_signal(1)  # type: ignore[union-attr]
    wait_for(lambda: all(log.count("reloaded") for log in (one.log(), two.log())), "the reload")
    assert secure.words() == ["complete", "complete"], "nothing is interrupted"
    assert one.hastctl("keygen", "--switch").returncode == 0
    two.role("init")
    two.role("secondary")
    secure.wait_complete()
    assert shown(one) == new


def test_the_keys_of_a_link_change_while_it_serves_and_nobody_notices(strangers: Pair) -> None:
    """In both directions: what is written is sent, then a fresh copy is read back from the other node."""
    one, two = strangers.both
    for daemon in strangers.both:
        daemon.environment_more |= {"HAST_TLS_RECORDS": "40", OFF_VARIABLE: "off"}
    introduce(strangers, two.port)
    io(one, *(f"write -P {mib + 1} {mib}M 1M" for mib in range(12)), "flush", "read -P 12 11M 1M")
    strangers.wait_complete()
    sent = one.log().count(CHANGED_KEYS)
    assert sent >= 10
    one.die()
    assert two.role("primary")["error"] is None
    io(two, "write -P 9 0 4M", "flush")
    two.role("secondary")
    one.start()
    assert one.role("primary")["error"] is None
    strangers.wait_complete()
    assert one.log().count(CHANGED_KEYS) >= sent + 5, "of what was read from the peer"
    assert one.log().count("Disconnected") == 0
    first, second = strangers.images()
    assert first == second
    assert first[0] == 9


def shown(daemon: Daemon) -> str:
    """The fingerprint of this daemon's node."""
    return read_fingerprint(daemon.directory / "state" / "node.crt")


def test_a_connection_is_closed_by_an_alert(strangers: Pair) -> None:
    """So that the other side can tell the end from a cut cable."""
    one, two = strangers.both
    middle = with_somebody_between(strangers)
    last = bytearray()

    def note(data: bytes, towards_secondary: bool) -> bytes:
        last[:] = (last + (data if towards_secondary else b""))[-ALERT_BYTES:]
        return data

    middle.hurt = note
    one.role("init")
    wait_for(lambda: last[:5] == b"\x17\x03\x03\x00\x13", "the record of an alert")
    wait_for(lambda: "the primary let go in order" in two.log(), "the secondary to take it so")
    middle.close()


def alter(data: bytes, towards: bool) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if towards and len(data) > 4000 else data


def repeat(data: bytes, towards: bool) -> bytes:
    return data + data if towards and len(data) > 4000 else data


def swallow(data: bytes, towards: bool) -> bytes:
    return data[: len(data) // 2] if towards and len(data) > 4000 else data


def reorder(data: bytes, towards: bool) -> bytes:
    return data[len(data) // 2 :] + data[: len(data) // 2] if len(data) > 4000 else data


def cut_short(data: bytes, towards: bool) -> bytes:
    return data[:-1] if len(data) > 4000 else data


@pytest.mark.parametrize(
    "hurt", [alter, repeat, swallow, *(pytest.param(each, marks=pytest.mark.slow) for each in (reorder, cut_short))]
)
def test_what_is_changed_on_its_way_is_not_believed_and_the_pair_is_whole_when_it_ends(
    strangers: Pair, hurt: Callable[[bytes, bool], bytes]
) -> None:
    one, two = strangers.both
    for daemon in (one, two):
        daemon.environment_more["HAST_TLS_RECORDS"] = "20"
    middle = with_somebody_between(strangers)
    middle.hurt = hurt
    io(one, "write -P 1 0 4M", "flush")
    wait_for(lambda: "Disconnected from the peer" in one.log() or one.status()["status"] == "degraded", "the loss", 30)
    middle.hurt = lambda data, _towards: data
    strangers.wait_complete()
    first_image, second_image = strangers.images()
    assert first_image == second_image
    assert b"disk1" not in middle.passed, "nothing of it can be read"
    middle.close()


TLS_1_3, TLS_1_2 = b"\x00\x2b\x00\x03\x02\x03\x04", b"\x00\x2b\x00\x03\x02\x03\x03"
"""What a side that opens a session says of the versions it speaks: only the one."""


@pytest.mark.slow
def test_who_asks_for_less_on_its_behalf_keeps_the_link_down_and_gets_nothing(strangers: Pair) -> None:
    """There is no version before TLS 1.3 to fall back on, nor plain text."""
    one, _two = strangers.both
    middle = with_somebody_between(strangers)
    asked = []

    def downgrade(data: bytes, towards_secondary: bool) -> bytes:
        asked.extend([towards_secondary] * data.count(TLS_1_3))
        return data.replace(TLS_1_3, TLS_1_2)

    middle.hurt = downgrade
    middle.is_pulled = True
    wait_for(lambda: one.status()["status"] == "degraded", "the loss", 30)
    middle.passed.clear()
    middle.is_pulled = False
    wait_for(lambda: len(asked) >= 3, "attempts", 30)
    assert one.status()["status"] == "degraded"
    middle.hurt = lambda data, _towards: data
    strangers.wait_complete()
    assert b"disk1" not in middle.passed
    middle.close()


def test_tls_off_is_said_by_log_and_status(strangers: Pair) -> None:
    one, two = strangers.both
    configure(one, two.port, ["ab" * 32], ["cd" * 32], "tls off")
    assert one.hastctl("create", "disk1").returncode == 0
    one.start()
    assert "disk1: no TLS with the other node" in one.log()
    assert one.status()["tls"] == "off"
    assert "  tls: off" in one.hastctl("status").stdout.splitlines()
