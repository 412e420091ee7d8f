"""What a disk past the cache is given through io_uring: order, limits, and what becomes of what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_bench import BASE, Bench

from hast.config.model import DiskCache
from hast.replication.types import READ, WRITE, Request
from hast.worker.disk.decisions.patience import Patience
from hast.worker.disk.provider_open import open_provider
from hast.worker.disk.ring import DEPTH, PART_BYTES, DiskRing
from hast.worker.reactor import EpollReactor

SIZE = 8 * 1024 * 1024
LIMIT_S = 10.0


class Kernel:
    """In place of a ring: nothing is completed before `answer`."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.given: list[tuple[bool, int, int, int]] = []
        """(to the disk, bytes, offset, slot), oldest first."""
        self.submitted = 0
        self.refuses = 0
        self._answers: list[tuple[int, int]] = []

    def transfer(self, to_fd: bool, fd: int, address: int, size_bytes: int, offset: int, user_data: int) -> None:
        del fd, address
        self.given.append((to_fd, size_bytes, offset, user_data))

    def submit(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.EAGAIN, "no memory")
        self.submitted = len(self.given)

    def answer(self, place: int, result: int | None = None) -> None:
        _to_fd, size_bytes, _offset, slot = self.given[place]
        self._answers.append((slot, size_bytes if result is None else result))
        os.eventfd_write(self.fd, 1)

    def completions(self, limit: int) -> Iterator[tuple[int, int]]:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        taken, self._answers = self._answers[:limit], self._answers[limit:]
        yield from taken

    def close(self) -> None:
        os.close(self.fd)


class Fixture:
    """A DiskRing over such a kernel."""

    def __init__(self) -> None:
        self.reactor = EpollReactor()
        self.done: list[Request] = []
        self.again: list[list[Request]] = []
        self.patience = Patience(1.0)
        kernels: list[Kernel] = []

        def make(entries: int) -> Kernel:
            kernels.append(Kernel(entries))
            return kernels[-1]

        self.ring = DiskRing(0, BASE, self.reactor, self.patience, self.done.extend, self.again.append, make)
        (self.kernel,) = kernels

    def turn(self, seconds: float = 0.01) -> None:
        self.reactor.call_later(seconds, self.reactor.stop)
        self.reactor.run()
        self.reactor._stopped = False


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def write(offset: int, size_bytes: int = 4096) -> Request:
    return Request(WRITE, offset, size_bytes, bytes(size_bytes))


def test_a_disk_is_given_so_many_at_once_and_the_rest_in_order(fixture: Fixture) -> None:
    requests = [write(8192 * place) for place in range(DEPTH + 10)]
    for request in requests:
        fixture.ring.write([request])
    fixture.ring.begin()
    kernel = fixture.kernel
    assert kernel.submitted == len(kernel.given) == DEPTH
    for place in (5, 0):
        kernel.answer(place)
    fixture.turn()
    assert [offset for _to, _size, offset, _slot in kernel.given] == [
        BASE + request.offset for request in requests[: DEPTH + 2]
    ]
    assert fixture.done == [requests[5], requests[0]]
    assert fixture.ring.pending == DEPTH + 8


def test_neighbours_become_one_and_what_is_large_becomes_parts(fixture: Fixture) -> None:
    small = [write(4096 * place) for place in range(PART_BYTES // 4096 + 1)]
    large = write(SIZE // 2, 3 * PART_BYTES - 512)
    fixture.ring.write(small)
    fixture.ring.write([large])
    fixture.ring.begin()
    sizes = [size for _to, size, _offset, _slot in fixture.kernel.given]
    assert sizes == [PART_BYTES, 4096, PART_BYTES, PART_BYTES, PART_BYTES - 512]
    for place in range(4):
        fixture.kernel.answer(place)
    fixture.turn()
    assert fixture.done == small
    fixture.kernel.answer(4)
    fixture.turn()
    assert fixture.done == [*small, large]


@pytest.mark.parametrize("result", [-errno.EIO, -errno.EAGAIN, -errno.EINVAL, 512, 0])
def test_what_went_wrong_in_a_part_is_handed_back_whole_once_all_parts_ended(fixture: Fixture, result: int) -> None:
    request = write(0, 2 * PART_BYTES)
    fixture.ring.write([request])
    fixture.ring.begin()
    fixture.kernel.answer(0, result)
    fixture.turn()
    assert (fixture.done, fixture.again) == ([], [])
    fixture.kernel.answer(1)
    fixture.turn()
    assert (fixture.done, fixture.again, fixture.ring.pending) == ([], [[request]], 0)


def test_what_waits_behind_others_is_not_the_disks_delay(fixture: Fixture) -> None:
    for place in range(DEPTH + 1):
        fixture.ring.write([write(8192 * place)])
    fixture.ring.begin()
    for place in range(DEPTH):
        fixture.kernel.answer(place)
    fixture.turn()
    hang = fixture.patience.judge(time.monotonic() + 1.5)
    assert hang is not None
    assert hang.operation == f"WRITE at {8192 * DEPTH}"
    fixture.kernel.answer(DEPTH)
    fixture.turn()
    assert fixture.patience.judge(time.monotonic() + 99) is None


def test_of_a_disk_that_was_given_up_nothing_is_told_and_no_request_changed(fixture: Fixture) -> None:
    requests = [Request(READ, 8192 * place, 4096) for place in range(DEPTH + 3)]
    for request in requests:
        fixture.ring.read(request)
    fixture.ring.begin()
    assert fixture.ring.abandon() == requests
    assert fixture.ring.pending == 0
    fixture.kernel.answer(0)
    fixture.kernel.answer(1, -errno.EIO)
    fixture.turn()
    assert (fixture.done, fixture.again) == ([], [])
    assert [request.data for request in requests] == [None] * len(requests)
    assert len(fixture.kernel.given) == DEPTH, "what waited is not begun"
    assert not fixture.ring.close(0.05), "the disk still owes answers"
    for place in range(2, DEPTH):
        fixture.kernel.answer(place)
    assert fixture.ring.close(LIMIT_S)


def test_a_kernel_that_is_short_of_memory_is_asked_again(fixture: Fixture) -> None:
    fixture.kernel.refuses = 2
    fixture.ring.write([write(0)])
    fixture.ring.begin()
    assert fixture.kernel.submitted == 0
    fixture.turn(0.1)
    assert fixture.kernel.submitted == 1


# -- on a file


@pytest.fixture
def bench(image: Path) -> Iterator[Bench]:
    bench = Bench(open_provider(str(image)), BASE, DiskCache.OFF)
    if not bench.provider.past_cache:
        bench.provider.close()
        pytest.skip(f"{image} cannot be opened past the page cache")
    if bench.provider._ring is None:
        bench.provider.close()
        pytest.skip("no io_uring here")
    yield bench
    assert bench.provider.close()
    bench.reactor.close()


def test_what_is_written_at_any_sector_from_any_memory_is_read_back(bench: Bench, image: Path) -> None:
    chance = random.Random(11)
    expected = bytearray(b"\xaa" * SIZE)
    for _ in range(40):
        sizes = [512 * chance.choice((1, 3, 8, 31, 513, 1100, 2048)) for _ in range(3)]
        start = 512 * chance.randrange((SIZE - BASE - sum(sizes)) // 512)
        batch = []
        for size in sizes:
            memory = chance.randbytes(size + 7)
            batch.append(Request(WRITE, start, size, memoryview(memory)[7:]))
            expected[BASE + start : BASE + start + size] = memory[7:]
            start += size
        assert [each.local_error for each in bench.run(*batch)] == [0, 0, 0]
        reads = bench.run(*[Request(READ, each.offset, each.length) for each in batch])
        assert sorted(bytes(each.data or b"") for each in reads) == sorted(bytes(each.data or b"") for each in batch)
    assert image.read_bytes() == expected


def test_no_thread_is_woken_for_what_goes_smoothly(bench: Bench) -> None:
    bench.run(*[Request(WRITE, 8192 * place, 4096, b"z" * 4096) for place in range(100)])
    bench.run(*[Request(READ, 8192 * place, 4096) for place in range(100)])
    assert bench.provider._pool._threads == []


def test_an_error_of_the_disk_is_told_of_the_request_that_it_befell(bench: Bench, image: Path) -> None:
    os.truncate(image, SIZE - 4096)
    end = SIZE - BASE
    whole, cut = bench.run(Request(READ, end - 8192, 4096), Request(READ, end - 4096, 4096))
    by_offset = {each.offset: each for each in (whole, cut)}
    assert by_offset[end - 8192].local_error == 0
    assert by_offset[end - 4096].local_error == errno.EIO


def test_what_is_begun_is_on_the_disk_when_it_was_let_go(image: Path) -> None:
    bench = Bench(open_provider(str(image)), BASE, DiskCache.OFF)
    if bench.provider._ring is None:
        bench.provider.close()
        pytest.skip("no io_uring past the page cache here")
    bench.provider.submit([Request(WRITE, 8192 * place, 4096, b"e" * 4096) for place in range(3 * DEPTH)])
    assert bench.provider.close()
    content = image.read_bytes()
    assert all(content[BASE + 8192 * place :][:4096] == b"e" * 4096 for place in range(3 * DEPTH))
    assert bench.done == []


def test_without_io_uring_threads_do_it_and_that_is_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), no_descriptor_left():
        assert bench.provider._make_ring(bench.reactor, bench.done.extend) is None
    assert "read and written by threads, which is slower: io_uring_setup: Too many open files" in caplog.text
    ring, bench.provider._ring = bench.provider._ring, None
    assert bench.run(Request(WRITE, 0, 4096, b"t" * 4096))[0].local_error == 0
    assert bytes(bench.run(Request(READ, 0, 4096))[0].data or b"") == b"t" * 4096
    assert bench.provider._pool._threads
    assert ring is not None
    assert ring.close(LIMIT_S)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """For this process, so that the kernel makes no ring."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
