"""hastctl wipe: what it says, what it refuses, what it leaves."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon

DATA = b"precious" * 512


@pytest.fixture
def created(make_daemon: MakeDaemon) -> Daemon:
    """disk1 with metadata, a mark in its map and data behind it; no running hastd."""
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"})
    assert daemon.hastctl("create", "disk1").returncode == 0
    with open(provider(daemon), "r+b") as file:
        file.seek(4096)
        file.write(b"\x05")
        file.seek(offset(daemon))
        file.write(DATA)
    return daemon


def provider(daemon: Daemon, name: str = "disk1") -> Path:
    return daemon.directory / f"{name}.img"


def offset(daemon: Daemon) -> int:
    lines = daemon.hastctl("dump", "disk1").stdout.split()
    return int(lines[lines.index("localoff:") + 1])


def content(daemon: Daemon) -> bytes:
    with open(provider(daemon), "rb") as file:
        return file.read()


def test_wipe_says_what_is_there_and_leaves_the_data(created: Daemon) -> None:
    begin = offset(created)
    before = content(created)
    done = created.hastctl("wipe", "--yes", "disk1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "resource: disk1" in done.stdout
    assert "marked: 2 extents that the other node may lack" in done.stdout
    assert f"wiped; the data begins at byte {begin}" in done.stdout
    assert content(created) == bytes(begin) + before[begin:]
    assert created.hastctl("dump", "disk1").returncode == 255


def test_a_path_needs_no_configuration(created: Daemon) -> None:
    path = str(provider(created))
    command = [sys.executable, "-m", "hast.cli.hastctl", "wipe", "-y", path, "-c", "/nonexistent"]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    assert content(created)[:4096] == bytes(4096)


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("", 130)])
def test_without_a_yes_nothing_is_written(created: Daemon, answer: str, code: int) -> None:
    before = content(created)
    path = str(provider(created))
    command = [sys.executable, "-m", "hast.cli.hastctl", "wipe", path]
    done = subprocess.run(command, input=answer, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert content(created) == before


def test_a_provider_in_use_is_refused(created: Daemon) -> None:
    before = content(created)
    with open(provider(created), "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = created.hastctl("wipe", "--yes", "disk1")
    assert done.returncode == 66
    assert "in use" in done.stderr
    assert content(created) == before


def test_a_resource_that_is_not_init_is_refused(created: Daemon) -> None:
    created.start()
    assert created.hastctl("role", "secondary", "disk1").returncode == 0
    path = os.path.relpath(provider(created))
    for target in ("disk1", path if "/" in path else f"./{path}"):
        done = created.hastctl("wipe", "--yes", target)
        assert done.returncode == 66
        assert "hastctl role init disk1" in done.stderr
    assert created.hastctl("role", "init", "disk1").returncode == 0
    assert created.hastctl("wipe", "--yes", "disk1").returncode == 0


def test_a_disk_without_metadata_is_left_alone(created: Daemon) -> None:
    before = provider(created, "disk2").read_bytes()
    done = created.hastctl("wipe", "--yes", "disk2", "nosuch", "disk1")
    assert done.returncode == 255
    assert "There is no HAST metadata" in done.stderr
    assert "Unknown resource nosuch." in done.stderr
    assert provider(created, "disk2").read_bytes() == before
    assert content(created)[:4096] == bytes(4096)
