"""Runs as the only program of a small virtual machine: the device of the kind in $KIND on the kernel's true driver.

Every step prints one line; the host looks for the last. A step that fails prints why and ends the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
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
KIND = Device(os.environ.get("KIND", "nbd"))
SUCCESS = f"KERNEL {KIND.upper()}: ALL STEPS PASSED"
REPLACEMENTS = 6

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
        self.worker: subprocess.Popen[str]

    async def begin(self, asked: Device) -> tuple[Attachment, Path]:
        """The device, attached over a worker that serves."""
        attachment = device.choose(asked, "disk1", "disk1")
        assert attachment.kind == KIND, attachment.kind
        await attachment.prepare()
        await attachment.expect_worker()
        self.worker = self.start_worker(attachment)
        return attachment, Path(str(await attachment.attach(SIZE, 4096, self.worker.pid)))

    def start_worker(self, attachment: Attachment) -> subprocess.Popen[str]:
        descriptor = self.listener.fileno()
        number = attachment.start_fields().get("ublk")
        front_end = ["listener", str(descriptor)] if number is None else ["ublk", str(number)]
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), *front_end, str(DISK), "4096"],
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
        await attachment.expect_worker()
        self.worker = self.start_worker(attachment)
        await attachment.worker_replaced(self.worker.pid)


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
        "for index in range(150):\n"
        "    file = open('/mnt/load', 'wb')\n"
        "    file.write(bytes([index]) * 65536)\n"
        "    file.flush()\n"
        "    os.fsync(file.fileno())\n"
    )
    load = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    for _ in range(REPLACEMENTS):
        await asyncio.sleep(0.8)
        began = time.monotonic()
        await story.replace_worker(attachment)
        step(f"another worker serves after {time.monotonic() - began:.2f} s")
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
    attachment, path = await story.begin(KIND)
    node = attachment.node
    check_geometry(path)
    step(f"attached {path} -> {os.readlink(path)}")
    run("/sbin/mkfs.ext4", "-q", str(path))
    run("/bin/mount", "-t", "ext4", str(path), str(MOUNT))
    sums = write_files(10)
    step("ext4 made, mounted, files written and synced")
    await replace_under_load(story, attachment)
    step(f"worker killed and replaced {REPLACEMENTS} times under fsync load, no error")
    run("/bin/umount", str(MOUNT))
    run("/bin/mount", "-t", "ext4", str(path), str(MOUNT))
    check_files(sums)
    step("files read back after a new mount")
    assert await attachment.quiesce() is False
    assert not path.exists()
    step("quiesce of a mounted device says so")
    run("/bin/umount", str(MOUNT))
    run("/sbin/e2fsck", "-fn", node)
    discard_and_zero(Path(node))
    step("file system clean, discard and write zeroes arrived")
    assert await attachment.quiesce() is True
    user = os.open(node, os.O_RDONLY)
    began = time.monotonic()
    story.worker.kill()
    story.worker.wait()
    await attachment.close()
    with contextlib.suppress(OSError):
        assert os.pread(user, 4096, 1 << 20) == b"", "an open user could still read after the end"
    os.close(user)
    assert time.monotonic() - began < 10
    assert not paths.device_directory().exists()
    step("closed under an open user, who got an error, or the end of the device, at once")


async def end_with_a_dead_worker(story: Story) -> None:
    attachment, path = await story.begin(KIND)
    story.worker.kill()
    story.worker.wait()
    script = f"import os; os.pread(os.open('{path}', os.O_RDONLY), 4096, 1 << 20)"
    user = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.DEVNULL)
    await asyncio.sleep(2.0)
    assert user.returncode is None, "a read did not wait for another worker"
    await attachment.close()
    assert await asyncio.wait_for(user.wait(), 10) != 0
    step("closed over a dead worker: the read that waited failed at once")


async def adopt_and_clean_up(story: Story) -> None:
    """A hastd is gone as by kill -9: what it made is forgotten here, and known by its record only."""
    _attachment, path = await story.begin(KIND)
    node = Path(os.readlink(path))
    adopted = device.adopt("disk1", "disk1", None)
    assert (adopted.kind, adopted.node) == (KIND, str(node))
    await story.replace_worker(adopted)
    check_geometry(path)
    step("the next hastd takes the device over, and replaces its worker")
    story.worker.kill()
    story.worker.wait()
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
        asyncio.run(adopt_and_clean_up(story))
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
