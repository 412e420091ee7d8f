"""The local provider: executes the requests and the durable writes of the engine.

Page-cache I/O. Reads are tried without waiting (RWF_NOWAIT) in the reactor's thread and go to a few threads when they
would sleep; writes go into the page cache from the reactor's thread until one of them turns out slow; flushes, zeroes
and everything else that sleeps goes to the threads. Decides nothing: overlap and order are the engine's business.
`Request.fua` is the engine's business, too: it flushes both copies. So is what a failed flush means; that it was heard
of outlives this process (`flush_mark.py`).
Errors become errno values in `Request.local_error`; nothing raises out of `submit` and `store`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial

from hast.replication.types import FLUSH, READ, WRITE, Buffer, Request, Store
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.iopool import IoPool
from hast.worker.disk.provider_open import OpenedProvider
from hast.worker.disk.stores import StoreQueue
from hast.worker.disk.zeroing import Zeroer

SLOW_WRITE_S = 0.1
SLOW_READ_S = 0.002
"""A write into the page cache that took longer, or a read where RWF_NOWAIT is not supported, sends the following
operations to the threads …"""
SLOW_PERIOD_S = 1.0
"""… for so long."""
MAX_MERGED_BUFFERS = 256
MAX_MERGED_BYTES = 1024 * 1024
NOWAIT_CREDIT = 64
"""Writes refused with EAGAIN, in excess of those that went through, before RWF_NOWAIT is given up for writes."""

Done = Callable[[list[Request]], None]
Stored = Callable[[Store, int], None]


class LocalProvider:
    """Executes requests on an open provider; implements `interfaces.Provider`.

    `done` and `stored` are called in the reactor's thread. The number of requests in flight is bounded by the engine.
    """

    def __init__(
        self,
        opened: OpenedProvider,
        data_offset_bytes: int,
        call_soon_threadsafe: Callable[[Callable[[], None]], None],
        done: Done,
        stored: Stored,
        mark: FlushMark,
    ) -> None:
        self.size_bytes = opened.size_bytes
        self.sector_size_bytes = opened.sector_size_bytes
        self.path = opened.path
        self._fd = opened.fd
        self._base = data_offset_bytes
        self._zeroer = Zeroer(opened.fd)
        self._pool = IoPool(call_soon_threadsafe, done)
        self._stores = StoreQueue(opened.fd, call_soon_threadsafe, self._store_done)
        self._stored = stored
        self._mark = mark
        self.flush_doubtful = mark.doubtful
        """In this boot a worker before this one may have been told that a flush failed, and not have noted it."""
        self.follows = mark.follows
        """In this boot the peer came to hold writes that this copy lacks, and the disk took no record of it."""
        self._read_flags = os.RWF_NOWAIT
        self._write_flags = os.RWF_NOWAIT
        self._write_credit = NOWAIT_CREDIT
        self._slow_until_s = 0.0
        self._flush_waiting: list[Request] = []
        self._flush_running = False
        self._closed = False

    # Requests

    def submit(self, batch: list[Request]) -> list[Request]:
        """Start these; returns those that finished at once. See `interfaces.Provider`."""
        finished: list[Request] = []
        inline = time.monotonic() >= self._slow_until_s
        index, count = 0, len(batch)
        while index < count:
            request = batch[index]
            index += 1
            op = request.op
            if op == WRITE:
                run = [request]
                if index < count and batch[index].offset == request.offset + request.length:
                    index = self._extend(run, batch, index)
                if inline:
                    inline = self._write_inline(run, finished)
                else:
                    self._pool.run(partial(self._write_in_thread, run, 0), run)
            elif op == READ:
                if inline and self._read_inline(request):
                    finished.append(request)
                else:
                    self._pool.run(partial(self._read_in_thread, request), [request])
            elif op == FLUSH:
                self._flush_waiting.append(request)
            else:
                self._pool.run(partial(self._zero_in_thread, request), [request])
        if self._flush_waiting and not self._flush_running:
            self._start_flush()
        return finished

    @staticmethod
    def _extend(run: list[Request], batch: list[Request], index: int) -> int:
        """Add to `run` the writes that continue it without a gap; returns the index after them."""
        first = run[0]
        end, limit = first.offset + first.length, first.offset + MAX_MERGED_BYTES
        while index < len(batch) and len(run) < MAX_MERGED_BUFFERS:
            request = batch[index]
            if request.op != WRITE or request.offset != end or end + request.length > limit:
                break
            run.append(request)
            end += request.length
            index += 1
        return index

    def _write_inline(self, run: list[Request], finished: list[Request]) -> bool:
        """Write a run from the reactor's thread; returns whether the next operation may be inline too."""
        first = run[0]
        total = run[-1].offset + run[-1].length - first.offset
        began_s = time.monotonic()
        written = 0
        try:
            if len(run) == 1 and not self._write_flags:
                written = os.pwrite(self._fd, _data(first), self._base + first.offset)
            else:
                buffers = [_data(request) for request in run]
                written = os.pwritev(self._fd, buffers, self._base + first.offset, self._write_flags)
        except BlockingIOError:
            self._write_credit -= 1
            if self._write_credit <= 0:
                self._write_flags = 0
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and self._write_flags:
                self._write_flags = 0
                return self._write_inline(run, finished)
            if len(run) == 1:
                self._fail(run, error)
                finished.extend(run)
                return True
        if written == total:
            if self._write_flags and self._write_credit < NOWAIT_CREDIT:
                self._write_credit += 1
            finished.extend(run)
        else:
            self._pool.run(partial(self._write_in_thread, run, written), run)
        return self._still_quick(began_s, SLOW_WRITE_S)

    def _still_quick(self, began_s: float, limit_s: float) -> bool:
        now_s = time.monotonic()
        if now_s - began_s <= limit_s:
            return True
        self._slow_until_s = now_s + SLOW_PERIOD_S
        return False

    @staticmethod
    def _fail(run: list[Request], error: OSError) -> None:
        for request in run:
            request.local_error = error.errno or errno.EIO

    def _read_inline(self, request: Request) -> bool:
        """Read from the page cache; False when that would sleep. An error is an outcome, too."""
        data = bytearray(request.length)
        began_s = 0.0 if self._read_flags else time.monotonic()
        try:
            if os.preadv(self._fd, [data], self._base + request.offset, self._read_flags) != request.length:
                return False
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and self._read_flags:
                self._read_flags = 0
                return False
            request.local_error = error.errno or errno.EIO
            return True
        request.data = data
        if not self._read_flags:
            self._still_quick(began_s, SLOW_READ_S)
        return True

    # In the threads

    def _write_in_thread(self, run: list[Request], skip: int) -> None:
        """Write the run but for its first `skip` bytes; where that fails, each request has its own outcome."""
        try:
            self._write_all([_data(request) for request in run], self._base + run[0].offset, skip)
        except OSError as error:
            if len(run) == 1:
                self._fail(run, error)
                return
            for request in run:
                self._write_in_thread([request], 0)

    def _write_all(self, buffers: list[Buffer], offset: int, skip: int) -> None:
        """Write all of `buffers` at `offset` of the provider, but for the first `skip` bytes. Raises OSError."""
        views = [memoryview(buffer) for buffer in buffers]
        while True:
            while views and skip >= len(views[0]):
                skip -= len(views[0])
                offset += len(views.pop(0))
            if not views:
                return
            written = os.pwritev(self._fd, [views[0][skip:], *views[1:]], offset + skip)
            if written == 0:
                raise OSError(errno.EIO, "short write")
            skip += written

    def _read_in_thread(self, request: Request) -> None:
        data = bytearray(request.length)
        view = memoryview(data)
        done = 0
        try:
            while done < request.length:
                received = os.preadv(self._fd, [view[done:]], self._base + request.offset + done)
                if received == 0:
                    raise OSError(errno.EIO, "short read")
                done += received
        except OSError as error:
            request.local_error = error.errno or errno.EIO
        else:
            request.data = data

    def _zero_in_thread(self, request: Request) -> None:
        """DELETE and ZERO: the range reads as zeros afterwards, on every copy."""
        try:
            self._zeroer.zero(self._base + request.offset, request.length)
        except OSError as error:
            request.local_error = error.errno or errno.EIO

    def _start_flush(self) -> None:
        """One fdatasync for all flushes that wait; those that come meanwhile wait for the next one."""
        batch, self._flush_waiting = self._flush_waiting, []
        self._flush_running = True
        self._mark.begin()
        self._pool.run(partial(self._flush_in_thread, batch), batch, partial(self._flush_done, batch))

    def _flush_in_thread(self, batch: list[Request]) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._fail(batch, error)

    def _flush_done(self, batch: list[Request]) -> None:
        self._flush_running = False
        self._mark.end(good=batch[0].local_error in (0, errno.EOPNOTSUPP))
        if self._flush_waiting and not self._closed:
            self._start_flush()

    def store(self, job: Store) -> None:
        """Carry out a durable write, in order; see `interfaces.Provider`."""
        self._stores.submit(job)

    def _store_done(self, job: Store, error: int) -> None:
        if error:
            self._mark.failed()
        elif job.metadata is not None and job.metadata.unflushed:
            self._mark.noted()
        if not error and job.metadata is not None and job.metadata.stale:
            self._mark.note_follows(False)
        self._stored(job, error)

    def note_follows(self) -> None:
        """To be known to the next worker, whatever becomes of this one."""
        self._mark.note_follows(True)

    @property
    def pending(self) -> int:
        """Operations and durable writes begun and not yet reported."""
        return self._pool.pending + self._stores.pending

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait for what is begun, at most `timeout_s`, and release the provider. After that nothing is reported."""
        self._closed = True
        threads_ended = self._pool.close(timeout_s) and self._stores.close(timeout_s)
        if threads_ended:
            self._mark.close()
            os.close(self._fd)


def _data(request: Request) -> Buffer:
    assert request.data is not None, f"{request} has no data"
    return request.data
