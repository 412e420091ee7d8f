"""Loop devices: attach files, find and detach those of a lab. Loop devices are global to the machine."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Container, Iterator
from pathlib import Path

LOOP_CLR_FD = 0x4C01
LOOP_GET_STATUS64 = 0x4C05
LOOP_SET_CAPACITY = 0x4C07
STATUS64_SIZE_BYTES = 232
LAB_PATH = re.compile(r"/hast-lab-(\d+)-")


def attach(path: Path) -> tuple[str, int]:
    """Attach a file. Returns the device's path and number. Raises CalledProcessError."""
    command = ["losetup", "--find", "--show", str(path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    return device, os.stat(device).st_rdev


def resize(path: Path) -> None:
    """Let the device over this file have the size that the file has now. Raises OSError."""
    for device, backing in attached():
        if backing == str(path):
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, LOOP_SET_CAPACITY)
            finally:
                os.close(descriptor)


def detach(device: str) -> None:
    """Detach, quietly if it is gone."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.ioctl(descriptor, LOOP_CLR_FD)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def attached() -> Iterator[tuple[str, str]]:
    """Device path and backing file of every loop device in use on the machine."""
    for entry in Path("/sys/block").glob("loop*"):
        try:
            backing = (entry / "loop/backing_file").read_text().rstrip("\n")
        except OSError:
            continue
        yield f"/dev/{entry.name}", backing


def detach_under(directory: Path) -> list[str]:
    """Detach all loop devices whose backing file lies under `directory`; returns their paths."""
    found = [device for device, backing in attached() if backing.startswith(f"{directory}/")]
    for device in found:
        detach(device)
    return found


def mounted_devices(mountinfo: str, kinds: tuple[str, ...]) -> frozenset[int]:
    """Device numbers of the mounts in a mountinfo file whose type is one of `kinds` or begins with one and a dot."""
    numbers = set()
    for line in Path(mountinfo).read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0].partition(".")[0] in kinds:
            major, _, minor = left.split()[2].partition(":")
            numbers.add(os.makedev(int(major), int(minor)))
    return frozenset(numbers)


def detach_over(file_systems: Container[int]) -> list[str]:
    """Detach all loop devices whose backing file is on one of these devices; returns their paths."""
    found = [device for device, _ in attached() if backing_device(device) in file_systems]
    for device in found:
        detach(device)
    return found


def backing_device(device: str) -> int | None:
    """Device number of the file system that holds the backing file, None when the loop device is free."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = fcntl.ioctl(descriptor, LOOP_GET_STATUS64, bytes(STATUS64_SIZE_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return int(struct.unpack_from("<Q", status)[0])


def detach_orphans() -> list[str]:
    """Detach the loop devices of labs whose process is gone; returns their paths."""
    found = []
    for device, backing in attached():
        owner = LAB_PATH.search(backing)
        if owner and not Path("/proc", owner[1]).exists():
            detach(device)
            found.append(device)
    return found
