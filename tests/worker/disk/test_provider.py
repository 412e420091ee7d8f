"""The local provider: every operation against a real file, errors as errno values, results in the reactor's thread."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_bench import BASE, Bench

from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Metadata, Request, Store
from hast.worker.disk import provider as provider_module
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.provider_open import open_provider
from hast.worker.disk.zeroing import Zeroer

SIZE = 4 * 1024 * 1024


@pytest.fixture
def bench(image: Path) -> Iterator[Bench]:
    bench = Bench(open_provider(str(image)))
    yield bench
    bench.provider.close()
    bench.reactor.close()


def test_a_write_lands_at_the_data_offset_and_a_read_returns_it(bench: Bench, image: Path) -> None:
    data = os.urandom(4096)
    (write,) = bench.run(Request(WRITE, 65536, 4096, data))
    assert write.local_error == 0
    assert image.read_bytes()[BASE + 65536 : BASE + 65536 + 4096] == data
    (read,) = bench.run(Request(READ, 65536, 4096))
    assert read.local_error == 0
    assert bytes(read.data or b"") == data


def test_adjacent_writes_of_a_batch_all_land(bench: Bench, image: Path) -> None:
    blocks = [os.urandom(4096) for _ in range(300)]
    batch = [Request(WRITE, index * 4096, 4096, block) for index, block in enumerate(blocks)]
    batch.insert(150, Request(WRITE, 3 * 1024 * 1024, 512, b"q" * 512))
    assert {request.local_error for request in bench.run(*batch)} == {0}
    content = image.read_bytes()
    assert content[BASE : BASE + 300 * 4096] == b"".join(blocks)
    assert content[BASE + 3 * 1024 * 1024 :][:512] == b"q" * 512


def test_flushes_are_carried_out_in_the_threads_and_told_in_the_reactor(bench: Bench) -> None:
    results = bench.run(Request(WRITE, 0, 512, b"d" * 512), Request(FLUSH, 0, 0), Request(FLUSH, 0, 0))
    assert [request.local_error for request in results] == [0, 0, 0]
    assert bench.thread_names == {"MainThread"}


@pytest.mark.parametrize("op", [ZERO, DELETE])
@pytest.mark.parametrize(("offset", "length"), [(0, 1024 * 1024), (512, 4096), (2 * 1024 * 1024, 512)])
def test_zero_and_delete_read_back_as_zeros_and_touch_nothing_else(
    bench: Bench, image: Path, op: int, offset: int, length: int
) -> None:
    (request,) = bench.run(Request(op, offset, length))
    assert request.local_error == 0
    content = image.read_bytes()
    assert len(content) == SIZE
    assert content[BASE + offset : BASE + offset + length] == bytes(length)
    assert content.count(b"\xaa") == SIZE - length


def test_zeroing_falls_back_to_writing_where_holes_are_not_supported(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_fd: int, _mode: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("hast.worker.disk.zeroing.fallocate", unsupported)
    with image.open("r+b") as file:
        Zeroer(file.fileno()).zero(1000, 2 * 1024 * 1024 + 7)
    content = image.read_bytes()
    assert content[1000 : 1000 + 2 * 1024 * 1024 + 7] == bytes(2 * 1024 * 1024 + 7)
    assert content.count(b"\xaa") == SIZE - 2 * 1024 * 1024 - 7


def test_reads_that_would_sleep_go_to_the_threads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def cold(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError(errno.EAGAIN, "would block")
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", cold)
    results = bench.run(*[Request(READ, index * 4096, 4096) for index in range(64)])
    assert all(bytes(request.data or b"") == b"\xaa" * 4096 for request in results)


def test_a_partly_cached_read_is_completed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def short(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        return real(fd, [memoryview(buffers[0])[:512]], offset, flags)

    monkeypatch.setattr(os, "preadv", short)
    (request,) = bench.run(Request(READ, 0, 8192))
    assert bytes(request.data or b"") == b"\xaa" * 8192


def test_short_writes_are_completed(bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def short(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        return real(fd, [memoryview(buffers[0])[:700]], offset, 0)

    monkeypatch.setattr(os, "pwritev", short)
    blocks = [os.urandom(4096) for _ in range(5)]
    results = bench.run(*[Request(WRITE, index * 4096, 4096, block) for index, block in enumerate(blocks)])
    assert {request.local_error for request in results} == {0}
    assert image.read_bytes()[BASE:][: 5 * 4096] == b"".join(blocks)


def test_reading_beyond_a_shrunk_file_is_an_error_not_a_short_answer(bench: Bench, image: Path) -> None:
    os.truncate(image, BASE + 4096)
    (request,) = bench.run(Request(READ, 0, 8192))
    assert request.local_error == errno.EIO
    assert request.data is None


def test_errors_become_errno_values_of_each_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> int:
        raise OSError(errno.EIO, "broken")

    for name in ("pwritev", "pwrite", "preadv", "fdatasync"):
        monkeypatch.setattr(os, name, broken)
    monkeypatch.setattr("hast.worker.disk.zeroing.fallocate", broken)
    results = bench.run(
        Request(WRITE, 0, 512, b"x" * 512),
        Request(WRITE, 512, 512, b"x" * 512),
        Request(READ, 0, 512),
        Request(FLUSH, 0, 0),
        Request(ZERO, 0, 512),
        Request(WRITE, 4096, 512, b"x" * 512),
    )
    assert len(results) == 6
    assert {request.local_error for request in results} == {errno.EIO}


def test_one_bad_sector_fails_only_its_own_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    bad = BASE + 512

    def broken(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if offset <= bad < offset + sum(map(len, buffers)):
            raise OSError(errno.EIO, "broken")
        return real(fd, buffers, offset, 0)

    monkeypatch.setattr(os, "pwritev", broken)
    results = bench.run(*[Request(WRITE, index * 512, 512, b"x" * 512) for index in range(4)])
    assert sorted((request.offset, request.local_error) for request in results) == [
        (0, 0),
        (512, errno.EIO),
        (1024, 0),
        (1536, 0),
    ]


def test_reads_without_nowait_support_leave_the_reactor_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def plain(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", plain)
    for _ in range(3):
        request = Request(READ, 0, 512)
        assert bench.provider.submit([request]) == []
        bench.until(lambda request=request: request.data is not None)


def test_a_slow_write_sends_the_following_ones_to_the_threads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module, "SLOW_WRITE_S", -1.0)
    first = bench.provider.submit([Request(WRITE, 0, 512, b"a" * 512)])
    second = bench.provider.submit([Request(WRITE, 512, 512, b"b" * 512)])
    assert [len(first), len(second)] == [1, 0]
    bench.until(lambda: len(bench.done) == 1)


def test_stores_are_durable_in_order_and_outside_the_data_area(bench: Bench, image: Path) -> None:
    metadata = Metadata("disk1", SIZE - BASE, 65536, 4, BASE, 7, 1, 0, "primary")
    jobs = [
        Store("map", offset_bytes=4096, data=b"\x01" * 512),
        Store("metadata", metadata=metadata),
        Store("map", offset_bytes=4096, data=b"\x02" * 512, flush=False),
    ]
    for job in jobs:
        bench.provider.store(job)
    bench.until(lambda: len(bench.stored) == 3)
    assert [job for job, _ in bench.stored] == jobs
    assert {error for _, error in bench.stored} == {0}
    content = image.read_bytes()
    assert content[4096:4608] == b"\x02" * 512
    assert content[4608:].count(b"\xaa") == SIZE - 4608


def test_a_failed_store_is_told_with_its_errno(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    bench.provider.store(Store("map", offset_bytes=4096, data=bytes(512)))
    bench.until(lambda: len(bench.stored) == 1)
    assert bench.stored[0][1] == errno.ENOSPC


def test_closing_releases_the_lock(bench: Bench, image: Path) -> None:
    bench.run(Request(FLUSH, 0, 0))
    bench.provider.close()
    again = open_provider(str(image))
    os.close(again.fd)
    bench.provider = Bench(open_provider(str(image))).provider


def test_failed_flush_is_remembered_for_the_next_worker_until_the_metadata_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "no")

    def doubtful() -> bool:
        return FlushMark(Path(bench.opened.path + ".flush")).doubtful

    bench.run(Request(FLUSH, 0, 0))
    assert not doubtful()
    with monkeypatch.context() as patch:
        patch.setattr(provider_module.os, "fdatasync", fail)
        assert bench.run(Request(FLUSH, 0, 0))[0].local_error == errno.EIO
    bench.run(Request(FLUSH, 0, 0))
    assert doubtful()
    noted = Metadata("disk1", 65536, 65536, 4, BASE, unflushed=True)
    bench.provider.store(Store("flush failed", metadata=noted))
    bench.until(lambda: bool(bench.stored))
    assert not doubtful()


@pytest.mark.parametrize("fails", [False, True])
def test_a_flush_that_ended_while_its_worker_did_leaves_a_doubt_only_where_it_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The reactor runs no more and hears of nothing; a peer that cannot tell would be copied whole for a doubt."""

    def flush(_fd: int) -> None:
        if fails:
            raise OSError(errno.EIO, "failed")

    monkeypatch.setattr(provider_module.os, "fdatasync", flush)
    bench.provider.submit([Request(FLUSH, 0, 0)])
    assert bench.provider.close()
    assert not bench.done
    assert FlushMark(Path(bench.opened.path + ".flush")).doubtful is fails
