"""Durable writes of the activemap and the metadata block, strictly in the order the engine issued them.

One thread writes, and writes only outside the data area. A job that asks for a flush is written with RWF_DSYNC, which
makes that job durable without waiting for all of the data area's dirty pages.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial

from hast.format import metadata as metadata_format
from hast.replication.types import Store
from hast.worker.disk import direct
from hast.worker.disk.decisions.patience import Patience
from hast.worker.disk.iopool import IoPool
from hast.worker.disk.last_close import last_close


class StoreQueue:
    """`stored(job, error)` is called in the reactor's thread, in order. Takes the descriptor."""

    def __init__(
        self,
        fd: int,
        call_soon_threadsafe: Callable[[Callable[[], None]], None],
        stored: Callable[[Store, int], None],
        patience: Patience,
        past_cache: bool = False,
    ) -> None:
        self._fd = fd
        self._past_cache = past_cache
        self._stored = stored
        self._pool = IoPool(call_soon_threadsafe, lambda _batch: None, patience, threads=1)
        self._waiting: list[Store] = []
        self._batch: list[Store] = []
        self._abandoned = False

    @property
    def pending(self) -> int:
        """Jobs waiting, plus one for the batch that is being written."""
        return len(self._waiting) + bool(self._batch)

    def submit(self, job: Store) -> None:
        self._waiting.append(job)
        if not self._batch:
            self._start()

    def abandon(self) -> list[Store]:
        """Wait for nothing any more: returns the jobs not reported, which never will be. What follows the one that is
        being written is not begun."""
        self._abandoned = True
        self._pool.abandon()
        jobs = self._batch + self._waiting
        self._batch, self._waiting = [], []
        return jobs

    def end(self, timeout_s: float) -> bool:
        """Wait for the jobs begun; False when they take longer than `timeout_s`."""
        return self._pool.close(timeout_s)

    def release(self) -> None:
        """After `end`. May sleep in the disk. A failure concerns nobody: what has to be durable was written so."""
        last_close(self._fd)

    def _start(self) -> None:
        batch, self._batch, self._waiting = self._waiting, self._waiting, []
        errors: list[int] = []
        work = partial(self._write_batch, batch, errors)
        self._pool.run(f"durable write '{batch[0].reason}'", work, after=lambda: self._finish(batch, errors))

    def _finish(self, batch: list[Store], errors: list[int]) -> None:
        self._batch = []
        if self._waiting:
            self._start()
        for job, error in zip(batch, errors, strict=True):
            self._stored(job, error)

    def _write_batch(self, batch: list[Store], errors: list[int]) -> None:
        for job in batch:
            errors.append(errno.EIO if self._abandoned else self._write(job))

    def _write(self, job: Store) -> int:
        """0 or an errno."""
        data = job.data if job.metadata is None else metadata_format.encode(job.metadata)
        write = direct.write if self._past_cache else os.pwritev
        try:
            view = memoryview(data)
            offset = job.offset_bytes if job.metadata is None else 0
            while view:
                written = write(self._fd, [view], offset, os.RWF_DSYNC if job.flush else 0)
                if written == 0:
                    return errno.EIO
                view, offset = view[written:], offset + written
        except OSError as error:
            return error.errno or errno.EIO
        return 0
