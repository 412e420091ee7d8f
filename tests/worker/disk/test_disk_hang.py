"""A disk that does not answer is given up: nothing waits for it, and nothing that comes back late changes anything."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hanging_disk import HangingDisk, missing_for_hangs

from hast.replication.types import FLUSH, READ, WRITE, ZERO, Request, Store
from hast.worker.disk import writeback
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.provider import LocalProvider
from hast.worker.disk.provider_open import ProviderError, open_provider
from hast.worker.disk.writeback import MAX_PAGES, CachedPages
from hast.worker.reactor import EpollReactor

BASE, SIZE = 8192, 1 << 20
LIMIT_S = 0.3


class Stuck:
    """System calls that sleep until `answer`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._answers = threading.Event()
        self.asleep = 0
        self.back = 0

    def hang(self, *names: str) -> None:
        for name in names:
            self._monkeypatch.setattr(os, name, self._sleeper(getattr(os, name)))

    def _sleeper(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if arguments[-1] == os.RWF_NOWAIT:
                raise BlockingIOError
            self.asleep += 1
            self._answers.wait(20)
            self.back += 1
            return real(*arguments)

        return call

    def answer(self) -> None:
        self._answers.set()


class Bench:
    """A provider on a file, with a reactor whose rounds are counted in time."""

    def __init__(self, image: Path) -> None:
        self.reactor = EpollReactor()
        self.done: list[Request] = []
        self.stored: list[tuple[Store, int]] = []
        self.provider = LocalProvider(
            open_provider(str(image)),
            BASE,
            self.reactor,
            self.done.extend,
            lambda job, error: self.stored.append((job, error)),
            FlushMark(image.with_suffix(".flush")),
            LIMIT_S,
        )

    def rounds(self, seconds: float) -> None:
        self.reactor.call_later(seconds, self.reactor.stop)
        self.reactor.run()
        self.reactor._stopped = False

    def until_hung(self) -> None:
        end = time.monotonic() + 5
        while self.provider.look() is None:
            assert time.monotonic() < end, "not found to hang"
            self.rounds(0.02)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    stuck = Stuck(monkeypatch)
    yield stuck
    stuck.answer()


@pytest.fixture
def bench(image: Path, stuck: Stuck) -> Iterator[Bench]:
    bench = Bench(image)
    yield bench
    stuck.answer()
    assert bench.provider.close()
    bench.reactor.close()


def test_all_that_is_outstanding_ends_with_etimedout_once_and_the_rest_fails_at_once(
    bench: Bench, stuck: Stuck
) -> None:
    stuck.hang("fdatasync", "pwritev", "preadv")
    requests = [Request(WRITE, index * 4096, 512, b"x" * 512) for index in range(6)]
    requests += [Request(READ, 65536, 512), Request(FLUSH, 0, 0), Request(FLUSH, 0, 0)]
    jobs = [Store("map", offset_bytes=4096, data=bytes(512)) for _ in range(3)]
    assert bench.provider.submit(requests) == []
    assert bench.provider.submit([Request(FLUSH, 0, 0)]) == []
    for job in jobs:
        bench.provider.store(job)
    bench.until_hung()
    assert len(bench.done) == len(requests) + 1
    assert {request.local_error for request in bench.done} == {errno.ETIMEDOUT}
    assert bench.stored == [(job, errno.ETIMEDOUT) for job in jobs]
    assert bench.provider.hang is not None
    assert bench.provider.hang.age_s >= LIMIT_S
    assert bench.provider.look() is None
    assert bench.provider.pending == 0
    later = [Request(WRITE, 0, 512, b"y" * 512), Request(READ, 0, 512), Request(FLUSH, 0, 0), Request(ZERO, 0, 512)]
    assert bench.provider.submit(later) == later
    assert {request.local_error for request in later} == {errno.EIO}
    last = Store("map", offset_bytes=4096, data=bytes(512))
    bench.provider.store(last)
    bench.rounds(0.02)
    assert bench.stored[-1] == (last, errno.EIO)


def test_what_comes_back_late_changes_no_request_and_is_told_nobody(bench: Bench, stuck: Stuck) -> None:
    stuck.hang("preadv", "pwritev")
    read, write = Request(READ, 0, 512), Request(WRITE, 4096, 512, b"x" * 512)
    job = Store("map", offset_bytes=4096, data=bytes(512))
    bench.provider.submit([read, write])
    bench.provider.store(job)
    bench.until_hung()
    told = list(bench.done), list(bench.stored)
    read.local_error, read.data = 0, b"from the peer"
    write.data = None
    stuck.answer()
    bench.rounds(0.2)
    assert stuck.back == 3
    assert (bench.done, bench.stored) == told
    assert (read.local_error, read.data) == (0, b"from the peer")


def test_what_waits_behind_the_hung_operation_is_never_begun(bench: Bench, stuck: Stuck, image: Path) -> None:
    stuck.hang("pwritev")
    bench.provider.submit([Request(WRITE, index * 4096, 512, b"x" * 512) for index in range(8)])
    for value in range(3):
        bench.provider.store(Store("map", offset_bytes=4096, data=bytes([value]) * 512))
    bench.until_hung()
    stuck.answer()
    bench.rounds(0.2)
    assert stuck.back == 5
    content = image.read_bytes()
    assert content[BASE:].count(b"x" * 512) == 4
    assert content[4096 : 4096 + 512] == bytes(512)


def test_while_one_operation_is_out_for_long_the_reactor_touches_the_disk_no_more(bench: Bench, stuck: Stuck) -> None:
    bench.provider.disk_timeout_s = 20.0
    assert len(bench.provider.submit([Request(WRITE, 0, 512, b"x" * 512)])) == 1
    stuck.hang("fdatasync")
    bench.provider.submit([Request(FLUSH, 0, 0)])
    assert len(bench.provider.submit([Request(WRITE, 0, 512, b"x" * 512)])) == 1
    bench.rounds(0.6)
    assert bench.provider.submit([Request(WRITE, 0, 512, b"x" * 512)]) == []
    assert bench.provider.submit([Request(READ, 0, 512)]) == []


def test_a_file_system_that_writes_through_is_never_written_from_the_reactor(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev

    def plain(fd: int, buffers: list[bytes], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        assert threading.current_thread() is not threading.main_thread()
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", plain)
    monkeypatch.setattr(os, "pwrite", plain)
    kind = subprocess.run(["stat", "-f", "-c", "%t", image], capture_output=True, check=True, text=True)
    monkeypatch.setattr(writeback, "_WRITES_THROUGH", frozenset((int(kind.stdout, 16),)))
    for _ in range(2):
        assert bench.provider.submit([Request(WRITE, 0, 512, b"x" * 512)]) == []
    bench.rounds(0.1)
    assert [request.local_error for request in bench.done] == [0, 0]


def test_a_part_of_a_page_that_the_disk_would_have_to_read_is_never_written_from_the_reactor(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block devices take no RWF_NOWAIT for writes, and read the page first; a disk that hangs would hold up all."""
    cold = True
    read, write = os.preadv, os.pwritev

    def preadv(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if cold and flags:
            raise BlockingIOError
        return read(fd, buffers, offset, flags)

    def pwritev(fd: int, buffers: list[bytes], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return write(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pwritev", pwritev)
    assert bench.provider.submit([Request(WRITE, 512, 512, b"x" * 512)]) == []
    assert bench.provider.submit([Request(WRITE, 4096, 4608, b"x" * 4608)]) == []
    assert len(bench.provider.submit([Request(WRITE, 16384, 8192, b"x" * 8192)])) == 1
    bench.rounds(0.1)
    assert [request.local_error for request in bench.done] == [0, 0]
    cold = False
    assert len(bench.provider.submit([Request(WRITE, 512, 512, b"x" * 512)])) == 1


class PageCache:
    """Answers in the kernel's place whether pages are cached, and counts the questions."""

    def __init__(self) -> None:
        self.cached, self.asked = True, 0

    def preadv(self, _fd: int, buffers: list[bytearray], _offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        self.asked += 1
        if not self.cached:
            raise BlockingIOError
        return len(buffers[0])


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> PageCache:
    made = PageCache()
    monkeypatch.setattr(os, "preadv", made.preadv)
    return made


def test_a_page_that_was_just_written_is_not_asked_for_again_until_a_second_later(cache: PageCache) -> None:
    pages = CachedPages(-1)
    assert not pages.reads_first(512, 4096, 10.0)
    cache.cached = False
    assert not pages.reads_first(512, 4096, 10.9)
    assert not pages.reads_first(4096, 512, 11.0)
    assert pages.reads_first(8192 - 512, 1024, 11.0), "the page after it was never asked for"
    assert pages.reads_first(512, 4096, 12.1)
    assert cache.asked == 3


@pytest.mark.parametrize("pause_s", [0.0, 0.4, 0.6])
def test_a_page_that_is_written_all_the_time_is_believed_to_be_cached_and_one_that_is_not_is_not(
    pause_s: float, cache: PageCache
) -> None:
    pages = CachedPages(-1)
    pages.reads_first(512, 512, 10.0)
    cache.cached = False
    assert [pages.reads_first(512, 512, 10.0 + turn * pause_s) for turn in range(12)] == [False] * 12
    cache.cached = True
    pages.reads_first(512, 512, 30.0)
    pages.reads_first(8192 + 512, 512, 30.6)
    cache.cached = False
    pages.reads_first(8192 + 512, 512, 31.1)
    assert pages.reads_first(512, 512, 31.1)


def test_zeroing_forgets_which_pages_are_cached(cache: PageCache) -> None:
    """A range of a block device that is zeroed leaves its page cache."""
    pages = CachedPages(-1)
    pages.reads_first(512, 512, 10.0)
    pages.forget()
    cache.cached = False
    assert pages.reads_first(512, 512, 10.0)


@pytest.mark.usefixtures("cache")
def test_pages_that_are_remembered_have_a_limit() -> None:
    pages = CachedPages(-1)
    for page in range(3 * MAX_PAGES):
        pages.reads_first(page * 4096 + 512, 512, 10.0)
    assert len(pages._young | pages._old) <= 2 * MAX_PAGES + 2


def test_a_hung_disk_does_not_hold_up_the_end_and_stays_locked_until_it_is_back(
    image: Path, stuck: Stuck, tmp_path: Path
) -> None:
    bench = Bench(image)
    stuck.hang("fdatasync")
    bench.provider.submit([Request(FLUSH, 0, 0)])
    bench.until_hung()
    began_s = time.monotonic()
    assert not bench.provider.close()
    assert time.monotonic() - began_s < 1.0
    with pytest.raises(ProviderError, match="in use"):
        open_provider(str(image))
    assert FlushMark(image.with_suffix(".flush")).doubtful
    stuck.answer()
    assert bench.provider.close()
    os.close(open_provider(str(image)).fd)
    bench.reactor.close()


@pytest.mark.skipif(bool(missing_for_hangs()), reason=missing_for_hangs())
def test_a_disk_that_is_gone_at_its_last_close_is_let_go(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every one of its descriptors, although each close fails, and in one line of the log."""
    disk = HangingDisk(image.parent / "mount", image)
    bench = Bench(disk.path)
    kept = bench.provider._fd, bench.provider._stores._fd
    disk.close()
    assert bench.provider.close()
    bench.reactor.close()
    for fd in kept:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [f"Unable to close {disk.path}"]
