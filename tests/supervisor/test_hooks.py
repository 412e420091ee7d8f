"""Hooks: one after another per resource, with a deadline."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.device import device_steps
from hast.supervisor.hooks import MAX_QUEUED, HookRunner


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_hooks_of_one_resource_do_not_overlap_and_others_do(tmp_path: Path) -> None:
    hook = script(tmp_path, f'echo "begin $1 $2" >> {tmp_path}/log; sleep 0.2; echo "end $1 $2" >> {tmp_path}/log')

    async def run() -> None:
        runner = HookRunner(foreground=False)
        for event in ("one", "two"):
            runner.fire(hook, event, "disk1")
        runner.fire(hook, "one", "disk2")
        await runner.finish(5)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 2
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.endswith("disk1")] == [
        "begin one disk1",
        "end one disk1",
        "begin two disk1",
        "end two disk1",
    ]
    assert lines.index("begin one disk2") < lines.index("end one disk1") + 2


def test_hook_that_overruns_is_killed_with_its_children(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = script(tmp_path, f"sleep 77 & echo $! > {tmp_path}/child; wait")

    async def run() -> None:
        runner = HookRunner(foreground=False, deadline_s=1)
        runner.fire(hook, "role", "disk1", ("init", "primary"))
        await runner.finish(5)

    asyncio.run(run())
    assert "ran longer than 1 s and was killed" in caplog.text
    child = int((tmp_path / "child").read_text())
    time.sleep(0.1)
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_no_program_is_no_hook_and_the_queue_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = script(tmp_path, "sleep 5")

    async def run() -> None:
        runner = HookRunner(foreground=False)
        runner.fire(None, "role", "disk1")
        for _ in range(MAX_QUEUED + 5):
            runner.fire(hook, "connect", "disk1")
        await runner.finish(0.2)

    asyncio.run(run())
    assert "left out" in caplog.text


@pytest.fixture
def silent_directory(tmp_path: Path) -> Iterator[Path]:
    """A file system whose server never answers, as a mounted device of a frozen primary is one."""
    directory = tmp_path / "silent"
    directory.mkdir()
    descriptor = device_steps.mount_fuse(directory)
    guard = subprocess.Popen(["/bin/sh", "-c", f"sleep 20; umount -f {directory}"])
    minor = device_steps.mount_minor(directory)
    yield directory
    guard.kill()
    guard.wait(5)
    assert minor is not None
    device_steps.abort_connection(minor)
    device_steps.unmount(directory)
    os.close(descriptor)


@pytest.mark.device
def test_a_hook_whose_file_cannot_be_read_holds_up_nobody(
    silent_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        runner = HookRunner(foreground=False, deadline_s=1.0)
        runner.fire(str(silent_directory / "hook"), "one", "disk1")
        longest_s = 0.0
        began_s = time.monotonic()
        while (now_s := time.monotonic()) < began_s + 1.5:
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - now_s)
        assert longest_s < 0.8
        await runner.finish(5)

    asyncio.run(run())
    assert "was killed" in caplog.text
