"""carpd with real sockets and real addresses, in network namespaces; ucarp as the other node."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hosts import PYTHON, VIP, VIP6, Bench, Host, config, wait_for

from hast.format.carp import Advertisement, Authenticator, encode

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
LIFETIME_S = 5.0
"""Longer than an address lives that carpd does not renew, on a host of advskew 0."""
needs_ucarp = pytest.mark.skipif(shutil.which("ucarp") is None, reason="needs ucarp")


@pytest.fixture
def two() -> Iterator[tuple[Host, Host]]:
    with Bench(2) as bench:
        yield bench.hosts[0], bench.hosts[1]


def lead(host: Host) -> None:
    """Master at once, without the three seconds of listening, and as if elected."""
    wait_for(lambda: host.state() != "INIT", 5, "the link")
    if len(host.vhid()["addresses"]) > 1:
        tentative = ("ip", "-6", "addr", "show", "dev", "pub", "tentative")
        wait_for(lambda: not host.run(*tentative), 5, "an address to advertise from")
    for order in ("master", "auto"):
        assert host.ask({"command": "state", "vhid": 1, "state": order}) == {"error": None}
    wait_for(host.has, 2, "the address")


def both(one: Host, other: Host, listened: bool = True, **options: Any) -> None:
    """`listened`: so long that the other may take over at a word, not only after a silence."""
    one.carpd(config(0, **options))
    lead(one)
    other.carpd(config(100, **options))
    wait_for(lambda: other.state() == "BACKUP" and other.vhid()["counts"]["received"], 6, "the other follows")
    if listened:
        wait_for(lambda: time.time() - other.vhid()["since"] > 3.5, 6, "the other has listened")


def ucarp(host: Host, advskew: int, *extra: str) -> subprocess.Popen[bytes]:
    for name, verb in (("up", "add"), ("down", "del")):
        script = host.directory / f"{name}.sh"
        script.write_text(f"#!/bin/sh\nip addr {verb} {VIP}/24 dev pub\n")
        script.chmod(0o755)
    return host.start(
        "ucarp", "-i", "pub", "-s", host.address, "-v", "1", "-p", "secretpw", "-a", VIP, "-b", "1", "-k", str(advskew),
        "-r", "3", "-u", str(host.directory / "up.sh"), "-d", str(host.directory / "down.sh"), "-z", "-n", *extra,
        log="ucarp.log",
    )  # fmt: skip


def send_from(host: Host, packets: list[bytes], *, ttl: int = 255, mark: str = "") -> None:
    """Send raw CARP payloads from a host to the IPv4 group."""
    code = (
        "import socket,struct,sys,json\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_RAW,112)\n"
        "s.setsockopt(0,socket.IP_MULTICAST_TTL,int(sys.argv[2]))\n"
        "s.setsockopt(0,socket.IP_MULTICAST_IF,socket.inet_aton(sys.argv[3]))\n"
        "[s.sendto(bytes.fromhex(p),('224.0.0.18',0)) for p in json.loads(sys.argv[1])]\n"
    )
    host.run(PYTHON, "-c", code, json.dumps([p.hex() for p in packets]), str(ttl), host.address)


def key(password: str = "secretpw") -> Authenticator:
    return Authenticator(password.encode(), 1, [IPv4Address(VIP)])


def test_cable_pull_moves_the_addresses_within_four_seconds_and_back_only_by_hand(
    two: tuple[Host, Host],
) -> None:
    one, other = two
    both(one, other, listened=False, v6=True)
    assert one.has(VIP6)
    one.cable(False)
    took = wait_for(lambda: other.has() and other.has(VIP6), 4.0, "take-over")
    assert took <= 4.0
    wait_for(lambda: not one.has() and one.state() == "INIT", 1.0)
    assert one.ask({"command": "status"})["demotions"] == {"link:pub": 240}
    one.cable(True)
    time.sleep(4.0)
    assert (one.state(), other.state()) == ("BACKUP", "MASTER")
    planned = other.carpctl("state", "1", "backup", "--plan")
    assert (planned.returncode, "2. take the virtual addresses away here" in planned.stdout) == (0, True)
    done = other.carpctl("state", "1", "backup")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: one.has() and not other.has(), 1.5, "the switch by hand")
    done = other.carpctl("state", "1@pub", "master")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: other.has() and not one.has(), 1.0, "the seizure by hand")


def test_an_orderly_stop_moves_the_addresses_at_once_and_leaves_nothing(two: tuple[Host, Host]) -> None:
    one, other = two
    both(one, other, v6=True)
    assert one.carpd_process is not None
    one.carpd_process.send_signal(signal.SIGTERM)
    wait_for(other.has, 1.0, "take-over after an orderly stop")
    assert other.vhid()["counts"]["replayed"] == 0
    assert one.carpd_process.wait(5) == 0
    assert not one.has()
    assert not one.has(VIP6)
    assert not (one.directory / "carpd.pid").exists()


def test_addresses_of_a_killed_carpd_are_removed_at_the_next_start_and_it_does_not_take_over(
    two: tuple[Host, Host],
) -> None:
    one, other = two
    both(one, other, v6=True)
    assert one.carpd_process is not None
    one.kill(one.carpd_process)
    one.run("ip", "addr", "replace", f"{VIP}/24", "dev", "pub", "valid_lft", "forever", "preferred_lft", "forever")
    assert one.has()
    one.carpd(config(0, v6=True))
    assert not one.has()
    assert not one.has(VIP6)
    assert "left by an earlier carpd" in one.log()
    wait_for(other.has, 5.0, "take-over")
    time.sleep(1.5)
    assert (one.state(), other.state()) == ("BACKUP", "MASTER")


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_addresses_of_a_killed_or_stuck_carpd_end_by_themselves(two: tuple[Host, Host], number: int) -> None:
    one, other = two
    both(one, other, listened=False, v6=True)
    assert one.carpd_process is not None
    one.carpd_process.send_signal(number)
    wait_for(other.has, 5.0, "take-over")
    wait_for(lambda: not one.has() and not one.has(VIP6), 3.0, "the end of the addresses")
    if number == signal.SIGSTOP:
        one.carpd_process.send_signal(signal.SIGCONT)
        wait_for(lambda: one.has() != other.has() and one.state() != other.state(), 3.0, "one master")


def test_addresses_live_on_as_long_as_carpd_does(two: tuple[Host, Host]) -> None:
    one, _other = two
    one.carpd(config(0, v6=True))
    lead(one)
    end_s = time.monotonic() + LIFETIME_S
    while time.monotonic() < end_s:
        assert one.has()
        assert one.has(VIP6)
        time.sleep(0.2)


def test_an_interface_that_comes_later_is_taken_up(two: tuple[Host, Host]) -> None:
    one, _other = two
    one.carpd(config(0).replace("interface pub", "interface later"))
    assert one.vhid()["link"] == "missing"
    assert "There is no interface later" in one.log()
    one.run("ip", "link", "add", "later", "type", "veth", "peer", "name", "end")
    one.run("ip", "link", "set", "end", "up")
    one.run("ip", "addr", "add", "10.10.10.1/24", "dev", "later")
    one.run("ip", "link", "set", "later", "up")
    wait_for(lambda: one.state() == "MASTER", 5)
    one.run("ip", "link", "del", "later")
    wait_for(lambda: one.state() == "INIT", 2)
    assert "interface: missing" in one.carpctl("status").stdout


def test_a_vhid_that_left_the_configuration_while_carpd_was_dead_leaves_no_address(
    two: tuple[Host, Host],
) -> None:
    one, _other = two
    one.carpd(config(0))
    lead(one)
    assert one.carpd_process is not None
    one.kill(one.carpd_process)
    one.carpd(config(0).replace(VIP, "10.10.10.99"))
    assert not one.has()


@pytest.mark.slow
@needs_ucarp
def test_ucarp_is_master_then_backup_then_master(two: tuple[Host, Host]) -> None:
    one, other = two
    ucarp(other, 0)
    one.carpd(config(100))
    wait_for(other.has, 8, "ucarp is master")
    wait_for(lambda: one.vhid()["counts"]["received"] >= 2, 4, "its advertisements are heard")
    assert one.state() == "BACKUP"
    assert one.vhid()["counts"]["bad_auth"] == 0
    other.cable(False)
    wait_for(one.has, 4.6, "take-over from ucarp")
    other.cable(True)
    time.sleep(2)
    wait_for(lambda: one.has() != other.has(), 3, "one of two masters yields")
    other.kill(other.processes[0], signal.SIGTERM)
    wait_for(one.has, 4.6, "take-over from a stopped ucarp")


@needs_ucarp
def test_ucarp_follows_carpd_and_takes_over_at_once_when_it_stops(two: tuple[Host, Host]) -> None:
    one, other = two
    one.carpd(config(0))
    lead(one)
    ucarp(other, 100)
    time.sleep(4.0)
    assert one.has()
    assert not other.has()
    assert one.carpd_process is not None
    one.carpd_process.send_signal(signal.SIGTERM)
    wait_for(other.has, 1.5, "ucarp takes over after goodbye")


def test_spoofed_truncated_replayed_and_foreign_advertisements_are_counted_and_ignored(
    two: tuple[Host, Host],
) -> None:
    one, other = two
    one.carpd(config(0))
    lead(one)
    good = [encode(Advertisement(1, 254, 1, 1000 + n), key()) for n in range(2)]
    send_from(other, good)
    wait_for(lambda: one.vhid()["counts"]["received"] == 2, 2)
    send_from(other, good * 2)
    send_from(other, [encode(Advertisement(1, 0, 0, n), key("wrong")) for n in range(3)])
    send_from(other, [good[0][:20], b"", b"\x21", good[0] + b"x"])
    send_from(other, [b"\x31" + good[0][1:], good[0][:7] + bytes([good[0][7] ^ 1]) + good[0][8:]])
    send_from(other, [encode(Advertisement(1, 0, 0, 5000), key())], ttl=254)
    send_from(other, [encode(Advertisement(7, 0, 0, 1), Authenticator(b"x", 7, []))])
    wait_for(lambda: one.vhid()["counts"]["bad_auth"] == 3, 2)
    wait_for(lambda: one.ask({"command": "status"})["dropped"]["pub"].get("unknown-vhid") == 1, 2)
    status = one.ask({"command": "status"})
    assert status["dropped"]["pub"] == {
        "bad-length": 4, "bad-version": 1, "bad-checksum": 1, "bad-ttl": 1, "unknown-vhid": 1,
    }  # fmt: skip
    assert status["vhids"][0]["counts"]["replayed"] == 4
    assert one.state() == "MASTER"
    assert "ignored on pub" in one.carpctl("status").stdout


def test_what_was_recorded_before_a_restart_does_not_keep_a_host_from_being_master(two: tuple[Host, Host]) -> None:
    """advskew is not signed: set to 0 a recorded advertisement is better than any."""
    one, other = two
    one.carpd(config(0))
    lead(one)
    recorded = [encode(Advertisement(1, 254, 1, 1000 + n), key()) for n in range(40)]
    send_from(other, recorded)
    wait_for(lambda: one.vhid()["counts"]["received"] >= 30, 4)
    assert one.carpd_process is not None
    one.kill(one.carpd_process)
    one.carpd(config(0))
    altered = [encode(Advertisement(1, 0, 1, 1000 + n), key()) for n in range(40)]
    for _ in range(3):
        send_from(other, altered)
    lead(one)
    assert one.vhid()["counts"]["replayed"] >= 90
    assert one.vhid()["counts"]["received"] <= 10


def test_events_come_in_both_forms_and_the_present_state_is_told_on_request(two: tuple[Host, Host]) -> None:
    one, _other = two
    one.carpd(config(0))
    lead(one)
    with one.connect() as sock:
        sock.sendall(b'{"command": "events", "current": true}\n')
        stream = sock.makefile()
        assert json.loads(stream.readline()) == {"error": None}
        present = [json.loads(stream.readline()) for _ in range(2)]
        assert [(e["system"], e["subsystem"], e["type"], e["current"]) for e in present] == [
            ("CARP", "1@pub", "MASTER", True),
            ("IFNET", "carp0", "LINK_UP", True),
        ]
        one.cable(False)
        change = [json.loads(stream.readline()) for _ in range(2)]
        assert [(e["system"], e["subsystem"], e["type"], e["current"]) for e in change] == [
            ("CARP", "1@pub", "INIT", False),
            ("IFNET", "carp0", "LINK_DOWN", False),
        ]
        assert change[0]["reason"] == "link down"


def test_a_healed_partition_leaves_one_master_that_announces_itself(two: tuple[Host, Host]) -> None:
    one, other = two
    both(one, other, listened=False)
    one.bench.partition(True)
    wait_for(other.has, 5, "two masters while parted")
    assert one.has()
    listener = subprocess.Popen(
        other.command(
            PYTHON, "-c",
            "import socket,sys\n"
            "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(0x0806)); s.bind(('pub',0))\n"
            "s.settimeout(9)\n"
            "print('ready',flush=True)\n"
            "while True:\n"
            "  f,a=s.recvfrom(2000)\n"
            f"  if f[28:32]==f[38:42]==socket.inet_aton('{VIP}') and a[2]!=4:\n"
            "    print(f[6:12].hex()); break\n",
        ),
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        one.bench.partition(False)
        wait_for(lambda: not other.has(), 2.5, "one master after healing")
        assert one.has()
        mac = listener.stdout.readline().strip()
        assert ":".join(mac[i : i + 2] for i in range(0, 12, 2)) in one.run("ip", "link", "show", "pub")
    finally:
        listener.kill()
        listener.wait(5)
        listener.stdout.close()


def test_advertisements_leave_with_the_virtual_mac_address(two: tuple[Host, Host]) -> None:
    one, other = two
    code = (
        "import socket\n"
        "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('pub',0)); s.settimeout(9)\n"
        "seen={}\n"
        "while len(seen)<2:\n"
        "  f=s.recv(2000)\n"
        "  if f[12:14]==b'\\x08\\x00' and f[23]==112: seen[4]=(f[:12].hex(),f[22])\n"
        "  if f[12:14]==b'\\x86\\xdd' and f[20]==112: seen[6]=(f[:12].hex(),f[21])\n"
        "print(seen)\n"
    )
    one.carpd(config(0, v6=True))
    lead(one)
    seen = other.run(PYTHON, "-c", code)
    assert seen.strip() == "{4: ('01005e00001200005e000101', 255), 6: ('33330000001200005e000101', 255)}"


def test_reload_keeps_what_did_not_change_and_refuses_a_bad_file(two: tuple[Host, Host]) -> None:
    one, _other = two
    process = one.carpd(config(0))
    lead(one)
    since = one.vhid()["since"]
    path = one.directory / "carp.conf"
    path.write_text("vhid 1 {")
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "Configuration not reloaded" in one.log(), 3)
    assert one.has()
    second = config(0) + config(0).replace("vhid 1", "vhid 2").replace(VIP, "10.10.10.200").replace("carp0", "carp1")
    path.write_text(second)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: one.has("10.10.10.200"), 6, "the new vhid")
    assert one.vhid()["since"] == since
    path.write_text(config(0))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: not one.has("10.10.10.200"), 3, "the vhid that left")
    assert one.has()
    assert one.vhid()["since"] == since


def reloaded(host: Host, text: str) -> None:
    (host.directory / "carp.conf").write_text(text)
    assert host.carpd_process is not None
    before = host.log().count("Configuration reloaded")
    host.carpd_process.send_signal(signal.SIGHUP)
    wait_for(lambda: host.log().count("Configuration reloaded") > before, 5)


@pytest.mark.parametrize("first", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_changed_password_and_a_changed_address_move_nothing_when_one_host_is_reloaded_after_the_other(
    two: tuple[Host, Host], first: int
) -> None:
    one, other = two
    both(one, other, listened=False)
    since, moved = one.vhid()["since"], "10.10.10.200"
    for old, new in (("secretpw", "otherpw"), (VIP, moved)):
        for host in (two[first], two[1 - first]):
            reloaded(host, (host.directory / "carp.conf").read_text().replace(old, new))
            time.sleep(3.8)
    assert one.vhid()["since"] == since
    assert [other.vhid()["counts"]["became_master"], other.state()] == [0, "BACKUP"]
    assert (one.has(moved), one.has(), other.has(moved)) == (True, False, False)
    log = one.log()
    assert "1@pub: changed: password." in log
    assert f"1@pub: changed: addresses {VIP}/24 -> {moved}/24." in log
    assert "otherpw" not in log
    one.kill(one.carpd_process)
    wait_for(lambda: other.has(moved), 8, "take-over with the new address")


def test_bad_control_input_closes_only_its_own_conversation(two: tuple[Host, Host]) -> None:
    one, _other = two
    one.carpd(config(0))
    for bad in (
        b"hello\n",
        b"[1]\n",
        b'{"command": 5}\n',
        b"x" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"[" * 50_000 + b"\n",
    ):
        with one.connect() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(bad)
            answer = sock.makefile("rb").readline()
            assert b"error" in answer
    for request, text in (
        ({"command": "dance"}, "unknown command"),
        ({"command": "state", "vhid": 9, "state": "master"}, "not configured"),
        ({"command": "state", "vhid": 1, "state": ["x"]}, "must be master, backup or auto"),
        ({"command": "demote", "amount": -1}, "amount"),
        ({"command": "demote", "amount": True}, "amount"),
    ):
        assert text in one.ask(request)["error"]
    assert one.state() in ("BACKUP", "MASTER")
    done = one.carpctl("state", "9", "master")
    assert (done.returncode, done.stderr) == (1, "carpctl: vhid 9 is not configured\n")
    assert one.carpctl("state", "x", "master").returncode == 64


def test_demotion_by_hand_gives_the_address_away_without_preempt(two: tuple[Host, Host]) -> None:
    one, other = two
    both(one, other)
    assert one.carpctl("demote").stdout == "demotion: 240\n"
    wait_for(lambda: other.has() and not one.has(), 1.5, "take-over from a demoted master")
    assert one.carpctl("undemote", "--json").stdout.strip() == '{"error": null, "demotion": 0}'
    time.sleep(1.5)
    assert other.has()


HASTD = """
import json, os, socket, sys
sys.path.insert(0, {source!r})
from hast.format import control, frame, nv
path, answer = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen(5)
while True:
    client, _ = listener.accept()
    decoder = frame.FrameDecoder(1 << 20, 0)
    while (message := decoder.next()) is None:
        decoder.feed(client.recv(min(decoder.needed, 65536)))
    json.loads(message.nv.get("json", nv.NvType.STRING))
    reply = json.dumps({{"error": None, "resources": json.load(open(answer))}})
    client.sendall(b"".join(bytes(p) for p in frame.encode(2, control.json_reply(reply))))
    client.close()
"""


def fake_hastd(host: Host, *resources: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A hastd that knows these resources, until `answer` is written anew."""
    answer(host, *resources)
    source = HASTD.format(source=str(Path(__file__).parents[2] / "src"))
    paths = str(host.directory / "hastctl"), str(host.directory / "answer")
    return host.start(sys.executable, "-c", source, *paths, log="hastd.log")


def answer(host: Host, *resources: dict[str, Any]) -> None:
    new = host.directory / "answer.new"
    new.write_text(json.dumps(resources))
    new.replace(host.directory / "answer")


def told(host: Host) -> list[str]:
    """The events of a carpd that are there when a reader comes."""
    with host.connect() as sock:
        sock.sendall(b'{"command": "events", "current": true}\n')
        sock.settimeout(0.3)
        received = b""
        with contextlib.suppress(TimeoutError):
            while block := sock.recv(65536):
                received += block
    return [each["type"] for each in map(json.loads, received.splitlines()[1:])]


PRIMARY = {"name": "disk1", "role": "primary", "connected": True}
SECONDARY = {"name": "disk1", "role": "secondary", "connected": True}


@pytest.mark.parametrize("serving", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_carpd_adopts_the_roles_that_it_finds_and_says_nothing_before(two: tuple[Host, Host], serving: int) -> None:
    one, other = two[serving], two[1 - serving]
    fake_hastd(other, SECONDARY)
    skews = {two[0]: 0, two[1]: 100}
    for host in (other, one):
        host.carpd(config(skews[host], extra="resource disk1\n"))
    time.sleep(4.5)
    assert (told(one), told(other)) == ([], ["BACKUP", "LINK_DOWN"])
    assert "the other host serves the data" in other.carpctl("status").stdout
    assert not other.has()
    assert "roles stay as they are: the state of the data is not known yet" in one.carpctl("status").stdout
    fake_hastd(one, PRIMARY)
    wait_for(one.has, 4.0, "the address on the host that serves")
    time.sleep(1.5)
    assert (told(one), told(other)) == (["MASTER", "LINK_UP"], ["BACKUP", "LINK_DOWN"])
    assert "carp0: MASTER" not in other.log()


def test_a_master_told_to_keep_the_address_ends_without_goodbye_and_its_successor_goes_on(
    two: tuple[Host, Host],
) -> None:
    one, other = two
    for host, copy in ((one, PRIMARY), (other, SECONDARY)):
        fake_hastd(host, copy)
    both(one, other, listened=False, extra="resource disk1\n")
    since = other.vhid()["since"]
    assert one.ask({"command": "keep"}) == {"error": None}
    assert one.carpd_process is not None
    one.carpd_process.send_signal(signal.SIGTERM)
    assert one.carpd_process.wait(10) == 0
    assert one.has(VIP)
    one.carpd(config(0, extra="resource disk1\n"))
    wait_for(lambda: one.state() == "MASTER" and one.has(VIP), 2, f"adoption {one.log()}")
    time.sleep(4)
    assert (one.state(), other.state(), other.vhid()["since"]) == ("MASTER", "BACKUP", since)


def test_a_master_that_leaves_hands_the_address_over_and_is_there_when_the_other_dies(two: tuple[Host, Host]) -> None:
    one, other = two
    both(one, other)
    assert "number of seconds" in one.ask({"command": "leave", "seconds": "long"})["error"]
    assert one.ask({"command": "leave", "seconds": 10}) == {"error": None}
    wait_for(lambda: other.has(VIP) and not one.has(VIP), 1, "the hand-over")
    assert other.carpd_process is not None
    time.sleep(2)
    assert one.state() == "BACKUP"
    other.carpd_process.kill()
    wait_for(lambda: one.has(VIP), 8, "take-over from the one that died")


def test_one_more_resource_in_the_configuration_moves_no_address(two: tuple[Host, Host]) -> None:
    one, other = two
    more = {"name": "disk2"}
    fake_hastd(one, PRIMARY, PRIMARY | more)
    fake_hastd(other, SECONDARY, SECONDARY | more)
    for host, skew in ((one, 0), (other, 100)):
        host.carpd(config(skew, extra="resource disk1\n"))
    wait_for(lambda: one.has() and other.state() == "BACKUP", 6)
    for host, skew in ((one, 0), (other, 100)):
        (host.directory / "carp.conf").write_text(config(skew, extra="resource disk1 resource disk2\n"))
        assert host.carpd_process is not None
        host.carpd_process.send_signal(signal.SIGHUP)
    wait_for(lambda: other.vhid()["resources"] == ["disk1", "disk2"], 3)
    time.sleep(2)
    assert one.has()
    assert other.vhid()["counts"]["became_master"] == 0
    assert one.vhid()["counts"]["became_master"] == 1
    answer(one, PRIMARY, PRIMARY | more | {"stale": True})
    wait_for(lambda: one.vhid()["data"] == "disk2 stale", 7)


def test_a_host_whose_copy_is_inconsistent_waits_and_one_that_loses_hastd_gives_way(
    two: tuple[Host, Host],
) -> None:
    one, other = two
    serving = fake_hastd(one, {"name": "disk1", "role": "init"})
    fake_hastd(other, {"name": "disk1", "role": "secondary", "inconsistent": True})
    one.carpd(config(100, extra="resource disk1\n"))
    other.carpd(config(0, extra="resource disk1\n"))
    wait_for(one.has, 6, "the host with the better copy")
    answer(one, PRIMARY)
    wait_for(lambda: one.vhid()["effective_advskew"] == 100, 3)
    assert "inconsistent" in other.vhid()["data"]
    answer(other, {"name": "disk1", "role": "secondary", "status": "-"})
    wait_for(lambda: "disconnected" in other.vhid()["data"], 3)
    assert other.state() == "BACKUP"
    one.kill(serving)
    took = wait_for(lambda: other.has() and not one.has(), 9, "take-over from a host without hastd")
    assert took >= 3


def test_check_and_start_errors_are_one_line_with_the_right_exit_code(tmp_path: Path) -> None:
    def carpd(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "hast.cli.carpd", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "HAST_RUN": str(tmp_path)},
        )

    path = tmp_path / "carp.conf"
    path.write_text(config(0))
    done = carpd("-t", "-c", str(path))
    assert (done.returncode, done.stdout) == (0, f"{path}: good, 1 vhid on this host\n")
    path.write_text("vhid 300 {}")
    done = carpd("-t", "-c", str(path))
    assert done.returncode == 78
    assert done.stderr.startswith("carpd: ")
    assert done.stderr.count("\n") == 1
    assert carpd("-t", "-c", str(tmp_path / "none")).returncode == 72
    assert carpd("--bad").returncode == 64
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "carpd.sock"))
        sock.listen()
        path.write_text(config(0))
        done = carpd("-F", "-c", str(path), "-P", str(tmp_path / "pid"))
        assert done.returncode not in (0, 1)
        assert done.stderr.count("\n") == 1
    done = subprocess.run(
        [PYTHON, "-m", "hast.cli.carpctl", "-s", str(tmp_path / "nothing"), "status"], capture_output=True, text=True
    )
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
