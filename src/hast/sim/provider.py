"""A disk as one worker has it open: what is under way on it, for how long, and what becomes of that when nobody waits
any more, because the worker died or the disk was given up.

Patience and who is told of what are the code that ships (`worker/disk/decisions/`). What a disk that hangs was given
may still be carried out, at any time after it answers again.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hast.replication.types import FLUSH, READ, WRITE, Request, Store
from hast.sim.disk import STORE, Disk, Flush
from hast.worker.disk.decisions.begun import Begun
from hast.worker.disk.decisions.patience import Patience

if TYPE_CHECKING:
    from hast.sim.node import Node

OPERATION_S = 0.004
DISK_TIMEOUT_S = 3.0
"""As `disk-timeout` of hast.conf. More than the slowest operation of a slow disk."""
LOOK_EVERY_S = 0.25
DYING_S = 0.4
"""So long what a killed process was in the middle of may go on in the kernel: longer than the next worker needs to
serve."""
LANDS = 0.5
"""The chance of an operation that nobody waits for to be carried out after all."""


class Provider:
    """Of one worker, or of one order to take a disk into service; `close` it before the next one."""

    def __init__(self, node: Node, disk: Disk) -> None:
        self.disk = disk
        self.given_up = False
        """It did not answer in time: nothing goes to it any more."""
        self._node = node
        self._world = node.world
        self._rng = node.rng
        self._begun = Begun()
        self._patience = Patience(DISK_TIMEOUT_S)
        self._closed = False
        self._retired = False
        self._stores: deque[Store] = deque()
        self._storing = 0
        """Number of the durable write that is under way, or 0."""
        self._writing: dict[int, Request] = {}
        self._flushing: dict[int, Flush] = {}
        self._reading: dict[int, Request] = {}
        self._world.after(LOOK_EVERY_S, self._look)

    # -- what is under way ------------------------------------------------------------------------------------------

    @property
    def flushing(self) -> bool:
        return bool(self._flushing)

    @property
    def storing(self) -> bool:
        return self._storing > 0

    @property
    def pending_stores(self) -> int:
        return len(self._stores)

    @property
    def under_way(self) -> int:
        """Operations on the data area."""
        return len(self._begun) - (self._storing > 0)

    @property
    def idle(self) -> bool:
        return not (self._stores or len(self._begun))

    def _begin(self, what: str, requests: list[Request]) -> int:
        number = self._begun.begin(requests)
        self._patience.begin(number, what, self._world.now)
        return number

    def _end(self, number: int) -> None:
        self._patience.end(number)
        self._patience.answered(self._world.now)
        assert self._begun.end(number) is not None, "ended twice"

    def _delay_s(self) -> float:
        return self._rng.random() * OPERATION_S * self.disk.slowness

    def _asleep(self, call: Callable[..., None], *arguments: object) -> bool:
        """The disk hangs: `call` goes on when it answers."""
        if self.disk.hung:
            self.disk.asleep.append(partial(call, *arguments))
        return self.disk.hung

    # -- nobody waits any more --------------------------------------------------------------------------------------

    def close(self, dying: bool = False) -> None:
        """The process ends. What it was just doing is carried out or not: at once, or, if the process is `dying` or the
        disk hangs, some time later."""
        self._closed = True
        if dying or self.disk.hung:
            self._leave()
            return
        if self._node.up:
            for request in self._writing.values():
                if self._rng.random() < LANDS:
                    self.disk.execute(request)
            for flush in self._flushing.values():
                self._end_flush(flush)
            if self._storing and self._rng.random() < LANDS:
                self._write_job(self._stores[0])

    def _leave(self) -> None:
        """What is under way ends some time, and nobody hears of it."""
        late: dict[int, Callable[[], int]] = {number: lambda: 0 for number in self._reading}
        for number, request in self._writing.items():
            data = None if request.data is None else bytes(request.data)
            late[number] = partial(self.disk.execute, Request(request.op, request.offset, request.length, data))
        for number, flush in self._flushing.items():
            late[number] = partial(self._end_flush, flush)
        if self._storing:
            late[self._storing] = partial(self._write_late, self._stores[0])
        for number, land in late.items():
            self.disk.late += 1
            if not self._asleep(self._land, number, land):
                self._world.after(self._rng.random() * DYING_S, self._land, number, land)
        self._writing, self._flushing, self._reading, self._storing = {}, {}, {}, 0

    def _land(self, number: int, land: Callable[[], int]) -> None:
        if not self.disk.late or self._asleep(self._land, number, land):  # a power cut ended it, or it hangs again
            return
        self.disk.late -= 1
        error = land() if self._rng.random() < LANDS else errno.EIO
        piece = self._begun.end(number)
        engine = self._node.engine
        if piece is not None and not self._closed and engine is not None:
            for request in piece.requests:
                request.local_error = error
            engine.local_done(list(piece.requests), self._world.now)
            self._node.pump()

    def _write_late(self, job: Store) -> int:
        if job.metadata is not None:
            self.disk.write_metadata(job.metadata)
            if job.metadata.stale:
                self._node.watcher.gives_way(self._node)
        else:
            self.disk.write(job.offset_bytes, job.data)
        return 0

    def _look(self) -> None:
        """As the worker's timer does."""
        if self._closed or self.given_up:
            return
        if self._patience.judge(self._world.now) is None:
            self._world.after(LOOK_EVERY_S, self._look)
        else:
            self._give_up()

    def _give_up(self) -> None:
        node, engine = self._node, self._node.engine
        assert engine is not None, "given up without an engine"
        self._world.note(f"{node.name}: the disk does not answer and is given up")
        self.given_up = node.flush_doubtful = True
        self._leave()
        node.disk_lost()
        requests = self._begun.give_up()
        stores, self._stores = list(self._stores), deque()
        for job in stores:
            engine.stored(job, errno.ETIMEDOUT, self._world.now)
        self._fail(requests, errno.ETIMEDOUT)
        if requests:
            engine.local_done(requests, self._world.now)
        node.pump()

    def _fail(self, requests: list[Request], error: int) -> None:
        for request in requests:
            request.local_error = error
            self.disk.failed += 1
            self._node.watcher.fails(self._node, request)

    # -- let go in order --------------------------------------------------------------------------------------------

    def retire(self, last: Store) -> None:
        """Begin nothing more but this last store."""
        self.store([last])
        self._retired = True

    def flush_for_good(self, after: Callable[[], None]) -> None:
        """Once it is retired and idle."""
        self._world.after(self._delay_s(), self._flushed_for_good, self.disk.begin_flush(), after)

    def _flushed_for_good(self, flush: Flush, after: Callable[[], None]) -> None:
        if not self._closed and not self._asleep(self._flushed_for_good, flush, after):
            self._end_flush(flush)
            after()

    # -- durable writes ---------------------------------------------------------------------------------------------

    def store(self, jobs: list[Store]) -> None:
        """In this order, after those before."""
        if self._retired or self.given_up:
            for job in jobs:
                engine = self._node.engine
                assert engine is not None
                engine.stored(job, errno.EIO, self._world.now)
            return
        self._stores.extend(jobs)
        self._next_store()

    def _write_job(self, job: Store) -> int:
        if job.metadata is not None:
            self.disk.write_metadata(job.metadata)
            return 0
        self._node.watcher.writes_map(self._node, job)
        return self.disk.write(job.offset_bytes, job.data)

    def _next_store(self) -> None:
        if self._stores and not self._storing:
            self._storing = self._begin(f"store '{self._stores[0].reason}'", [])
            self._world.after(self._delay_s(), self._written, self._stores[0], self._storing)

    def _is_over(self, number: int) -> bool:
        """Nobody waits for it here any more."""
        return self._closed or self.given_up or number == 0

    def _written(self, job: Store, number: int) -> None:
        if self._is_over(number) or self._asleep(self._written, job, number):
            return
        if self.disk.fails(STORE):
            self._stored(job, -1, number)
            return
        version = self._write_job(job)
        if job.flush:
            self._world.after(self._delay_s(), self._stored, job, version, number)
        else:
            self._stored(job, version, number)

    def _stored(self, job: Store, version: int, number: int) -> None:
        engine, node = self._node.engine, self._node
        if self._is_over(number) or engine is None or self._asleep(self._stored, job, version, number):
            return
        failed = version < 0 or self.disk.broken
        if job.flush and not failed:
            if job.metadata is not None:
                self.disk.store_metadata(job.metadata)
            else:
                self.disk.store(job.offset_bytes, job.data, version)
        self._end(number)
        self._storing = 0
        self._stores.popleft()
        if job.metadata is not None and not failed:
            node.noted(job.metadata)
        engine.stored(job, errno.EIO if failed else 0, self._world.now)
        self._next_store()
        node.pump()

    # -- the data area ----------------------------------------------------------------------------------------------

    def submit(self, batch: list[Request]) -> list[Request]:
        """Start these; returns those that failed at once."""
        if self._retired or self.given_up:
            self._fail(batch, errno.EIO)
            return batch
        for request in batch:
            self._execute(request)
        return []

    def _execute(self, request: Request) -> None:
        number = self._begin(str(request), [request])
        if request.op == FLUSH:
            flush = self._flushing[number] = self.disk.begin_flush()
            self._world.after(self._delay_s(), self._flushed, request, flush, number)
            return
        self._check_order(request)
        if request.op != READ:
            self._writing[number] = request
        else:
            self._reading[number] = request
        self._world.after(self._delay_s(), self._executed, request, number)

    def _check_order(self, request: Request) -> None:
        """S5: the engine never lets two overlapping writes be under way together, nor a write and a copying read."""
        name, wrong = self._node.name, self._node.watcher.wrong
        if request.op == READ and not request.owner:
            return
        end = request.offset + request.length
        for other in self._writing.values():
            if other.offset < end and request.offset < other.offset + other.length:
                wrong(f"S5: {name} was given {request} while {other} is under way")
        if request.op != READ:
            for other in self._reading.values():
                if other.owner and other.offset < end and request.offset < other.offset + other.length:
                    wrong(f"S5: {name} was given {request} while it is copied by {other}")

    def _flushed(self, request: Request, flush: Flush, number: int) -> None:
        if self._is_over(number) or self._asleep(self._flushed, request, flush, number):
            return
        del self._flushing[number]
        request.local_error = self._end_flush(flush)
        if request.local_error:
            self._node.watcher.fails(self._node, request)
        self._done(request, number)

    def _end_flush(self, flush: Flush) -> int:
        error = self.disk.fails(FLUSH)
        if error:
            self._node.flush_doubtful = True
            self.disk.fail_flush(flush)
        else:
            self.disk.end_flush(flush)
        return error

    def _executed(self, request: Request, number: int) -> None:
        if self._is_over(number) or self._asleep(self._executed, request, number):
            return
        node = self._node
        if request.op != READ:
            del self._writing[number]
            node.watcher.executes(node, request)
        else:
            del self._reading[number]
        request.local_error = self.disk.execute(request)
        if request.local_error:
            node.watcher.fails(node, request)
        elif request.op == WRITE and (request.owner or request.seq in node.sync_seqs):
            node.copied.update(self.disk.versions(request.offset, request.length))
        self._done(request, number)

    def _done(self, request: Request, number: int) -> None:
        self._end(number)
        assert self._node.engine is not None, "done without an engine"
        self._node.engine.local_done([request], self._world.now)
        self._node.pump()
