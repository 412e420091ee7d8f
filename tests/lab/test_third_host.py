"""A third host on the cable takes the other host's address and speaks HAST: what it gets without keys and with them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow]

TAKEN = "192.168.100.100"
THIEF = textwrap.dedent("""
    import socket, struct, time
    from hast.format import frame, handshake
    from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION

    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind(("repl", 0))
    mac, ip = raw.getsockname()[4], socket.inet_aton("192.168.100.100")
    for _ in range(3):
        arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\\xff" * 6 + ip
        raw.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + arp)
        time.sleep(0.05)
    hello = handshake.Hello("disk1", PROTOCOL_VERSION, int(OUR_FEATURES))
    sock = socket.create_connection(("192.168.100.101", 8457), 5, source_address=("192.168.100.100", 0))
    sock.sendall(b"".join(bytes(part) for part in frame.encode(1, hello.fields())))
    print("heard", len(sock.recv(65536)))
""")


@pytest.fixture
def lab() -> Iterator[Lab]:
    configuration = one_disk.configuration("timeout 3")
    with Lab(hosts=("hast1", "hast2", "third"), configuration=configuration, disk_size_bytes=32 << 20) as lab:
        one_disk.bring_up(lab)
        yield lab


def steal(lab: Lab) -> str:
    """What the third host hears from hast2 as hast1; the address is hast1's again afterwards."""
    third = lab.third
    third.path("/etc/thief.py").write_text(THIEF)
    third.run(f"ip addr add {TAKEN}/24 dev repl", check=True)
    try:
        done = third.run("python3 /etc/thief.py", timeout_s=30)
        assert done.returncode == 0, done.stderr
    finally:
        third.run(f"ip addr del {TAKEN}/24 dev repl", check=True)
        for host in (lab.hast1, lab.hast2):
            host.run("ip neigh flush all", check=True)
    return done.stdout.strip()


def secured(host: Host) -> bool:
    return "  tls: on" in host.run("hastctl list disk1", check=True).stdout


def test_who_takes_the_other_hosts_address_is_believed_without_keys_and_refused_with_them(lab: Lab) -> None:
    assert steal(lab).split()[1] != "0", "docs/security.md says that without keys whoever has the address is the peer"
    one_disk.trust(lab)
    for host in (lab.hast1, lab.hast2):
        host.run("hastctl reload", check=True)
    lab.hast1.wait_for("a secure link", lambda: secured(lab.hast1), 30)
    one_disk.wait_complete(lab.hast1)
    lab.hast1.run("dd if=/dev/urandom of=/dev/hast/disk1 bs=1M count=4 oflag=direct", check=True)
    assert steal(lab) == "heard 0"
    assert "did not show the key" in lab.hast2.log()
    lab.hast1.run("dd if=/dev/urandom of=/dev/hast/disk1 bs=1M count=4 seek=4 oflag=direct", check=True)
    one_disk.wait_complete(lab.hast1)
    one, two = one_disk.digests(lab)
    assert one == two
