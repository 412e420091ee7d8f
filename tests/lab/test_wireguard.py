"""The recipe of docs/security.md for peers without TLS, as it stands there: HAST through WireGuard."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow]

MARKER = "this-is-what-clients-write-"
CONFIGURATION = """\
on hast1 {
    listen 10.77.0.1
}
on hast2 {
    listen 10.77.0.2
}
resource disk1 {
    tls off
    timeout 5
    local /dev/ad1
    on hast1 { remote 10.77.0.2 }
    on hast2 { remote 10.77.0.1 }
}
"""
LISTENER = textwrap.dedent("""
    import socket, sys, time
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind((sys.argv[1], 0))
    raw.settimeout(0.2)
    print("listening", flush=True)
    heard, until, seen = 0, time.monotonic() + 4, False
    while time.monotonic() < until:
        try:
            packet = raw.recv(1 << 17)
        except TimeoutError:
            continue
        heard += len(packet)
        seen = seen or sys.argv[2].encode() in packet
    print(heard > 200000, seen)
""")


def recipe() -> str:
    """The commands of hast1."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    found = re.search(r"```\n(cd /etc/wireguard .*?)```", text, re.DOTALL)
    assert found, "the recipe is no longer there"
    return found[1]


def tunnel(host: Host, here: int, there: int, address: str, public_key: str) -> None:
    commands = recipe()
    for written, meant in (
        ("10.77.0.1/30", f"10.77.0.{here}/30"),
        ("10.77.0.2/32", f"10.77.0.{there}/32"),
        ("192.168.100.101:51820", f"{address}:51820"),
        ("<what hast2 printed>", public_key),
        ("wg genkey | tee key | wg pubkey", ":"),
        ("systemctl enable --now wg-quick@wg0", "wg-quick up wg0"),  # there is no systemd here
    ):
        assert written in commands, written
        commands = commands.replace(written, meant)
    host.run(["sh", "-ec", commands], check=True)


@pytest.fixture
def lab() -> Iterator[Lab]:
    for program in ("wireguard-go", "wg-quick"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    with Lab(configuration=CONFIGURATION, disk_size_bytes=32 << 20) as lab:
        keys = {}
        for host in (lab.hast1, lab.hast2):
            host.run("mount -t tmpfs own /etc/wireguard", check=True)
            making = "cd /etc/wireguard; umask 077; wg genkey | tee key | wg pubkey"
            keys[host.name] = host.run(["sh", "-ec", making], check=True).stdout.strip()
        tunnel(lab.hast1, 1, 2, "192.168.100.101", keys["hast2"])
        tunnel(lab.hast2, 2, 1, "192.168.100.100", keys["hast1"])
        one_disk.bring_up(lab)
        yield lab


def heard(host: Host, device: str, lab: Lab) -> str:
    """Whether so much passed on this device while a client wrote, and whether what it wrote could be read there."""
    host.path("/etc/listener.py").write_text(LISTENER)
    listening = host.spawn(["python3", "-u", "/etc/listener.py", device, MARKER])
    host.run("sleep 1")
    write = f"yes {MARKER} | dd of=/dev/hast/disk1 bs=4k count=256 iflag=fullblock oflag=direct conv=notrunc"
    lab.hast1.run(["sh", "-ec", write], check=True)
    done = listening.wait(timeout_s=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_nothing_that_clients_write_can_be_read_on_the_cable(lab: Lab) -> None:
    assert heard(lab.hast2, "wg0", lab) == "True True", "the listener hears what is not hidden"
    assert heard(lab.hast2, "repl", lab) == "True False"
    check = lab.hast1.run("hastctl check").stdout
    assert "open" not in check, check
    connect = "import socket; socket.create_connection(('192.168.100.101', 8457), 3)"
    refused = lab.hast1.run(["python3", "-c", connect])
    assert "ConnectionRefusedError" in refused.stderr, "nobody reaches hastd beside the tunnel"
    one_disk.wait_complete(lab.hast1)
    one, two = one_disk.digests(lab)
    assert one == two
