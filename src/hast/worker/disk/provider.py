"""The local provider: executes the requests and the durable writes of the engine.

Through the page cache reads are tried without waiting (RWF_NOWAIT) in the reactor's thread and go to a few threads when
they would sleep; writes go into the cache from the reactor's thread until one of them turns out slow, where the file
system has one and nothing is to be read for them (`writeback.py`); flushes, zeroes and everything else that sleeps goes
to the threads (`sleeping.py`), and so does everything while one of those is out for long. Where a disk is used past
the cache (`direct.py`), reads and writes are given to the kernel (`ring.py`), or to the threads where it has no ring.
A disk that hangs is given up for good: see `look`.
Decides nothing: overlap and order are the engine's business. `Request.fua` is the engine's business, too: it flushes
both copies. So is what a failed flush means; that it was heard of outlives this process (`flush_mark.py`).
Errors become errno values in `Request.local_error`; nothing raises out of `submit` and `store`.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from hast.config.model import DiskCache
from hast.daemon.logs import in_words
from hast.format.constants import Command
from hast.replication.types import FLUSH, READ, WRITE, Buffer, Lead, Request, Store
from hast.worker.disk import direct
from hast.worker.disk.decisions.cache import goes_past
from hast.worker.disk.decisions.patience import Hang, Patience
from hast.worker.disk.flush_mark import FlushMark
from hast.worker.disk.iopool import IoPool, Outcome
from hast.worker.disk.last_close import last_close
from hast.worker.disk.progress import Progress
from hast.worker.disk.provider_open import OpenedProvider
from hast.worker.disk.ring import DiskRing
from hast.worker.disk.sleeping import Sleeping
from hast.worker.disk.stores import StoreQueue
from hast.worker.disk.writeback import CachedPages, has_writeback
from hast.worker.interfaces import Reactor

SLOW_WRITE_S = 0.1
"""A write into the page cache that took longer sends the following operations to the threads …"""
SLOW_PERIOD_S = 1.0
"""… for so long."""
GOOD_FLUSHES = (0, errno.EOPNOTSUPP)
"""errno of a flush after which nothing is doubtful; a disk without a cache knows none."""
HUNG_CLOSE_S = 0.2
"""How long the end waits for the threads of a disk that was given up: they may be back by then."""
MAX_MERGED_BUFFERS = 256
MAX_MERGED_BYTES = 1024 * 1024
CACHED_THREADS = 4
NOWAIT_CREDIT = 64
"""Writes refused with EAGAIN, in excess of those that went through, before RWF_NOWAIT is given up for writes."""

Done = Callable[[list[Request]], None]
Stored = Callable[[Store, int], None]

log = logging.getLogger("hast.worker")


class LocalProvider:
    """Executes requests on an open provider; implements `interfaces.Provider`.

    `done` and `stored` are called in the reactor's thread. The number of requests in flight is bounded by the engine.
    """

    def __init__(
        self,
        opened: OpenedProvider,
        data_offset_bytes: int,
        reactor: Reactor,
        done: Done,
        stored: Stored,
        mark: FlushMark,
        disk_timeout_s: float = 0.0,
        disk_cache: DiskCache = DiskCache.AUTO,
    ) -> None:
        self.size_bytes = opened.size_bytes
        self.sector_size_bytes = opened.sector_size_bytes
        self.path = opened.path
        self._fd = opened.fd
        self._base = data_offset_bytes
        self._pages = CachedPages(opened.fd)
        self.hang: Hang | None = None
        """Why the disk was given up."""
        self._patience = Patience(disk_timeout_s)
        self._progress = Progress(opened.fd)
        self.past_cache = _past_cache(opened, disk_cache)
        self._sleeping = Sleeping(opened.fd, data_offset_bytes, self.past_cache)
        threads = direct.THREADS if self.past_cache else CACHED_THREADS
        self._pool = IoPool(reactor.call_soon_threadsafe, done, self._patience, threads)
        self._ring = self._make_ring(reactor, done) if self.past_cache else None
        self._stores = StoreQueue(
            opened.store_fd, reactor.call_soon_threadsafe, self._store_done, self._patience, self.past_cache
        )
        self._done = done
        self._stored = stored
        self._mark = mark
        self.flush_doubtful = mark.doubtful
        """In this boot a worker before this one may have been told that a flush failed, and not have noted it."""
        self._reads_inline = not self.past_cache
        self._writes_inline = not self.past_cache
        self.lead = mark.lead
        """Whose copy is the one to trust, as a worker of this boot left it to be known beside the disk."""
        self._write_flags = os.RWF_NOWAIT
        self._write_credit = NOWAIT_CREDIT
        self._slow_until_s = 0.0
        self._flush_waiting: list[Request] = []
        self._flush_running = False
        self._flush_errno: int | None = None
        """How the one that runs ended, before the reactor hears of it."""
        self._closed = False
        self._retired = False
        self._released = False

    @property
    def way(self) -> str:
        """By which reads and writes go: `cache`, `io_uring` or `threads`."""
        return "cache" if not self.past_cache else "threads" if self._ring is None else "io_uring"

    def _make_ring(self, reactor: Reactor, done: Done) -> DiskRing | None:
        try:
            return DiskRing(self._fd, self._base, reactor, self._patience, done, self._in_threads)
        except OSError as error:
            log.info("%s is read and written by threads, which is slower: %s.", self.path, in_words(error))
            return None

    # Requests

    def submit(self, batch: list[Request]) -> list[Request]:
        """Start these; returns those that finished at once. See `interfaces.Provider`."""
        if self.hang is not None or self._retired:
            return _failed(batch, errno.EIO)
        finished: list[Request] = []
        now_s = time.monotonic()
        inline = now_s >= self._slow_until_s and not self._patience.is_doubtful(now_s)
        index, count = 0, len(batch)
        while index < count:
            request = batch[index]
            index += 1
            op = request.op
            if op == WRITE:
                if inline and self._writes_inline:
                    after = self._write_plainly(batch, index - 1, finished, now_s)
                    if after >= index:
                        index, inline = after, now_s >= self._slow_until_s
                        continue
                run = [request]
                if index < count and batch[index].offset == request.offset + request.length:
                    index = self._extend(run, batch, index)
                if inline and self._writes_inline:
                    inline = self._write_inline(run, finished)
                else:
                    self._write_later(run, 0)
            elif op == READ:
                if inline and self._reads_inline and self._read_inline(request):
                    finished.append(request)
                elif self._ring is not None:
                    self._ring.read(request)
                else:
                    self._in_threads([request])
            elif op == FLUSH:
                self._flush_waiting.append(request)
            else:
                self._pages.forget()
                work = partial(self._sleeping.zero, request)
                self._pool.run(_words(request), work, [request], self._pages.forget)
        if self._ring is not None:
            self._ring.begin()
        if self._flush_waiting and not self._flush_running:
            self._start_flush()
        return finished

    def _write_plainly(self, batch: list[Request], start: int, finished: list[Request], now_s: float) -> int:
        """From `start` on: WRITEs that stand alone, each by one system call, until one is none or does not go smoothly.

        Returns the place of that one, which is as if it had not been tried. `now_s`: no later than the first begins.
        """
        fd, base, flags, reads_first = self._fd, self._base, self._write_flags, self._pages.reads_first
        place, last = start, len(batch) - 1
        while place <= last:
            request = batch[place]
            offset, length = request.offset, request.length
            if request.op != WRITE or (place < last and batch[place + 1].offset == offset + length):
                break
            if not flags and reads_first(base + offset, length, now_s):
                break
            try:
                if flags:
                    written = os.pwritev(fd, [_data(request)], base + offset, flags)
                else:
                    written = os.pwrite(fd, _data(request), base + offset)
            except OSError:
                break
            if written != length:
                break
            finished.append(request)
            place += 1
            began_s, now_s = now_s, time.monotonic()
            if now_s - began_s > SLOW_WRITE_S:
                self._be_slow(now_s)
                break
        if self._write_credit < NOWAIT_CREDIT:
            self._write_credit = min(NOWAIT_CREDIT, self._write_credit + place - start)
        return place

    def _be_slow(self, now_s: float) -> None:
        """A write into the page cache took long: others that wait for this thread are not to."""
        self._slow_until_s = now_s + SLOW_PERIOD_S

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
        if not self._write_flags and self._pages.reads_first(self._base + first.offset, total, began_s):
            self._write_later(run, 0)
            return True
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
                self._writes_inline = has_writeback(self._fd)
                if self._writes_inline:
                    return self._write_inline(run, finished)
                self._write_later(run, 0)
                return True
            if len(run) == 1:
                finished.extend(_failed(run, error.errno or errno.EIO))
                return True
        if written == total:
            if self._write_flags and self._write_credit < NOWAIT_CREDIT:
                self._write_credit += 1
            finished.extend(run)
        else:
            self._write_later(run, written)
        now_s = time.monotonic()
        if now_s - began_s <= SLOW_WRITE_S:
            return True
        self._be_slow(now_s)
        return False

    def _write_later(self, run: list[Request], skip: int) -> None:
        """Write a run, but for its first `skip` bytes, without sleeping here."""
        if self._ring is not None:
            self._ring.write(run)
        else:
            self._in_threads(run, skip)

    def _in_threads(self, run: list[Request], skip: int = 0) -> None:
        """Read one, or write a run but for its first `skip` bytes."""
        first = run[0]
        if first.op == READ:
            self._pool.run(_words(first), partial(self._sleeping.read, first), run)
            return
        buffers = [_data(request) for request in run]
        self._pool.run(_words(first), partial(self._sleeping.write, buffers, first.offset, skip), run)

    def _read_inline(self, request: Request) -> bool:
        """Read from the page cache; False when that would sleep. An error is an outcome, too."""
        data = bytearray(request.length)
        try:
            if os.preadv(self._fd, [data], self._base + request.offset, os.RWF_NOWAIT) != request.length:
                return False
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                self._reads_inline = False
                return False
            request.local_error = error.errno or errno.EIO
            return True
        request.data = data
        return True

    def _start_flush(self) -> None:
        """One fdatasync for all flushes that wait; those that come meanwhile wait for the next one."""
        batch, self._flush_waiting = self._flush_waiting, []
        self._flush_running = True
        self._flush_errno = None
        self._mark.begin()
        self._pool.run("flush", partial(self._flush_in_thread, len(batch)), batch, partial(self._flush_done, batch))

    # In a thread

    def _flush_in_thread(self, count: int) -> list[Outcome] | None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._flush_errno = error.errno or errno.EIO
            return [Outcome(self._flush_errno)] * count
        self._flush_errno = 0
        return None

    def _flush_done(self, batch: list[Request]) -> None:
        self._flush_running = False
        self._mark.end(good=batch[0].local_error in GOOD_FLUSHES)
        if self._flush_waiting and not self._closed:
            self._start_flush()

    def store(self, job: Store) -> None:
        """Carry out a durable write, in order; see `interfaces.Provider`."""
        if self.hang is None and not self._retired:
            self._stores.submit(job)
        else:
            self._store_done(job, errno.EIO)

    def _store_done(self, job: Store, error: int) -> None:
        if error:
            self._mark.failed()
        elif job.metadata is not None and job.metadata.unflushed:
            self._mark.noted()
        if not error and job.metadata is not None and job.metadata.stale:
            self._mark.note_lead(Lead.AS_RECORDED)
        self._stored(job, error)

    def note_lead(self, lead: Lead) -> None:
        """To be known to the next worker, whatever becomes of this one."""
        self._mark.note_lead(lead)

    # A disk that hangs

    @property
    def disk_timeout_s(self) -> float:
        """How long an operation may take; 0 is any time."""
        return self._patience.limit_s

    @disk_timeout_s.setter
    def disk_timeout_s(self, limit_s: float) -> None:
        self._patience.limit_s = limit_s

    def look(self, lost: Callable[[Hang], None] | None = None) -> Hang | None:
        """Ask now and then. When an operation took too long the disk is given up: all that is under way ends with
        ETIMEDOUT, all that follows fails at once, and what a thread brings back later is dropped. Told once, to `lost`
        before anything fails."""
        now_s = time.monotonic()
        if self._patience.is_doubtful(now_s) and self._progress.moved():
            self._patience.answered(now_s)
        hang = self._patience.judge(now_s) if self.hang is None and not self._closed else None
        if hang is not None:
            self.hang = hang
            if lost is not None:
                lost(hang)
            self._give_up()
        return hang

    def _give_up(self) -> None:
        self._sleeping.give_up()
        self._mark.failed()
        requests = self._pool.abandon() + self._flush_waiting
        if self._ring is not None:
            requests += self._ring.abandon()
        self._flush_waiting = []
        for job in self._stores.abandon():
            self._store_done(job, errno.ETIMEDOUT)
        if requests:
            self._done(_failed(requests, errno.ETIMEDOUT))

    def retire(self, last: Store) -> None:
        """Begin nothing more but this last store."""
        self._stores.submit(last)
        self._retired = True

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not (self.pending or self._flush_waiting)

    def flush_for_good(self, after: Callable[[], None]) -> None:
        """Once it is retired and idle; `after` is called, unless it hangs."""
        self._pool.run("flush", self._last_flush, after=after)

    def _last_flush(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:
            self._mark.failed()

    @property
    def pending(self) -> int:
        """Operations and durable writes begun and not yet reported."""
        in_ring = self._ring.pending if self._ring is not None else 0
        return self._pool.pending + self._stores.pending + in_ring

    def close(self, timeout_s: float = 5.0) -> bool:
        """Wait for what is begun, at most `timeout_s`, and release the provider. After that nothing is reported.

        Again and again if need be. False when it still owes an answer: then it stays open, and locked, until that
        comes, so that what is written at last meets nobody else's data.
        """
        if self._released:
            return True
        self._closed = True
        if self.hang is not None:
            timeout_s = HUNG_CLOSE_S
        if self._ring is not None and not self._ring.close(timeout_s):
            return False
        pools_ended = self._pool.close(timeout_s)
        if not self._stores.end(timeout_s) or not pools_ended:
            return False
        if self._flush_running and self._flush_errno is not None:  # it ended, and nobody is told any more
            self._mark.end(good=self._flush_errno in GOOD_FLUSHES)
        self._mark.close()
        closing = threading.Thread(target=self._release, name="close", daemon=True)
        closing.start()
        closing.join(timeout_s)
        self._released = not closing.is_alive()
        return self._released

    def _release(self) -> None:
        self._stores.release()
        if said := last_close(self._fd):
            log.warning("Unable to close %s: %s; it is let go all the same.", self.path, said)


def _past_cache(opened: OpenedProvider, setting: DiskCache) -> bool:
    if not goes_past(setting, opened.is_block_device, os.major(os.fstat(opened.fd).st_rdev)):
        return False
    if direct.bypass(opened.fd, opened.store_fd):
        return True
    log.warning("%s cannot be used without the page cache; it is used with it (hast.conf, disk-cache).", opened.path)
    return False


def _data(request: Request) -> Buffer:
    assert request.data is not None, f"{request} has no data"
    return request.data


def _failed(batch: list[Request], error: int) -> list[Request]:
    for request in batch:
        request.local_error = error
    return batch


def _words(request: Request) -> str:
    return f"{Command(request.op).name} at {request.offset}"
