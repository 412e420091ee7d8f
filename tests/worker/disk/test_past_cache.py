"""A disk that is read and written past the page cache (hast.conf, disk-cache), and when one is."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from provider_bench import Bench

from hast.config.model import DiskCache
from hast.format.constants import METADATA_SIZE_BYTES
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Request, Store
from hast.worker.disk import direct
from hast.worker.disk.decisions.cache import goes_past
from hast.worker.disk.provider_open import open_provider

BASE = 9 * 512
"""The data area begins in the middle of a page, as it does on most disks."""
SIZE = 4 * 1024 * 1024
SHARED = 512
"""Bytes of the first page of data that belong to the map."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")
    image = tmp_path / "disk"
    image.write_bytes(b"\xaa" * SIZE)
    command = ["losetup", "-f", "--show", str(image)]
    device = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True, timeout=20)


@pytest.fixture
def bench(disk: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(open_provider(disk), BASE, DiskCache.OFF, tmp_path / "mark")
    assert bench.provider.past_cache
    yield bench
    assert bench.provider.close()


def on_disk(bench: Bench) -> bytes:
    fd = os.open(f"/proc/self/fd/{bench.opened.fd}", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, SIZE, 0)
    finally:
        os.close(fd)


@pytest.mark.device
def test_what_is_written_at_any_sector_from_any_memory_is_read_back(bench: Bench) -> None:
    chance = random.Random(7)
    expected = bytearray(b"\xaa" * SIZE)
    for _ in range(60):
        size = 512 * chance.choice((1, 3, 8, 31, 600, 2048))
        offset = 512 * chance.randrange((SIZE - BASE - size) // 512)
        memory = bytearray(chance.randbytes(size + 7))
        data = memoryview(memory)[7:]
        assert bench.run(Request(WRITE, offset, size, data))[0].local_error == 0
        expected[BASE + offset : BASE + offset + size] = data
        (read,) = bench.run(Request(READ, offset, size))
        assert bytes(read.data or b"") == data
    assert on_disk(bench) == expected


@pytest.mark.device
def test_neighbours_in_one_page_are_written_at_once_and_all_arrive(bench: Bench) -> None:
    for turn in range(20):
        writes = [Request(WRITE, place * 1024, 512, bytes([turn + place]) * 512) for place in range(64)]
        assert [each.local_error for each in bench.run(*writes)] == [0] * 64
        found = on_disk(bench)
        assert [found[BASE + place * 1024] for place in range(64)] == [turn + place for place in range(64)]


@pytest.mark.device
def test_a_write_beside_the_map_and_a_store_of_the_map_do_not_undo_each_other(bench: Bench) -> None:
    """They share a page. Through the cache on one side only, one would bring back what the other replaced."""
    for turn in range(100):
        job = Store("map", data=bytes([turn]) * SHARED, offset_bytes=METADATA_SIZE_BYTES, flush=True)
        bench.provider.store(job)
        bench.run(Request(WRITE, 0, 512, bytes([turn]) * 512))
        bench.until(partial(_has_stored, bench, turn + 1))
        assert bench.stored[-1][1] == 0
        found = on_disk(bench)
        assert found[METADATA_SIZE_BYTES : BASE + 512] == bytes([turn]) * (SHARED + 512)


def _has_stored(bench: Bench, count: int) -> bool:
    return len(bench.stored) == count


@pytest.mark.device
def test_nothing_stays_in_the_cache_and_nothing_sleeps_in_the_reactor(bench: Bench) -> None:
    assert bench.provider.submit([Request(WRITE, 8192, 4096, b"x" * 4096), Request(READ, 65536, 4096)]) == []
    bench.until(lambda: len(bench.done) == 2)
    fd = os.open(f"/proc/self/fd/{bench.opened.fd}", os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            os.preadv(fd, [bytearray(1)], BASE + 8192, os.RWF_NOWAIT)
    finally:
        os.close(fd)


@pytest.mark.device
@pytest.mark.parametrize("command", [ZERO, DELETE])
def test_zeros_and_flushes_work_as_through_the_cache(bench: Bench, command: int) -> None:
    bench.run(Request(WRITE, 0, 65536, b"y" * 65536))
    bench.run(Request(command, 512, 4096))
    assert bench.run(Request(FLUSH, 0, 0))[0].local_error == 0
    assert on_disk(bench)[BASE : BASE + 65536] == b"y" * 512 + bytes(4096) + b"y" * (65536 - 4608)


@pytest.mark.device
def test_zeros_are_written_as_data_where_the_disk_has_no_other_way(bench: Bench) -> None:
    bench.provider._sleeping._zeroer._modes.clear()
    assert bench.run(Request(ZERO, 512, 4096))[0].local_error == 0
    assert on_disk(bench)[BASE : BASE + 5120] == b"\xaa" * 512 + bytes(4096) + b"\xaa" * 512


def test_a_file_system_that_cannot_do_without_the_cache_keeps_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    monkeypatch.setattr(direct, "bypass", lambda *_: False)
    bench = Bench(open_provider(str(tmp_path / "image")), BASE, DiskCache.OFF)
    assert not bench.provider.past_cache
    assert "it is used with it" in caplog.text
    assert bench.run(Request(WRITE, 0, 512, b"x" * 512))[0].local_error == 0
    assert bench.provider.close()


def test_either_all_descriptors_go_past_the_cache_or_none(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    fds = [os.open(tmp_path / "image", os.O_RDWR), os.open(os.devnull, os.O_RDWR)]
    try:
        assert not direct.bypass(*fds)
        assert not fcntl.fcntl(fds[0], fcntl.F_GETFL) & os.O_DIRECT
        assert direct.bypass(fds[0])
        assert fcntl.fcntl(fds[0], fcntl.F_GETFL) & os.O_DIRECT
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("setting", "is_block_device", "major", "past"),
    [
        (DiskCache.AUTO, True, 8, True),
        (DiskCache.AUTO, True, 253, True),
        (DiskCache.AUTO, True, 7, False),
        (DiskCache.AUTO, True, 1, False),
        (DiskCache.AUTO, False, 0, False),
        (DiskCache.ON, True, 8, False),
        (DiskCache.OFF, True, 7, True),
        (DiskCache.OFF, False, 0, True),
    ],
)
def test_disks_are_used_without_the_cache_unless_it_is_asked_for(
    setting: DiskCache, is_block_device: bool, major: int, past: bool
) -> None:
    assert goes_past(setting, is_block_device, major) is past
