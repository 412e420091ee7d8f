"""Whether a flush failed of which a dead worker can tell nobody."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.worker.disk import flush_witness
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.flush_witness import Locker, nothing_failed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"data", 0)
    yield fd
    os.close(fd)


@pytest.fixture
def locker() -> Iterator[Locker]:
    made = Locker.make()
    yield made
    made.close()


@pytest.fixture
def witness(disk: int, locker: Locker) -> int:
    locker.put(opening(disk))
    return locker.take()


def opening(disk: int) -> int:
    return os.open(f"/proc/self/fd/{disk}", os.O_RDONLY)


def open_here(path: Path) -> int:
    """How often this process has the file open."""
    wait_for_closers()
    links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    return links.count(str(path))


def wait_for_closers() -> None:
    for thread in threading.enumerate():
        if thread.name == "close":
            thread.join(5)


def test_a_disk_whose_flushes_are_good_is_believed(disk: int, witness: int) -> None:
    assert nothing_failed(witness, disk, 5.0)


def test_what_lies_in_the_locker_is_open_in_no_process_and_outlives_who_left_it(tmp_path: Path, locker: Locker) -> None:
    first = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    locker.put(opening(first))
    os.close(first)
    assert open_here(tmp_path / "disk") == 0
    again = os.open(tmp_path / "disk", os.O_RDWR)
    assert nothing_failed(locker.take(), again, 5.0)
    os.close(again)


def test_the_locker_holds_the_last_that_was_left_and_nothing_after_it_was_taken(disk: int, locker: Locker) -> None:
    assert locker.take() == -1
    locker.put(opening(disk))
    locker.put(opening(disk))
    taken = locker.take()
    assert taken >= 0
    assert locker.take() == -1
    os.close(taken)


def test_a_dropped_disk_is_kept_open_by_nobody(tmp_path: Path, disk: int, locker: Locker) -> None:
    locker.put(opening(disk))
    locker.drop()
    assert locker.take() == -1
    assert open_here(tmp_path / "disk") == 1


def test_another_process_finds_what_was_left(disk: int, locker: Locker) -> None:
    locker.put(opening(disk))
    script = (
        "import sys; from hast.worker.disk.flush_witness import Locker; print(Locker(map(int, sys.argv[1:])).take())"
    )
    ends = [str(end) for end in locker.ends]
    done = subprocess.run(
        [sys.executable, "-c", script, *ends], pass_fds=locker.ends, capture_output=True, text=True, timeout=20
    )
    assert int(done.stdout) >= 0, done.stderr


def test_a_failed_flush_is_heard_of(disk: int, witness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "as told")

    monkeypatch.setattr(flush_witness.os, "fsync", fails)
    assert not nothing_failed(witness, disk, 5.0)


def test_the_witness_of_another_disk_says_nothing(disk: int, locker: Locker, tmp_path: Path) -> None:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    locker.put(opening(other))
    assert not nothing_failed(locker.take(), disk, 5.0)
    os.close(other)


def test_a_disk_that_does_not_answer_is_not_waited_for(
    disk: int, witness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush_witness.os, "fsync", lambda _fd: time.sleep(1.0))
    began_s = time.monotonic()
    assert not nothing_failed(witness, disk, 0.05)
    assert time.monotonic() - began_s < 0.9


def test_a_mark_that_was_cleared_by_the_witness_is_clear_for_the_next_worker(tmp_path: Path) -> None:
    mark = FlushMark(tmp_path / "mark")
    mark.begin()
    after = FlushMark(tmp_path / "mark")
    assert after.doubtful
    after.believe()
    after.begin()
    after.end(good=True)
    assert not FlushMark(tmp_path / "mark").doubtful
