"""Whether a flush failed of which a dead worker can tell nobody."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.worker.disk import flush_witness
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.flush_witness import nothing_failed, open_witness


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"data", 0)
    yield fd
    os.close(fd)


@pytest.fixture
def witness(disk: int) -> Iterator[int]:
    fd = open_witness(disk)
    assert fd >= 0
    yield fd
    os.close(fd)


def test_a_disk_whose_flushes_are_good_is_believed(disk: int, witness: int) -> None:
    assert nothing_failed(witness, disk, 5.0)


def test_it_is_an_opening_of_its_own_and_outlives_the_first(tmp_path: Path) -> None:
    first = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    witness = open_witness(first)
    os.close(first)
    again = os.open(tmp_path / "disk", os.O_RDWR)
    assert nothing_failed(witness, again, 5.0)
    os.close(again)
    os.close(witness)


def test_a_failed_flush_is_heard_of(disk: int, witness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "as told")

    monkeypatch.setattr(flush_witness.os, "fsync", fails)
    assert not nothing_failed(witness, disk, 5.0)


def test_the_witness_of_another_disk_says_nothing(disk: int, tmp_path: Path) -> None:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    witness = open_witness(other)
    assert not nothing_failed(witness, disk, 5.0)
    os.close(witness)
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


def test_a_closed_witness_is_no_reason_to_believe(disk: int) -> None:
    assert not nothing_failed(-1, disk, 5.0)
