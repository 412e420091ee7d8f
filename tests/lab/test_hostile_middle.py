"""A third host takes the traffic of the pair's own network and does as it likes with it: both nodes have keys.

It answers for both addresses (forged ARP), so what the nodes send each other arrives there; it passes that on as the
other node. docs/security.md promises: it can read nothing and change nothing, and the pair is whole again when it goes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device]

MARKER = "this-is-what-clients-write-"
MIDDLE = textwrap.dedent("""
    import pathlib, select, socket, struct, subprocess, threading, time
    ADDRESSES = ("192.168.100.100", "192.168.100.101")
    REDIRECT = '''
    table ip middle {
        chain to_me {
            type nat hook prerouting priority -100
            ip daddr 192.168.100.101 tcp dport 8457 redirect to :9000
        }
        chain as_hast1 {
            type nat hook postrouting priority 100
            ip daddr 192.168.100.101 tcp dport 8457 snat to 192.168.100.100
        }
    }'''
    subprocess.run(["nft", "-f", "-"], input=REDIRECT, text=True, check=True)
    way, seen = pathlib.Path("/etc/way"), open("/etc/seen", "ab", buffering=0)

    def hurt(data, towards_secondary, kept):
        doing = way.read_text()
        large = towards_secondary and len(data) > 4000
        if doing == "alter" and large: return data[:-1] + bytes([data[-1] ^ 1])
        if doing == "repeat" and large: return data + data
        if doing == "swallow" and large: return data[: len(data) // 2]
        if doing == "reorder" and large: return data[len(data) // 2 :] + data[: len(data) // 2]
        if doing == "cut" and large: return data[:-1]
        if doing == "downgrade": return data.replace(bytes.fromhex("002b0003020304"), bytes.fromhex("002b0003020303"))
        if doing == "replay" and towards_secondary: return kept or data
        return data

    first = []
    def carry(near, far):
        kept = first[0] if first and way.read_text() == "replay" else b""
        with near, far:
            while True:
                for sock in select.select([near, far], [], [])[0]:
                    data = sock.recv(65536)
                    if not data: return
                    seen.write(data)
                    if sock is near and len(first) < 1: first.append(data)
                    (far if sock is near else near).sendall(hurt(data, sock is near, kept))

    def serve():
        server = socket.create_server(("0.0.0.0", 9000))
        while True:
            near, _where = server.accept()
            try: far = socket.create_connection((ADDRESSES[1], 8457), 3)
            except OSError: near.close(); continue
            threading.Thread(target=carried, args=(near, far), daemon=True).start()

    def carried(near, far):
        try: carry(near, far)
        except OSError: pass

    threading.Thread(target=serve, daemon=True).start()
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind(("repl", 0))
    own = raw.getsockname()[4]
    def mac_of(address):
        subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True)
        (mac,) = [line.split()[3] for line in open("/proc/net/arp") if line.split()[0] == address]
        return bytes.fromhex(mac.replace(":", ""))
    macs = [mac_of(address) for address in ADDRESSES]
    while True:
        for victim, claimed in ((0, 1), (1, 0)):
            for operation in (1, 2):
                arp = struct.pack(">HHBBH", 1, 0x800, 6, 4, operation) + own + socket.inet_aton(ADDRESSES[claimed])
                arp += macs[victim] + socket.inet_aton(ADDRESSES[victim])
                raw.send(macs[victim] + own + bytes.fromhex("0806") + arp)
        time.sleep(0.2)
""")
REFUSED = "Unable to connect to the peer"
ORDINARY = ("alter", "downgrade")
REST = ("repeat", "swallow", "reorder", "cut", "replay")


@pytest.fixture
def lab() -> Iterator[Lab]:
    configuration = one_disk.configuration("timeout 5")
    with Lab(hosts=("hast1", "hast2", "third"), configuration=configuration, disk_size_bytes=16 << 20) as lab:
        one_disk.trust(lab)
        one_disk.bring_up(lab)
        yield lab


@contextmanager
def middle(lab: Lab) -> Iterator[Host]:
    """Once this yields, the link goes through it."""
    third = lab.third
    third.path("/etc/way").write_text("pass")
    third.path("/etc/seen").touch()
    third.path("/etc/middle.py").write_text(MIDDLE)
    running = third.spawn(["sh", "-c", "exec python3 /etc/middle.py 2>/etc/middle.log"])
    try:
        third.wait_for("the link to go through the middle", lambda: third.path("/etc/seen").stat().st_size > 2000, 30)
        yield third
    finally:
        for process in third.processes("middle.py"):
            process.kill()
        running.wait(timeout_s=10)
        third.run("nft delete table ip middle")


def write(host: Host, place_mib: int, count_mib: int = 2) -> None:
    text = f"yes {MARKER} | dd of=/dev/hast/disk1 bs=1M iflag=fullblock oflag=direct"
    host.run(["sh", "-c", f"{text} seek={place_mib} count={count_mib}"], check=True, timeout_s=60)


def hurts(lab: Lab, kinds: tuple[str, ...]) -> None:
    with middle(lab) as third:
        one_disk.wait_complete(lab.hast1)
        write(lab.hast1, 0)
        one_disk.wait_complete(lab.hast1)
        for place_mib, kind in enumerate(kinds, 2):
            before = lab.hast1.log().count("Disconnected from the peer")
            third.path("/etc/way").write_text(kind)
            if kind in ("downgrade", "replay"):
                lab.hast2.run("hastctl role init disk1", check=True)
                lab.hast2.run("hastctl role secondary disk1", check=True)
                lab.hast1.wait_for("a refusal", lambda: REFUSED in lab.hast1.log()[-4000:], 30)
                assert "status: degraded" in one_disk.status(lab.hast1), "nothing is spoken but TLS 1.3"
            write(lab.hast1, place_mib)
            lost = lambda before=before: lab.hast1.log().count("Disconnected from the peer") > before  # noqa: E731
            lab.hast1.wait_for(f"the loss of the link: {kind}", lost, 30)
            third.path("/etc/way").write_text("pass")
            one_disk.wait_complete(lab.hast1)
        seen = third.path("/etc/seen").read_bytes()
        assert len(seen) > 2 << 20, "what was written passed there"
        assert MARKER.encode() not in seen
        assert b"disk1" not in seen, "not even the resource's name"
    one_disk.wait_complete(lab.hast1)
    first, second = one_disk.digests(lab)
    assert first == second


def test_a_host_that_takes_both_addresses_reads_nothing_changes_nothing_and_leaves_a_whole_pair(lab: Lab) -> None:
    hurts(lab, ORDINARY)


@pytest.mark.slow
def test_nor_does_it_by_repeating_holding_back_reordering_and_replaying(lab: Lab) -> None:
    hurts(lab, REST)
