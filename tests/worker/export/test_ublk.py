"""The ublk front end against a kernel's side made of a sparse file and a pipe: true layouts, offsets and copies.

The driver itself: tests/kernel.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ram_worker import RamEngine

from hast.format import ublk
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO
from hast.worker.export import ublk as front
from hast.worker.export.ublk import BATCH_REQUESTS, UblkQueue, open_channel
from hast.worker.reactor import EpollReactor

SIZE = 8 << 20
READ_OP, WRITE_OP, FLUSH_OP, DISCARD_OP, ZERO_OP = (int(operation) for operation in ublk.Operation)


class FakeRing:
    """The kernel's side: commands are recorded, completions come when `Kernel.ask` says so."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.fd, self._wake = os.pipe()
        os.set_blocking(self.fd, False)
        self.queued: list[tuple[int, int, int]] = []
        self.submitted: list[tuple[int, int, int]] = []
        self.submits = 0
        self.ready: list[tuple[int, int]] = []
        self.refuses = 0
        """Errno of every submission."""

    def command(self, fd: int, operation: int, payload: bytes, user_data: int) -> None:
        queue, tag, result, address = ublk.IO.unpack(payload)
        assert (queue, tag, address) == (0, user_data, 0)
        self.queued.append((operation, tag, result))
        assert len(self.queued) <= self.entries

    def submit(self, wait: int = 0) -> None:
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.submits += bool(self.queued)
        self.submitted += self.queued
        self.queued.clear()

    def complete(self, tag: int, result: int = 0) -> None:
        self.ready.append((tag, result))
        os.write(self._wake, b"x")

    def completions(self, limit: int) -> Iterator[tuple[int, int]]:
        while self.ready and limit:
            limit -= 1
            os.read(self.fd, 1)
            yield self.ready.pop(0)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._wake)


class Kernel:
    """A device with its front end and an engine over memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "channel"
        with self.path.open("wb") as file:
            file.truncate(ublk.copy_offset(ublk.QUEUE_DEPTH))
        self.channel = os.open(self.path, os.O_RDWR)
        monkeypatch.setattr(front, "channel_path", lambda number: str(self.path))
        monkeypatch.setattr(front, "Ring", FakeRing)
        monkeypatch.setattr(front, "lock_memory", lambda: True)
        self.reactor = EpollReactor()
        self.engine = RamEngine(SIZE)
        self.engine.keep_batches = True
        self.queue = UblkQueue(
            self.reactor, self.engine.submit, self.engine.congested, SIZE, 512, channel=open_channel(7)
        )
        self.queue.start()

    @property
    def ring(self) -> Any:
        return self.queue._ring

    def ask(
        self, tag: int, operation: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> None:
        entry = ublk.DESCRIPTOR.pack(operation | flags, length >> 9, offset >> 9, 0)
        os.pwrite(self.channel, entry, tag * ublk.DESCRIPTOR.size)
        if data:
            os.pwrite(self.channel, data, ublk.copy_offset(tag))
        self.ring.complete(tag)

    def data(self, tag: int, length: int) -> bytes:
        return os.pread(self.channel, length, ublk.copy_offset(tag))

    def run(self, rounds: int = 20) -> None:
        count = 0

        def hook() -> None:
            nonlocal count
            count += 1
            if count >= rounds:
                self.reactor.stop()
            self.reactor.call_soon_threadsafe(lambda: None)

        self.reactor._stopped = False
        self.reactor.at_round_end(hook)
        self.reactor.call_soon_threadsafe(lambda: None)
        self.reactor.run()
        self.reactor._round_hooks.remove(hook)

    @property
    def answers(self) -> list[tuple[int, int]]:
        """(tag, result) of all answers."""
        commit = int(ublk.QueueCommand.COMMIT_AND_FETCH)
        return [(tag, result) for operation, tag, result in self.ring.submitted if operation == commit]

    def close(self) -> None:
        self.queue.close()
        self.reactor.close()
        os.close(self.channel)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path, monkeypatch)
    yield kernel
    kernel.close()


def test_every_tag_is_offered_once_in_one_system_call(kernel: Kernel) -> None:
    fetch = int(ublk.QueueCommand.FETCH)
    assert kernel.ring.submitted == [(fetch, tag, 0) for tag in range(ublk.QUEUE_DEPTH)]
    assert kernel.ring.submits == 1


def test_what_is_written_is_read_back(kernel: Kernel) -> None:
    kernel.ask(3, WRITE_OP, 4096, 8192, b"w" * 8192)
    kernel.run()
    kernel.ask(5, READ_OP, 4096, 8192)
    kernel.run()
    assert kernel.answers == [(3, 8192), (5, 8192)]
    assert kernel.data(5, 8192) == b"w" * 8192


def test_requests_of_one_wake_up_are_one_batch_and_their_answers_one_call(kernel: Kernel) -> None:
    for tag in range(10):
        kernel.ask(tag, WRITE_OP, tag * 4096, 4096, bytes([tag]) * 4096)
    kernel.run()
    assert [len(batch) for batch in kernel.engine.batches] == [10]
    assert kernel.ring.submits == 2
    assert bytes(kernel.engine.view[9 * 4096 : 10 * 4096]) == b"\t" * 4096


@pytest.mark.parametrize(
    ("asked", "operation"),
    [(READ_OP, READ), (WRITE_OP, WRITE), (FLUSH_OP, FLUSH), (DISCARD_OP, DELETE), (ZERO_OP, ZERO)],
)
def test_each_operation_reaches_the_engine(kernel: Kernel, asked: int, operation: int) -> None:
    length = 0 if asked == FLUSH_OP else 4096
    kernel.ask(0, asked, 8192 if length else 0, length, b"d" * 4096)
    kernel.run()
    [[request]] = kernel.engine.batches
    assert (request.op, request.offset, request.length) == (operation, 8192 if length else 0, length)
    assert kernel.answers == [(0, length)]


@pytest.mark.parametrize(("flags", "fua"), [(0, False), (ublk.FLAG_FUA, True)])
def test_a_write_that_has_to_be_durable_says_so(kernel: Kernel, flags: int, fua: bool) -> None:
    kernel.ask(0, WRITE_OP, 0, 4096, b"d" * 4096, flags)
    kernel.run()
    assert kernel.engine.batches[0][0].fua is fua


def test_an_error_is_told_with_its_number(kernel: Kernel) -> None:
    kernel.engine.fail = lambda request: errno.ENOSPC
    kernel.ask(0, WRITE_OP, 0, 4096, b"d" * 4096)
    kernel.run()
    assert kernel.answers == [(0, -errno.ENOSPC)]


@pytest.mark.parametrize(
    ("operation", "offset", "length", "error"),
    [
        (9, 0, 4096, errno.EOPNOTSUPP),
        (READ_OP, SIZE, 4096, errno.EINVAL),
        (WRITE_OP, SIZE - 512, 4096, errno.EINVAL),
    ],
)
def test_what_cannot_be_is_refused_and_the_tag_is_offered_again(
    kernel: Kernel, operation: int, offset: int, length: int, error: int
) -> None:
    kernel.ask(0, operation, offset, length)
    kernel.run()
    assert kernel.answers == [(0, -error)]
    assert kernel.engine.batches == []


def test_one_wake_up_takes_no_more_than_its_share(kernel: Kernel) -> None:
    for tag in range(ublk.QUEUE_DEPTH):
        kernel.ask(tag, READ_OP, 0, 4096)
    kernel.run()
    assert [len(batch) for batch in kernel.engine.batches] == [BATCH_REQUESTS, BATCH_REQUESTS]
    assert len(kernel.answers) == ublk.QUEUE_DEPTH


def test_congestion_leaves_requests_with_the_kernel_until_it_ends(kernel: Kernel) -> None:
    kernel.engine.is_congested = True
    kernel.ask(0, READ_OP, 0, 4096)
    kernel.run()
    assert kernel.answers == []
    kernel.engine.is_congested = False
    kernel.queue.resume()
    kernel.run()
    assert kernel.answers == [(0, 4096)]


def test_without_free_memory_a_write_waits_and_is_carried_out_later(kernel: Kernel) -> None:
    kernel.engine.hold = True
    for tag in range(ublk.QUEUE_DEPTH):
        kernel.ask(tag, WRITE_OP, 0, ublk.MAX_IO_BYTES, b"x" * ublk.MAX_IO_BYTES)
    kernel.run(60)
    taken = len(kernel.engine.held)
    assert 0 < taken < ublk.QUEUE_DEPTH
    kernel.engine.batches.clear()
    kernel.engine.hold = False
    kernel.engine.release()
    for _ in range(20):
        kernel.engine.batches.clear()
        kernel.run(60)
    assert sorted(tag for tag, _ in kernel.answers) == list(range(ublk.QUEUE_DEPTH))


def test_a_device_that_is_taken_away_ends_the_queue(kernel: Kernel) -> None:
    kernel.ring.complete(0, -errno.ENODEV)
    kernel.run()
    assert not kernel.queue.serving
    kernel.queue.completed([])


def test_a_kernel_short_of_memory_is_given_the_answers_again(kernel: Kernel) -> None:
    kernel.ask(0, READ_OP, 0, 4096)
    kernel.ring.refuses = errno.EAGAIN
    kernel.run(50)
    assert kernel.answers == []
    assert kernel.queue.serving
    kernel.ring.refuses = 0
    time.sleep(0.01)
    kernel.run(50)
    assert kernel.answers == [(0, 4096)]


def test_a_kernel_that_takes_no_answers_ends_the_worker_and_not_the_device(kernel: Kernel) -> None:
    kernel.ask(0, READ_OP, 0, 4096)
    kernel.ring.refuses = errno.EINVAL
    with pytest.raises(OSError, match="Invalid"):
        kernel.run()
    kernel.ring.refuses = 0


def test_an_answer_after_the_end_is_dropped(kernel: Kernel) -> None:
    kernel.engine.hold = True
    kernel.ask(0, READ_OP, 0, 4096)
    kernel.run()
    kernel.queue.close()
    kernel.engine.release()
    assert kernel.queue.status() == {"serving": False, "in_flight": 0, "requests": 1}
