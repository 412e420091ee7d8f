"""Two hosts with keys, under load and faults, and strangers that have the other host's address."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

import pytest

from hast.lab import Host, Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device]

FIO = (
    "fio --name=load --filename=/dev/hast/disk1 --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=32"
    " --size=24m --verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based --randrepeat=0 --runtime=5"
)
STRANGER = textwrap.dedent("""
    import os, socket
    from hast.format import frame, handshake
    from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION
    hello = handshake.Hello("disk1", PROTOCOL_VERSION, int(OUR_FEATURES))
    message = b"".join(bytes(part) for part in frame.encode(1, hello.fields()))
    where = socket.getaddrinfo("hast2", 8457, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    os.setuid(65534)
    sock = socket.create_connection(where, timeout=5)
    sock.sendall(message)
    print("heard", len(sock.recv(65536)))
""")


@pytest.fixture
def lab() -> Iterator[Lab]:
    if shutil.which("fio") is None:
        pytest.skip("needs fio")
    with Lab(configuration=one_disk.configuration("timeout 3"), disk_size_bytes=64 << 20) as lab:
        one_disk.trust(lab)
        one_disk.bring_up(lab)
        yield lab


def equal(lab: Lab) -> bool:
    one, two = one_disk.digests(lab)
    return one == two


def restart(host: Host, role: str) -> None:
    for process in host.processes("hastd"):
        process.kill()
    one_disk.start(host, role)


def test_workers_and_daemons_are_killed_under_a_secure_link_and_nothing_is_lost(lab: Lab) -> None:
    load = lab.hast1.spawn(FIO)
    lab.hast1.wait_for("fio", lambda: bool(lab.hast1.processes("^fio ")), 10)
    lab.hast1.run("sleep 0.7")
    lab.hast1.processes(r"^hastd: disk1 \(primary\)")[0].kill()
    lab.hast1.run("sleep 0.7")
    restart(lab.hast2, "secondary")
    done = load.wait(timeout_s=60)
    assert done.returncode == 0, done.stderr
    one_disk.wait_complete(lab.hast1)
    assert "  tls: on, in " in lab.hast1.run("hastctl list disk1", check=True).stdout
    assert equal(lab)


def test_a_local_user_of_the_other_host_is_no_primary(lab: Lab) -> None:
    """It has the address that hast.conf names, and nothing else."""
    lab.hast1.path("/etc/stranger.py").write_text(STRANGER)
    heard = lab.hast1.run("python3 /etc/stranger.py", check=True).stdout
    assert heard == "heard 0\n"
    assert "did not show the key" in lab.hast2.log()
    assert "status: complete" in one_disk.status(lab.hast1)


@pytest.mark.slow
def test_the_other_host_takes_over_a_secure_pair(lab: Lab) -> None:
    lab.hast1.run("dd if=/dev/urandom of=/dev/hast/disk1 bs=1M count=8 oflag=direct", check=True)
    wanted = lab.hast1.run("sha256sum /dev/hast/disk1", check=True).stdout
    for process in lab.hast1.processes("hastd"):
        process.kill()
    one_disk.set_role(lab.hast2, "primary")
    assert lab.hast2.run("sha256sum /dev/hast/disk1", check=True).stdout == wanted
    one_disk.start(lab.hast1, "secondary")
    one_disk.wait_complete(lab.hast2)
    assert equal(lab)
