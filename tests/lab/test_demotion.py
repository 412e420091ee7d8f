"""A device in use is not taken away unless --force says so, and then no process of anybody's stays unkillable."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hanging_disk import HangingDisk

from hast.lab import Host, Lab, Running, loops, one_disk, zfs

pytestmark = [pytest.mark.lab, pytest.mark.device]

DEVICE = "/dev/hast/disk1"
OPENER = f"import time; file = open({DEVICE!r}, 'rb'); print('open', flush=True); time.sleep(600)"
USER = """
import mmap, os, sys
block, number = mmap.mmap(-1, 4096), 0
file = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
while True:
    os.pwritev(file, [block], number % 1024 * 4096)
    number += 1
    if number == 20:
        print("writes", flush=True)
"""
FORCED_S = 60.0


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(configuration=one_disk.configuration("timeout 3"), disk_size_bytes=160 << 20) as lab:
        one_disk.bring_up(lab)
        yield lab


def by_process(host: Host) -> Callable[[], object]:
    opener = host.spawn([sys.executable, "-c", OPENER])
    host.wait_for("an open device", lambda: "open" in opener.output(), 10)
    return opener.kill


def by_mount(host: Host) -> Callable[[], object]:
    host.run(f"mkfs.ext4 -q {DEVICE}", check=True)
    host.run(f"mount {DEVICE} /mnt", check=True)
    return lambda: host.run("umount /mnt", check=True)


def by_loop(host: Host) -> Callable[[], object]:
    loop = host.run(f"losetup --find --show {DEVICE}", check=True).stdout.strip()
    return lambda: host.run(f"losetup --detach {loop}", check=True)


def by_pool(host: Host) -> Callable[[], object]:
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    zfs.start(host)
    host.run(f"zpool create zhast {DEVICE}", check=True, timeout_s=60)
    return lambda: (host.run("zpool export zhast", check=True, timeout_s=60), zfs.stop(host))


@pytest.mark.parametrize(
    ("hold", "named"), [(by_process, "python"), (by_mount, "mounted on /mnt"), (by_loop, "loop"), (by_pool, "zfs-fuse")]
)
def test_role_secondary_is_refused_by_who_holds_the_device_and_serves_on(
    lab: Lab, hold: Callable[[Host], Callable[[], object]], named: str
) -> None:
    let_go = hold(lab.hast1)
    done = lab.hast1.run("hastctl role secondary disk1")
    assert done.returncode == 69, done
    assert f"disk1 is open by {named}" in done.stderr
    assert "--force" in done.stderr
    assert "role: primary" in one_disk.status(lab.hast1)
    lab.hast1.run(f"dd if={DEVICE} of=/dev/null bs=4k count=1 iflag=direct", check=True)
    let_go()
    one_disk.set_role(lab.hast1, "secondary")


def test_a_user_who_lets_go_within_the_deadline_is_waited_for(lab: Lab) -> None:
    let_go = by_process(lab.hast1)
    order = lab.hast1.spawn("hastctl role secondary disk1")
    time.sleep(1.0)
    assert order.poll() is None
    let_go()
    done = order.wait(60)
    assert done.returncode == 0, done.stderr


def stopped_worker(lab: Lab) -> None:
    lab.hast1.processes(r"^hastd: disk1 \(primary\)")[0].kill(signal.SIGSTOP)


def dead_peer(lab: Lab) -> None:
    lab.hast2.power_off()


def dead_disk(lab: Lab) -> None:
    lab.fail_disk("hast1", "ad1")


def dead_disk_and_peer(lab: Lab) -> None:
    lab.hast2.power_off()
    lab.fail_disk("hast1", "ad1")


@pytest.mark.parametrize("trouble", [None, stopped_worker, dead_peer, dead_disk, dead_disk_and_peer])
@pytest.mark.parametrize("where", ["device", "mount", "loop"])
@pytest.mark.slow
def test_by_force_users_get_errors_and_everybody_can_be_killed(
    lab: Lab, where: str, trouble: Callable[[Lab], None] | None
) -> None:
    host = lab.hast1
    path = DEVICE
    if where == "mount":
        by_mount(host)
        path = "/mnt/file"
        host.run(f"dd if=/dev/zero of={path} bs=1M count=8 conv=fsync", check=True)
    elif where == "loop":
        path = host.run(f"losetup --find --show {DEVICE}", check=True).stdout.strip()
    users = [writing(host, path) for _ in range(2)]
    if trouble is not None:
        trouble(lab)
    time.sleep(1.0)
    done = host.run("hastctl role secondary --force disk1", timeout_s=FORCED_S)
    print(where, trouble, done.returncode, done.stderr)
    for user in users:
        user.kill()
    host.wait_for("the end of the users", lambda: all(user.poll() is not None for user in users), 15)
    if where == "mount":
        host.run("umount -l /mnt", check=True, timeout_s=20)
    elif where == "loop":
        host.run(f"losetup --detach {path}", check=True, timeout_s=20)
    assert done.returncode == 0 or "stuck" in done.stderr or trouble is not None, done.stderr
    assert "role: primary" not in one_disk.status(host)
    assert not asleep(host), "somebody is left unkillable"


def writing(host: Host, path: str) -> Running:
    user = host.spawn([sys.executable, "-c", USER, path])
    host.wait_for("writes", lambda: "writes" in user.output(), 20)
    return user


def asleep(host: Host) -> list[str]:
    """Processes that sleep uninterruptibly, twice in a row."""

    def look() -> set[str]:
        states = {}
        for process in host.processes():
            try:
                states[f"{process.pid} {process.title}"] = Path(f"/proc/{process.pid}/stat").read_text()
            except OSError:
                continue
        return {name for name, text in states.items() if text.rpartition(")")[2].split()[0] == "D"}

    first = look()
    time.sleep(1.0)
    return sorted(first & look())


@pytest.mark.slow
@pytest.mark.parametrize("peer_dies", [False, True], ids=["peer", "no peer"])
def test_by_force_over_a_sparse_provider_whose_file_system_is_full(peer_dies: bool) -> None:
    configuration = one_disk.configuration("timeout 3").replace("local /dev/ad1", "local /small/disk", 1)
    with Lab(configuration=configuration, disk_size_bytes=64 << 20) as lab:
        host = lab.hast1
        host.run("mkdir -p /small", check=True)
        host.run("mount -t tmpfs -o size=24m small /small", check=True)
        host.run("truncate -s 64M /small/disk", check=True)
        one_disk.bring_up(lab)
        host.run(["sh", "-c", "dd if=/dev/zero of=/small/ballast bs=1M; truncate -s -1M /small/ballast"], check=False)
        users = [writing(host, DEVICE) for _ in range(2)]
        host.wait_for("a full disk", lambda: os.statvfs(host.path("/small")).f_bavail == 0, 30)
        time.sleep(1.0)
        print(one_disk.status(host))
        if peer_dies:
            dead_peer(lab)
            time.sleep(1.0)
        demoted_by_force(host, users)


@pytest.mark.slow
def test_by_force_while_the_file_system_of_the_records_is_full(lab: Lab) -> None:
    host = lab.hast1
    users = [writing(host, DEVICE) for _ in range(2)]
    filled = "mount -o remount,size=4m /run && ! dd if=/dev/zero of=/run/ballast bs=4k"
    host.run(["sh", "-c", filled], check=True)
    demoted_by_force(host, users)


def demoted_by_force(host: Host, users: list[Running]) -> None:
    done = host.run("hastctl role secondary --force disk1", timeout_s=FORCED_S)
    print(done.returncode, done.stderr)
    assert "role: primary" not in one_disk.status(host)
    for user in users:
        user.kill()
    host.wait_for("the end of the users", lambda: all(user.poll() is not None for user in users), 15)
    assert not asleep(host), "somebody is left unkillable"


@pytest.mark.slow
@pytest.mark.parametrize("provider_s", [3, 300], ids=["given up", "not given up"])
def test_by_force_over_a_provider_that_hangs(tmp_path: Path, provider_s: int) -> None:
    """The worker's threads sleep in the disk and cannot be ended; everybody else can."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    configuration = one_disk.configuration("timeout 3", f"disk-timeout {provider_s}")
    configuration = configuration.replace("local /dev/ad1", "local /dev/slow", 1)
    with closing(HangingDisk(tmp_path / "disk", image)) as disk:
        node, number = loops.attach(disk.path)
        try:
            with Lab(configuration=configuration, disk_size_bytes=64 << 20) as lab:
                lab.hast1.run(f"mknod /dev/slow b {os.major(number)} {os.minor(number)}", check=True)
                one_disk.bring_up(lab)
                users = [writing(lab.hast1, DEVICE) for _ in range(2)]
                disk.hang()
                time.sleep(1.0)
                done = lab.hast1.run("hastctl role secondary --force disk1", timeout_s=FORCED_S)
                print(provider_s, done.returncode, done.stderr)
                assert "role: primary" not in one_disk.status(lab.hast1)
                for user in users:
                    user.kill()
                try:
                    lab.hast1.wait_for("their end", lambda: all(user.poll() is not None for user in users), 15)
                    assert all("hastd: disk1" in each for each in asleep(lab.hast1))
                finally:
                    disk.answer()
        finally:
            disk.answer()
            loops.detach(node)
