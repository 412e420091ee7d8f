"""Who has a block device open, of everybody on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.device import users
from hast.device.users import MOST_NAMED, users_of

pytestmark = [pytest.mark.device, pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a loop device")]
KEEP_OPEN = "import sys; file = open(sys.argv[1], 'rb'); print(1, flush=True); sys.stdin.read()"


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    device = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def opened(loop: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = []
    for _ in range(MOST_NAMED + 1):
        process = subprocess.Popen(
            [sys.executable, "-c", KEEP_OPEN, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
    yield started
    for process in started:
        process.communicate(timeout=10)


def test_processes_are_named_and_many_are_counted(loop: str, opened: list[subprocess.Popen[bytes]]) -> None:
    text = users_of(loop)
    assert sum(f"[{process.pid}]" in text for process in opened) == MOST_NAMED
    assert text.endswith("and 1 more")


def test_a_link_leads_to_the_device_and_what_is_none_has_no_users(
    loop: str, opened: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(loop)
    assert f"[{opened[0].pid}]" in users_of(str(tmp_path / "link"))
    assert users_of(str(tmp_path / "image")) == users_of(str(tmp_path / "nothing")) == ""


def test_a_file_system_and_a_loop_device_on_it_are_named(loop: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    subprocess.run(["mount", loop, tmp_path / "mnt"], check=True)
    try:
        assert users_of(loop) == f"mounted on {tmp_path / 'mnt'}"
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)
    done = subprocess.run(["losetup", "--find", "--show", loop], check=True, capture_output=True, text=True)
    try:
        assert users_of(loop) == done.stdout.strip().removeprefix("/dev/")
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_character_device_of_the_same_number_is_another() -> None:
    null = os.stat("/dev/null")
    assert not users._is_this(null, null.st_rdev)
