"""The pool adapters against real file systems on loop devices, in mount namespaces of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hastd import FakeHastd
from namespace import Loops, run_in_namespace, sh

from hast.cli.failover import main
from hast.config.failover_model import Pool, PoolKind
from hast.failover import holders, mounts
from hast.failover.part import Context, PartError
from hast.failover.pools import zfs_fuse
from hast.failover.pools.btrfs import Btrfs
from hast.failover.pools.filesystem import Filesystem
from hast.failover.pools.zfs import ZfsPool

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for loop devices and mounts"),
]

MakeContext = Callable[..., Context]


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[Loops]:
    made = Loops(tmp_path)
    yield made
    made.close()


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def log_of(tmp_path: Path) -> list[str]:
    text = (tmp_path / "debug.log").read_text()
    return [" ".join(line.split()[4:]) for line in text.splitlines()]


def sleeper(directory: Path) -> subprocess.Popen[bytes]:
    """A process that keeps `directory` busy."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], cwd=directory
    )
    time.sleep(0.1)
    return process


def ext4(tmp_path: Path, device: str, **settings: object) -> Filesystem:
    pool = Pool("mail", PoolKind.FILESYSTEM, mount=str(tmp_path / "mail"), fs_type="ext4", **settings)  # type: ignore[arg-type]
    return Filesystem(pool, device)


def test_a_file_system_is_checked_mounted_and_unmounted(tmp_path: Path, loops: Loops, context: MakeContext) -> None:
    device = loops.make(32)
    sh("mkfs.ext4", "-q", device)

    def body() -> None:
        part = ext4(tmp_path, device, fsck=True, options="noatime,nodev")
        assert part.is_up(context()) is False
        part.up(context())
        assert part.is_up(context()) is True
        (tmp_path / "mail/file").write_text("x")
        assert "noatime" in Path("/proc/self/mounts").read_text().split(f"{device} ", 1)[1].splitlines()[0]
        part.down(context())
        assert part.is_up(context()) is False
        assert not (tmp_path / "mail/file").exists()

    run_in_namespace(body)
    assert log_of(tmp_path) == [
        f"failover: File system mail mounted on {tmp_path}/mail.",
        "failover: File system mail unmounted.",
    ]


def test_a_foreign_mount_on_the_mount_point_is_an_error(tmp_path: Path, loops: Loops, context: MakeContext) -> None:
    device = loops.make(8)
    (tmp_path / "mail").mkdir()

    def body() -> None:
        sh("mount", "-t", "tmpfs", "other", str(tmp_path / "mail"))
        with pytest.raises(PartError, match="holds other, not"):
            ext4(tmp_path, device).is_up(context())

    run_in_namespace(body)


def test_a_mount_whose_device_is_gone_is_seen_and_unmounted_also_when_busy(
    tmp_path: Path, loops: Loops, context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "GRACE_S", 0.2)
    first, second = loops.make(16), loops.make(16)
    sh("mkfs.ext4", "-q", first)
    device = tmp_path / "disk1"
    device.symlink_to(first)

    def body() -> None:
        part = ext4(tmp_path, str(device))
        part.up(context())
        assert part.ailment(context()) == ""
        (tmp_path / "loop0.img").unlink()
        device.unlink()
        device.symlink_to(second)
        assert part.is_up(context()) is True
        assert part.ailment(context()) == f"mounted, but its device {first} is gone"
        assert part.mend(context(), "") is False
        user = sleeper(tmp_path / "mail")
        try:
            part.down(context())
        finally:
            user.kill()
            user.wait()
        assert part.is_up(context()) is False

    run_in_namespace(body)
    assert any("is taken out of the tree" in line for line in log_of(tmp_path))


def test_a_file_system_that_went_read_only_is_made_anew_by_master_with_what_uses_it(
    tmp_path: Path, loops: Loops, hastd: FakeHastd
) -> None:
    hastd.backing = {"disk1": loops.make(32)}
    sh("mkfs.ext4", "-q", hastd.backing["disk1"])
    pid = tmp_path / "pid"
    conf = tmp_path / "failover.conf"
    conf.write_text(
        f"resources disk1\ncontrol {hastd.path}\n"
        f"pool mail {{ type filesystem mount {tmp_path}/mail fstype ext4 }}\n"
        f'service user {{ start "cd {tmp_path}/mail; sleep 60 >/dev/null 2>&1 & echo $! >{pid}" '
        f'stop "kill $(cat {pid}); rm {pid}" status "test -e {pid}" }}\n'
    )

    def body() -> None:
        assert main(["master", "-c", str(conf)]) == 0
        user = pid.read_text()
        sh("mount", "-o", "remount,ro", "-n", str(tmp_path / "mail"))
        assert main(["status", "-c", str(conf)]) == 1
        assert main(["master", "-c", str(conf)]) == 0
        (tmp_path / "mail/file").write_text("written")
        assert pid.read_text() != user
        assert main(["status", "-c", str(conf)]) == 0
        assert main(["slave", "-c", str(conf)]) == 0

    run_in_namespace(body)
    assert any("pool mail: mounted, but read-only" in line for line in log_of(tmp_path))


def test_mounts_below_are_unmounted_first(tmp_path: Path, loops: Loops, context: MakeContext) -> None:
    device = loops.make(16)
    sh("mkfs.ext4", "-q", device)

    def body() -> None:
        part = ext4(tmp_path, device)
        part.up(context())
        (tmp_path / "mail/sub").mkdir()
        sh("mount", "-t", "tmpfs", "below", str(tmp_path / "mail/sub"))
        part.down(context())
        assert part.is_up(context()) is False

    run_in_namespace(body)


def test_a_busy_file_system_fails_with_the_names_of_those_who_use_it(
    tmp_path: Path, loops: Loops, context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "GRACE_S", 0.2)
    device = loops.make(16)
    sh("mkfs.ext4", "-q", device)

    def body() -> None:
        part = ext4(tmp_path, device)
        part.up(context())
        user = sleeper(tmp_path / "mail")
        try:
            with pytest.raises(PartError, match=rf"python[\d.]*\[{user.pid}\] \(working directory {tmp_path}/mail\)"):
                part.down(context())
            assert user.poll() is None
        finally:
            user.kill()
            user.wait()

    run_in_namespace(body)


def test_with_kill_configured_the_users_are_ended_after_their_time(
    tmp_path: Path, loops: Loops, context: MakeContext
) -> None:
    device = loops.make(16)
    sh("mkfs.ext4", "-q", device)

    def body() -> None:
        part = ext4(tmp_path, device, kill_after_s=0.5)
        part.up(context())
        user = sleeper(tmp_path / "mail")
        started = time.monotonic()
        part.down(context())
        assert 0.4 < time.monotonic() - started < 5
        assert user.wait(5) == -signal.SIGTERM
        assert part.is_up(context()) is False

    run_in_namespace(body)
    assert any("Sending SIGTERM to python" in line for line in log_of(tmp_path))


def test_a_damaged_file_system_is_not_mounted_when_it_is_to_be_checked(
    tmp_path: Path, loops: Loops, context: MakeContext
) -> None:
    device = loops.make(16)

    def body() -> None:
        with pytest.raises(PartError, match="fsck of"):
            ext4(tmp_path, device, fsck=True).up(context())

    run_in_namespace(body)


def test_a_btrfs_of_two_devices(tmp_path: Path, loops: Loops, context: MakeContext) -> None:
    need("mkfs.btrfs")
    devices = [loops.make(128), loops.make(128)]
    sh("mkfs.btrfs", "-q", "-f", "-d", "raid1", "-m", "raid1", *devices)

    def body() -> None:
        part = Btrfs(Pool("data", PoolKind.BTRFS, mount=str(tmp_path / "data")), devices)
        assert part.is_up(context()) is False
        part.up(context())
        assert part.is_up(context()) is True
        part.down(context())
        assert part.is_up(context()) is False
        part.up(context())
        part.down(context())

    run_in_namespace(body)


def with_zfs_fuse(tmp_path: Path, body: Callable[[], None]) -> Callable[[], None]:
    """`body` beside a zfs-fuse of its own."""

    def run() -> None:
        for directory in ("/run/zfs", "/var/lock/zfs", "/var/lib/zfs"):
            Path(directory).resolve().mkdir(parents=True, exist_ok=True)
            sh("mount", "-t", "tmpfs", "zfs-test", directory)
        hostid = tmp_path / "hostid"
        hostid.write_bytes(b"\x01\x02\x03\x04")
        Path("/etc/hostid").touch()
        sh("mount", "--bind", str(hostid), "/etc/hostid")
        daemon = subprocess.Popen(
            ["zfs-fuse", "--no-daemon", "--no-kstat-mount"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + 15
            while subprocess.run(["zpool", "list"], capture_output=True, check=False).returncode:
                assert time.monotonic() < until
                time.sleep(0.05)
            body()
        finally:
            subprocess.run(["zpool", "export", "-f", POOL], capture_output=True, check=False)
            daemon.terminate()
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(5)

    return run


POOL = f"zhast{os.getpid()}"


def make_pool(tmp_path: Path, devices: list[str]) -> None:
    sh("zpool", "create", "-m", str(tmp_path / "pool"), POOL, "raidz1", *devices)


def linked(directory: Path, loops: Loops) -> list[str]:
    """disk1 to disk3 in `directory` as links to loop devices."""
    directory.mkdir(exist_ok=True)
    for number in (1, 2, 3):
        (directory / f"disk{number}").symlink_to(loops.make(96))
    return [str(directory / f"disk{number}") for number in (1, 2, 3)]


def test_a_zfs_pool_is_imported_by_force_and_exported(tmp_path: Path, loops: Loops, context: MakeContext) -> None:
    need("zfs-fuse", "zpool")
    devices = linked(tmp_path / "dev", loops)

    def body() -> None:
        make_pool(tmp_path, devices)
        part = ZfsPool(Pool(POOL), str(tmp_path / "dev"))
        assert part.is_up(context()) is True
        (tmp_path / "pool/file").write_text("kept")
        assert part.ailment(context()) == ""
        sh("zpool", "offline", POOL, devices[0])
        assert part.ailment(context()) == f"imported, but DEGRADED; see zpool status {POOL}"
        sh("zpool", "online", POOL, devices[0])
        part.down(context())
        assert part.is_up(context()) is False
        part.up(context())
        assert (tmp_path / "pool/file").read_text() == "kept"
        user = sleeper(tmp_path / "pool")
        try:
            ZfsPool(Pool(POOL, kill_after_s=0.3), str(tmp_path / "dev")).down(context())
        finally:
            user.kill()
            user.wait()
        with pytest.raises(PartError, match="nosuch failed"):
            ZfsPool(Pool("nosuch"), str(tmp_path / "dev")).up(context())

    run_in_namespace(with_zfs_fuse(tmp_path, body))
    lines = log_of(tmp_path)
    assert lines[:3] == [
        f"hast: ZFS pool for resource {POOL} exported.",
        "failover: Importing Pool",
        f"hast: ZFS pool for resource {POOL} imported.",
    ]
    assert lines[-1].startswith("hast: ZFS pool import for resource nosuch failed: ")


def test_a_zfs_fuse_that_is_killed_leaves_no_pid_file_that_keeps_the_next_from_starting(
    tmp_path: Path, context: MakeContext
) -> None:
    need("zfs-fuse", "zpool")
    pid_file = tmp_path / "zfs-fuse.pid"

    def body() -> None:
        for directory in ("/run/zfs", "/var/lock/zfs", "/var/lib/zfs"):
            Path(directory).resolve().mkdir(parents=True, exist_ok=True)
            sh("mount", "-t", "tmpfs", "zfs-test", directory)
        sh("zfs-fuse", "--no-kstat-mount", "--pidfile", str(pid_file))
        first = zfs_fuse.find()
        assert first is not None
        try:
            zfs_fuse.restart(context(), first)
            limit_s = time.monotonic() + 5.0
            while (second := zfs_fuse.find()) != int(pid_file.read_text()):  # it forks before it writes the file
                assert time.monotonic() < limit_s, f"process {second} runs, the file says {pid_file.read_text()}"
                time.sleep(0.05)
            assert second not in (None, first)
        finally:
            if left := zfs_fuse.find():
                os.kill(left, signal.SIGTERM)

    run_in_namespace(body)
    assert "cannot be started again" not in "".join(log_of(tmp_path))


def test_without_zfs_there_is_no_pool_and_the_import_says_why(tmp_path: Path, context: MakeContext) -> None:
    need("zpool")

    def body() -> None:
        for directory in ("/run/zfs", "/var/lock/zfs", "/var/lib/zfs"):
            Path(directory).resolve().mkdir(parents=True, exist_ok=True)
            sh("mount", "-t", "tmpfs", "zfs-test", directory)
        part = ZfsPool(Pool("zhast"), str(tmp_path))
        assert part.is_up(context()) is False
        with pytest.raises(PartError, match="ZFS pool import for resource zhast failed"):
            part.up(context())

    run_in_namespace(body)


def test_the_articles_failover_with_a_raidz1_pool(tmp_path: Path, loops: Loops, hastd: FakeHastd) -> None:
    need("zfs-fuse", "zpool")
    conf = tmp_path / "failover.conf"
    conf.write_text(f"resources disk1 disk2 disk3\ncontrol {hastd.path}\npool {POOL} {{ kill 1 }}\n")
    hastd.backing = {f"disk{number}": loops.make(96) for number in (1, 2, 3)}

    def body() -> None:
        make_pool(tmp_path, [hastd.backing[f"disk{number}"] for number in (1, 2, 3)])
        (tmp_path / "pool/file").write_text("kept")
        sh("zpool", "export", POOL)
        for _round in range(2):
            started = time.monotonic()
            assert main(["master", "-c", str(conf)]) == 0
            print("master", time.monotonic() - started)
            assert (tmp_path / "pool/file").read_text() == "kept"
            assert main(["slave", "-c", str(conf)]) == 0
            assert not (tmp_path / "pool/file").exists()

    run_in_namespace(with_zfs_fuse(tmp_path, body))
    half = log_of(tmp_path)[: len(log_of(tmp_path)) // 2]
    assert half[:6] == [
        "failover: Switching to primary provider for disk1 disk2 disk3.",
        "failover: Role for HAST resources disk1 disk2 disk3 switched to primary.",
        "failover: Importing Pool",
        f"hast: ZFS pool for resource {POOL} imported.",
        "failover: Switching to secondary provider for disk1 disk2 disk3.",
        f"hast: ZFS pool for resource {POOL} exported.",
    ]
    assert sorted(half[6:]) == [f"failover: Role switched to secondary for resource disk{n}." for n in (1, 2, 3)]


def test_the_mount_table_is_read_with_its_escapes(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue\nshort\n")
    assert mounts.table(str(table)) == [
        mounts.Mount("/dev/root", "/mnt/a b", "ext3", "98:0", frozenset({"rw", "noatime", "errors=continue"}))
    ]
