"""A simulated host: the shell around one engine, with a disk, and everything it carries out taking its time."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from hast.replication.primary import Primary, Settings
from hast.replication.secondary import Secondary
from hast.replication.standing import OUTDATE_PEER
from hast.replication.types import FLUSH, READ, Effects, Metadata, Request, Store
from hast.sim.disk import Disk, Flush
from hast.sim.world import World

MAP_OFFSET_BYTES = 4096
OPERATION_S = 0.004


class Node:
    """One host. `engine` is None while it is down or idle. The cluster sets the callbacks."""

    def __init__(self, world: World, name: str, metadata: Metadata) -> None:
        self.world = world
        self.name = name
        self.disk = Disk(metadata)
        self.engine: Primary | Secondary | None = None
        self.boot_id = world.rng.randbytes(16)
        self.flush_doubtful = False
        """A worker of this boot may have been told of a failed flush, and not have noted it."""
        self._flushing = 0
        self.life = 0
        """Counts engines: what an earlier one started is not reported to a later one."""
        self.up = True
        self.on_sent: Callable[[Node], None] = lambda node: None
        self.on_finished: Callable[[list[Request]], None] = lambda batch: None
        self.arbiter: Callable[[Node], bool] = lambda node: True
        self._stores: deque[Store] = deque()
        self._storing = False
        self._writing: list[Request] = []

    def start_primary(self, settings: Settings, force: bool = False) -> Primary:
        meta = self.disk.metadata
        image = self.disk.read(MAP_OFFSET_BYTES, meta.offset_bytes - MAP_OFFSET_BYTES)
        resuid = self.world.rng.getrandbits(63) + 1
        self.stop()
        engine = Primary(
            settings,
            meta,
            image,
            fresh_resuid=resuid,
            boot_id=self.boot_id,
            force=force,
            flush_doubtful=self.flush_doubtful,
        )
        self.engine = engine
        self._tick(self.life)
        self.pump()
        return engine

    def start_secondary(self, features: int) -> Secondary:
        self.stop()
        meta = self.disk.metadata
        image = self.disk.read(MAP_OFFSET_BYTES, meta.offset_bytes - MAP_OFFSET_BYTES)
        engine = self.engine = Secondary(meta, image, features=features, flush_doubtful=self.flush_doubtful)
        self._tick(self.life)
        return engine

    @property
    def idle(self) -> bool:
        """A secondary has carried out all that it was given."""
        engine = self.engine
        return not isinstance(engine, Secondary) or (engine.idle and not self._stores)

    def stop(self) -> None:
        """The process ends; the kernel's cache lives on, and what it was just doing is carried out or not."""
        if self.up:
            for request in self._writing:
                if self.world.rng.random() < 0.5:
                    self.disk.execute(request)
            if self._storing and self.world.rng.random() < 0.5:
                self._write_job(self._stores[0])
        self.flush_doubtful = self.flush_doubtful or self._flushing > 0
        self._flushing = 0
        self.engine = None
        self.life += 1
        self._stores.clear()
        self._storing = False
        self._writing = []

    def crash(self) -> None:
        """Power cut."""
        self.stop()
        self.up = False
        self.flush_doubtful = False
        self.disk.crash(self.world.rng)
        self.world.note(f"{self.name}: power cut")

    def boot(self) -> None:
        self.up = True
        self.boot_id = self.world.rng.randbytes(16)
        self.world.note(f"{self.name}: boots")

    def pump(self) -> None:
        """Carry out what the engine asked for."""
        engine = self.engine
        if engine is None:
            return
        effects: Effects = engine.effects
        if effects.stores:
            self._stores.extend(effects.stores)
            effects.stores = []
            self._next_store()
        local, effects.local = effects.local, []
        for request in local:
            self._execute(request, self.life)
        for event in effects.events:
            self.world.note(f"{self.name}: {event.name}: {event.text}")
        effects.events = []
        for question in effects.ask:
            self._ask(question, self.life)
        effects.ask = []
        finished, effects.finished = effects.finished, []
        if finished:
            self.on_finished(finished)
        self.on_sent(self)

    def _ask(self, question: str, life: int) -> None:
        assert question == OUTDATE_PEER, "an unknown question to the arbiter"

        def answer() -> None:
            if life == self.life and isinstance(self.engine, Primary):
                self.engine.answered(question, self.arbiter(self), self.world.now)
                self.pump()

        self.world.soon(answer, 0.05)

    def _tick(self, life: int) -> None:
        engine = self.engine
        if life != self.life or engine is None:
            return
        when = engine.tick(self.world.now)
        self.world.after(max(when - self.world.now, 0.001), lambda: self._tick(life))
        self.pump()

    def _soon(self, call: Callable[[], None]) -> None:
        self.world.soon(call, OPERATION_S * self.disk.slowness)

    # -- durable writes -----------------------------------------------------------------------------------------

    def _write_job(self, job: Store) -> None:
        if job.metadata is not None:
            self.disk.write_metadata(job.metadata)
        else:
            self.disk.write(job.offset_bytes, job.data)

    def _next_store(self) -> None:
        if self._storing or not self._stores:
            return
        self._storing = True
        job, life = self._stores[0], self.life

        def written() -> None:
            if life != self.life:
                return
            if self.disk.broken:
                done(None)
                return
            self._write_job(job)
            if job.flush:
                flush = self.disk.begin_flush()
                self._soon(lambda: done(flush))
            else:
                done(None)

        def done(flush: Flush | None) -> None:
            if life != self.life or self.engine is None:
                return
            if flush is not None:
                self.disk.end_flush(flush)
            self._storing = False
            self._stores.popleft()
            if job.metadata is not None and job.metadata.unflushed and not self.disk.broken:
                self.flush_doubtful = False
            self.engine.stored(job, errno.EIO if self.disk.broken else 0, self.world.now)
            self._next_store()
            self.pump()

        self._soon(written)

    # -- the data area ------------------------------------------------------------------------------------------

    def _execute(self, request: Request, life: int) -> None:
        if request.op == FLUSH:
            flush = self.disk.begin_flush()
            self._flushing += 1
            self._soon(lambda: self._flushed(request, flush, life))
            return
        if request.op != READ:
            self._check_order(request)
            self._writing.append(request)
        self._soon(lambda: self._executed(request, life))

    def _check_order(self, request: Request) -> None:
        """S5: the engine never lets two overlapping writes be under way together."""
        end = request.offset + request.length
        for other in self._writing:
            overlap = other.offset < end and request.offset < other.offset + other.length
            assert not overlap, f"S5: {self.name} was given {request} while {other} is under way"

    def _flushed(self, request: Request, flush: Flush, life: int) -> None:
        if life != self.life or self.engine is None:
            return
        self._flushing -= 1
        request.local_error = self.disk.fails(FLUSH)
        if request.local_error:
            self.flush_doubtful = True
            self.disk.fail_flush(flush)
        else:
            self.disk.end_flush(flush)
        self._done(request)

    def _executed(self, request: Request, life: int) -> None:
        if life != self.life or self.engine is None:
            return
        if request.op != READ:
            self._writing.remove(request)
            self._check_marked(request)
        request.local_error = self.disk.execute(request)
        self._done(request)

    def _check_marked(self, request: Request) -> None:
        """S1: on the primary, the extents of a write are marked on the medium before the write begins."""
        if not isinstance(self.engine, Primary):
            return
        meta = self.disk.metadata
        durable = self.disk.durable_read(MAP_OFFSET_BYTES, meta.offset_bytes - MAP_OFFSET_BYTES)
        first = request.offset // meta.extentsize_bytes
        last = (request.offset + request.length - 1) // meta.extentsize_bytes
        for extent in range(first, last + 1):
            marked = durable[extent >> 3] & (1 << (extent & 7))
            assert marked, f"S1: {self.name} writes extent {extent}, which is not marked on the disk"

    def _done(self, request: Request) -> None:
        assert self.engine is not None, "done without an engine"
        self.engine.local_done([request], self.world.now)
        self.pump()
