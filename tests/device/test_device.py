"""Devices on the real /dev/fuse and loop driver: attach, replace workers, demote under users, clean up after a kill."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from hast.config.model import Device
from hast.daemon import paths
from hast.device import attach_fuse, device, device_steps
from hast.device.attach_fuse import FuseAttachment
from hast.device.device import DeviceError, NoDevice
from hast.device.device_helper import read_sys

SIZE = 16 << 20
WORKER = Path(__file__).parents[1] / "support" / "ram_worker.py"
needs_devices = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists(),
    reason="needs root, /dev/fuse and loop devices",
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAST_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HAST_DEV", str(tmp_path / "dev"))
    return tmp_path


class Bench:
    """An attachment and its workers; undone at the end, whatever happened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = root / "disk.img"
        with open(self.disk, "wb") as file:
            file.truncate(SIZE)
        self.attachment = FuseAttachment("disk1", "disk1")
        self.workers: list[subprocess.Popen[str]] = []

    def start_worker(self, resume: bool = False, block_bytes: int = 512) -> subprocess.Popen[str]:
        (descriptor,) = self.attachment.descriptors()
        mode = "resume" if resume else "new"
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), "fuse", str(descriptor), str(self.disk), mode, str(block_bytes)],
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    async def up(self, block_bytes: int = 512) -> Path:
        await self.attachment.prepare()
        self.start_worker(block_bytes=block_bytes)
        return Path(await self.attachment.attach(SIZE, block_bytes, self.workers[-1].pid))

    def end_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
        self.workers.clear()

    def leftovers(self) -> list[str]:
        """Mounts, loop devices and files that should not be there any more."""
        found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line]
        found += [str(loop) for loop in Path("/sys/block").glob("loop*") if str(self.root) in str(backing(loop.name))]
        found += [str(path) for path in (self.root / "run").glob("*")]
        return found + [str(path) for path in (self.root / "dev").glob("*")]


def backing(loop: str) -> str | None:
    return read_sys(loop, "loop/backing_file")


@pytest.fixture
def bench(places: Path) -> Iterator[Bench]:
    made = Bench(places)
    yield made
    made.end_workers()
    asyncio.run(made.attachment.close())
    assert made.leftovers() == []


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """No step may hang."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main, 60)

    return asyncio.run(bounded())


def eventually(condition: Callable[[], bool], within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def fio(path: Path, *options: str) -> subprocess.Popen[str]:
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    command = ["fio", "--name=load", f"--filename={path}", "--ioengine=libaio", "--direct=1", "--rw=randwrite"]
    command += ["--bs=4k", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


pytestmark = [pytest.mark.device, pytest.mark.xdist_group("devices")]


@needs_devices
@pytest.mark.parametrize("block_bytes", [512, 4096])
def test_the_device_has_size_and_sectors_of_the_provider_and_holds_data(bench: Bench, block_bytes: int) -> None:
    path = run(bench.up(block_bytes))
    assert path == bench.root / "dev" / "disk1"
    assert path.is_symlink()
    assert path.is_block_device()
    loop = os.path.basename(os.readlink(path))
    assert read_sys(loop, "queue/logical_block_size") == str(block_bytes)
    assert int(read_sys(loop, "size") or 0) * 512 == SIZE
    assert read_sys(loop, "loop/dio") == "1"
    with open(path, "r+b", buffering=0) as file:
        file.write(b"hast" * 1024)
        os.fsync(file.fileno())
        fcntl.ioctl(file, 0x1277, struct.pack("=QQ", 8192, 4096))
    assert bench.disk.read_bytes()[:4096] == b"hast" * 1024
    assert run(bench.attachment.quiesce()) is True
    assert not (bench.root / "dev").exists()
    bench.end_workers()
    run(bench.attachment.close())
    assert bench.leftovers() == []


@needs_devices
def test_discarded_ranges_read_as_zeros(bench: Bench) -> None:
    path = run(bench.up())
    with open(path, "r+b", buffering=0) as file:
        file.write(b"\xff" * 65536)
        os.fsync(file.fileno())
        fcntl.ioctl(file, 0x1277, struct.pack("=QQ", 4096, 8192))  # BLKDISCARD
        fcntl.ioctl(file, 0x127F, struct.pack("=QQ", 32768, 4096))  # BLKZEROOUT
    data = bench.disk.read_bytes()[:65536]
    assert data[:4096] == b"\xff" * 4096
    assert data[4096:12288] == bytes(8192)
    assert data[32768:36864] == bytes(4096)
    assert data[36864:] == b"\xff" * 28672


@needs_devices
def test_workers_killed_under_load_are_replaced_without_an_error(bench: Bench) -> None:
    path = run(bench.up())
    load = fio(path, "--size=8m", "--time_based", "--runtime=3")
    time.sleep(0.5)
    for _ in range(3):
        worker = bench.workers[-1]
        worker.kill()
        worker.wait()
        bench.start_worker(resume=True)
        time.sleep(0.4)
    output = load.communicate(timeout=40)[0]
    assert load.returncode == 0, output


@needs_devices
def test_users_of_a_demoted_device_get_errors_and_nothing_hangs(bench: Bench) -> None:
    path = run(bench.up())
    loop = os.path.basename(os.readlink(path))
    user = os.open(path, os.O_RDWR | os.O_DIRECT)
    began = time.monotonic()
    try:
        assert run(bench.attachment.quiesce(2.0)) is False
        assert not path.exists()
        bench.end_workers()
        run(bench.attachment.close())
        with pytest.raises(OSError):
            os.preadv(user, [memoryview(bytearray(4096))], 0)
    finally:
        os.close(user)
    assert time.monotonic() - began < 10
    assert eventually(lambda: str(bench.root) not in str(backing(loop)))


@needs_devices
def test_a_stopped_worker_delays_nothing_beyond_the_deadlines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_fuse, "DETACH_DEADLINE_S", 1.0)
    path = run(bench.up())
    user = subprocess.Popen(
        ["dd", f"if={path}", "of=/dev/null", "iflag=direct", "bs=4k", "count=100000"], stderr=subprocess.DEVNULL
    )
    os.kill(bench.workers[0].pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        run(bench.attachment.quiesce(1.0))
        run(bench.attachment.close())
        assert time.monotonic() - began < 8
        assert user.wait(5) != 0
    finally:
        user.kill()
        user.wait()


@needs_devices
def test_a_worker_that_does_not_answer_fails_the_attach_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_fuse, "ATTACH_DEADLINE_S", 0.5)

    async def story() -> None:
        await bench.attachment.prepare()
        with pytest.raises(DeviceError, match="Unable to attach a loop device"):
            await bench.attachment.attach(SIZE, 512, os.getpid())

    run(story())


@needs_devices
def test_a_device_is_known_by_its_file_when_all_that_saw_it_made_are_gone(places: Path) -> None:
    """Of a confined hastd and its workers; their mount namespace ends with them, as after an upgrade."""
    (places / "run").mkdir()
    disk = places / "disk.img"
    disk.write_bytes(bytes(SIZE))
    argv = ["unshare", "-m", "--propagation", "shared", sys.executable, str(WORKER.with_name("confined_attach.py"))]
    environment = {**os.environ, "HAST_PROGRAMS": str(places / "programs.sock")}
    done = subprocess.run([*argv, str(disk)], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    mount, file = done.stdout.split()
    assert file == f"{mount}/disk"


@needs_devices
def test_close_undoes_prepare_alone(bench: Bench) -> None:
    run(bench.attachment.prepare())
    run(bench.attachment.close())
    run(bench.attachment.close())
    assert bench.leftovers() == []


KILLED_HASTD = """
import asyncio, os, subprocess, sys
from hast.device.attach_fuse import FuseAttachment
async def main():
    attachment = FuseAttachment("disk1", "pool/disk1")
    await attachment.prepare()
    (fd,) = attachment.descriptors()
    worker = subprocess.Popen([sys.executable, *sys.argv[1:2], "fuse", str(fd), sys.argv[2], "new", "512"],
                              pass_fds=[fd], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    worker.stdout.readline()
    print(worker.pid, await attachment.attach(int(sys.argv[3]), 512, worker.pid), flush=True)
    os._exit(9)
asyncio.run(main())
"""


@needs_devices
@pytest.mark.parametrize("worker_alive", [False, True])
def test_a_new_hastd_removes_what_a_killed_one_left_and_nothing_else(bench: Bench, worker_alive: bool) -> None:
    run(bench.up())
    mine = os.readlink(bench.root / "dev" / "disk1")
    other = bench.root / "other"
    environment = {**os.environ, "HAST_RUN": str(other / "run"), "HAST_DEV": str(other / "dev")}
    command = [sys.executable, "-c", KILLED_HASTD, str(WORKER), str(bench.disk), str(SIZE)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    pid, path = killed.stdout.split()
    assert Path(path).is_block_device(), killed.stderr
    if not worker_alive:
        os.kill(int(pid), signal.SIGKILL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HAST_RUN", str(other / "run"))
            patch.setenv("HAST_DEV", str(other / "dev"))
            run(device.clean_up())
        assert list((other / "run").iterdir()) == []
        assert not (other / "dev").exists()
        assert str(other) not in Path("/proc/self/mountinfo").read_text()
        assert not any(str(other) in str(backing(loop.name)) for loop in Path("/sys/block").glob("loop*"))
    finally:
        if worker_alive:
            os.kill(int(pid), signal.SIGKILL)
    assert os.readlink(bench.root / "dev" / "disk1") == mine
    with open(bench.root / "dev" / "disk1", "rb") as file:
        assert file.read(512) == bytes(512)


@needs_devices
def test_a_foreign_file_in_the_way_of_the_link_is_not_touched(bench: Bench) -> None:
    link = bench.root / "dev" / "disk1"
    link.parent.mkdir()
    link.write_text("mine")

    with pytest.raises(DeviceError, match="not a link made by hastd"):
        run(bench.up())
    bench.end_workers()
    run(bench.attachment.close())
    assert link.read_text() == "mine"
    link.unlink()
    link.parent.rmdir()


# --- without devices ------------------------------------------------------------------------------------------------


def test_links_make_and_remove_their_directories(places: Path) -> None:
    link = paths.device_path("pool/a/disk")
    device_steps.make_link(link, "/dev/loop1")
    device_steps.make_link(link, "/dev/loop2")
    assert os.readlink(link) == "/dev/loop2"
    other = paths.device_path("disk2")
    device_steps.make_link(other, "/dev/loop3")
    device_steps.remove_link(link)
    assert [path.name for path in paths.device_directory().iterdir()] == ["disk2"]
    device_steps.remove_link(other)
    device_steps.remove_link(other)
    assert not paths.device_directory().exists()


def test_a_damaged_record_is_removed_not_believed(places: Path) -> None:
    directory = paths.make_run_directory()
    for name, text in (("a", "{"), ("b", "[1]"), ("c", '{"mount": "/etc/passwd", "link": "/nowhere/x"}')):
        (directory / f"{name}.device").write_text(text)
    run(device.clean_up())
    assert list(directory.iterdir()) == []
    assert Path("/etc/passwd").exists()


def helper(before_s: float, after_s: float) -> list[str]:
    """Starts for so long, says that it is ready, and works for so long."""
    said = "print('ready', flush=True)"
    return [sys.executable, "-c", f"import time; time.sleep({before_s}); {said}; time.sleep({after_s}); print('{{}}')"]


def test_a_helper_that_hangs_is_given_up_at_its_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(DeviceError, match=re.escape("no answer from the kernel within 0.2 s")):
        run(device_steps.run_helper(helper(0, 60), 0.2))
    assert time.monotonic() - began < 5


def test_the_deadline_of_a_step_begins_when_its_helper_has_started() -> None:
    """A busy host takes long to start a process; that is not the kernel's fault, and no reason to refuse a role."""
    assert run(device_steps.run_helper(helper(1.5, 0), 1.0)) == {}


def test_a_helper_that_does_not_start_is_given_up_by_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_steps, "START_DEADLINE_S", 0.2)
    began = time.monotonic()
    with pytest.raises(DeviceError, match=re.escape("its helper process did not start within 0.2 s")):
        run(device_steps.run_helper(helper(60, 0), 10))
    assert time.monotonic() - began < 5


def test_where_the_whole_time_is_promised_to_the_peer_the_start_of_a_helper_is_part_of_it() -> None:
    began = time.monotonic()
    with pytest.raises(DeviceError, match=re.escape("no answer within 0.2 s")):
        run(device_steps.run_within(helper(60, 0), 0.2))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", ["nbd_helper.py", "ublk_helper.py", "device_helper.py", "mount_helper.py"])
def test_every_helper_says_that_it_has_started(name: str) -> None:
    command = device_steps.helper_command(name, "unknown")
    said = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert said.stdout == "ready\n"
    assert said.returncode


def test_a_helper_that_fails_says_why_in_one_line() -> None:
    with pytest.raises(DeviceError, match="No such file or directory"):
        run(device_steps.run_helper(device_steps.loop_command("attach", "/nonexistent/disk", "512"), 10))


@pytest.mark.parametrize("kind", [Device.UBLK, Device.NBD, Device.FUSE])
def test_a_device_of_which_nothing_can_be_noted_is_refused_in_one_line(
    kind: Device, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ublk", "nbd", "fuse"):
        monkeypatch.setattr(device, f"missing_for_{name}", lambda: "")
    (places / "run").write_text("no directory")
    attachment = device.choose(kind, "disk1", "disk1")
    with pytest.raises(DeviceError, match=re.escape(f"{places}/run")):
        run(attachment.prepare())
    run(attachment.close())


def test_none_makes_no_device() -> None:
    attachment = device.choose(Device.NONE, "disk1", "disk1")
    assert isinstance(attachment, NoDevice)
    assert attachment.descriptors() == []
    assert run(attachment.attach(SIZE, 512, 1)) is None


@pytest.mark.parametrize(
    ("asked", "no_ublk", "bug", "no_nbd", "no_fuse", "kind"),
    [
        (Device.AUTO, "", "", "", "", "ublk"),
        (Device.AUTO, "no module", "", "", "", "nbd"),
        (Device.AUTO, "", "Linux 6.8.0 crashes", "", "", "nbd"),
        (Device.AUTO, "no module", "", "no module", "", "fuse"),
        (Device.AUTO, "no module", "", "no module", "no root", "none"),
        (Device.UBLK, "", "Linux 6.8.0 crashes", "", "", "ublk"),
        (Device.UBLK, "no module", "", "", "", None),
        (Device.FUSE, "", "", "", "", "fuse"),
        (Device.NBD, "", "", "", "", "nbd"),
        (Device.NBD, "", "", "no module", "", None),
        (Device.FUSE, "", "", "", "no root", None),
    ],
)
def test_the_first_way_that_works_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    asked: Device,
    no_ublk: str,
    bug: str,
    no_nbd: str,
    no_fuse: str,
    kind: str | None,
) -> None:
    monkeypatch.setattr(device, "missing_for_ublk", lambda: no_ublk)
    monkeypatch.setattr(device, "fatal_bug", lambda: bug)
    monkeypatch.setattr(device, "missing_for_nbd", lambda: no_nbd)
    monkeypatch.setattr(device, "missing_for_fuse", lambda: no_fuse)
    if kind is None:
        with pytest.raises(DeviceError, match=f"`device {asked}`.*(no module|no root)"):
            device.choose(asked, "disk1", "disk1")
    else:
        assert device.choose(asked, "disk1", "disk1").kind == kind
