"""Runs as the only program of a small virtual machine: the kernel nbd attachment against the kernel's true driver.

Every step prints one line; the host looks for the last. A step that fails prints why and ends the machine.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

from hast.config.model import Device
from hast.daemon import paths
from hast.device import device
from hast.device.device import Attachment

SIZE = 96 << 20
DISK = Path("/tmp/disk.img")
MOUNT = Path("/mnt")
WORKER = Path(__file__).resolve().parent.parent / "support" / "ram_worker.py"
BLKDISCARD, BLKZEROOUT, BLKSSZGET, BLKGETSIZE64 = 0x1277, 0x127F, 0x1268, 0x80081272
SUCCESS = "KERNEL NBD: ALL STEPS PASSED"

_began = time.monotonic()


def step(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.2f}] {text}", flush=True)


def run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"


class Story:
    """One device from its birth to its end."""

    def __init__(self) -> None:
        with open(DISK, "wb") as file:
            file.truncate(SIZE)
        paths.make_run_directory()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(paths.nbd_socket("disk1")))
        self.listener.listen(8)
        self.worker = self.start_worker()

    def start_worker(self) -> subprocess.Popen[str]:
        descriptor = self.listener.fileno()
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), "listener", str(descriptor), str(DISK), "4096"],
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    async def replace_worker(self, attachment: Attachment) -> None:
        self.worker.kill()
        self.worker.wait()
        self.worker = self.start_worker()
        await attachment.worker_replaced()


def check_geometry(path: Path) -> None:
    with open(path, "rb") as file:
        size = struct.unpack("Q", fcntl.ioctl(file, BLKGETSIZE64, bytes(8)))[0]
        sector = struct.unpack("i", fcntl.ioctl(file, BLKSSZGET, bytes(4)))[0]
    assert (size, sector) == (SIZE, 4096), (size, sector)


def write_files(count: int) -> dict[str, str]:
    sums = {}
    for index in range(count):
        data = os.urandom(300_000 + index)
        path = MOUNT / f"file{index}"
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sums[path.name] = hashlib.sha256(data).hexdigest()
    return sums


def check_files(sums: dict[str, str]) -> None:
    for name, digest in sums.items():
        assert hashlib.sha256((MOUNT / name).read_bytes()).hexdigest() == digest, name


async def replace_under_load(story: Story, attachment: Attachment) -> None:
    script = (
        "import os\n"
        "for index in range(60):\n"
        "    file = open('/mnt/load', 'wb')\n"
        "    file.write(bytes([index]) * 65536)\n"
        "    file.flush()\n"
        "    os.fsync(file.fileno())\n"
    )
    load = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    for _ in range(2):
        await asyncio.sleep(0.8)
        await story.replace_worker(attachment)
    assert await load.wait() == 0, "a write failed while the worker was replaced"


def discard_and_zero(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.write(b"\xff" * 65536)
        os.fsync(file.fileno())
        assert DISK.read_bytes()[:65536] == b"\xff" * 65536
        fcntl.ioctl(file, BLKDISCARD, struct.pack("QQ", 0, 8192))
        fcntl.ioctl(file, BLKZEROOUT, struct.pack("QQ", 16384, 4096))
    data = DISK.read_bytes()[:65536]
    assert data[:8192] == bytes(8192), "discard did not arrive"
    assert data[16384:20480] == bytes(4096), "write zeroes did not arrive"


async def attach_and_use(story: Story) -> None:
    attachment = device.choose(Device.AUTO, "disk1", "disk1")
    assert attachment.kind == "nbd", attachment.kind
    await attachment.prepare()
    path = Path(str(await attachment.attach(SIZE, 4096)))
    check_geometry(path)
    step(f"attached {path} -> {os.readlink(path)}")
    run("/sbin/mkfs.ext4", "-q", str(path))
    run("/bin/mount", "-t", "ext4", str(path), str(MOUNT))
    sums = write_files(10)
    step("ext4 made, mounted, files written and synced")
    await replace_under_load(story, attachment)
    step("worker killed and replaced twice under fsync load, no error")
    run("/bin/umount", str(MOUNT))
    run("/bin/mount", "-t", "ext4", str(path), str(MOUNT))
    check_files(sums)
    step("files read back after a new mount")
    assert await attachment.quiesce() is False
    assert not path.exists()
    step("quiesce of a mounted device says so")
    run("/bin/umount", str(MOUNT))
    run("/sbin/e2fsck", "-fn", "/dev/nbd0")
    discard_and_zero(Path("/dev/nbd0"))
    step("file system clean, discard and write zeroes arrived")
    assert await attachment.quiesce() is True
    user = os.open("/dev/nbd0", os.O_RDONLY)
    began = time.monotonic()
    await attachment.close()
    try:
        os.pread(user, 4096, 1 << 20)
        raise AssertionError("an open user could still read after the end")
    except OSError:
        pass
    os.close(user)
    assert time.monotonic() - began < 10
    assert not paths.device_directory().exists()
    step("closed under an open user, who got an error at once")


async def end_with_a_dead_worker(story: Story) -> None:
    attachment = device.choose(Device.NBD, "disk1", "disk1")
    await attachment.prepare()
    path = Path(str(await attachment.attach(SIZE, 4096)))
    story.worker.kill()
    story.worker.wait()
    script = f"import os; os.pread(os.open('{path}', os.O_RDONLY), 4096, 1 << 20)"
    user = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.DEVNULL)
    await asyncio.sleep(2.0)
    assert user.returncode is None, "a read did not wait for another worker"
    await attachment.close()
    assert await asyncio.wait_for(user.wait(), 10) != 0
    story.worker = story.start_worker()
    step("closed over a dead worker: the read that waited failed at once")


async def clean_up_after_a_kill() -> None:
    script = (
        "import asyncio, os\n"
        "from hast.config.model import Device\n"
        "from hast.device import device\n"
        "async def main():\n"
        "    attachment = device.choose(Device.NBD, 'disk1', 'disk1')\n"
        "    await attachment.prepare()\n"
        f"    await attachment.attach({SIZE}, 4096)\n"
        "    os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await killed.wait() == 9
    path = paths.device_path("disk1")
    node = Path(os.readlink(path))
    check_geometry(path)
    await device.clean_up()
    assert not paths.device_directory().exists()
    size = Path("/sys/block", node.name, "size")
    assert not size.exists() or size.read_text().strip() == "0", "the device is still connected"
    step("what a killed hastd left was removed")


def main() -> None:
    try:
        step("started")
        story = Story()
        asyncio.run(attach_and_use(story))
        asyncio.run(end_with_a_dead_worker(story))
        asyncio.run(clean_up_after_a_kill())
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
