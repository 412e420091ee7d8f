"""A simulated host: the shell around one engine, with a disk, and everything it carries out taking its time."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from hast.replication.primary import Primary, Settings
from hast.replication.secondary import Secondary
from hast.replication.types import FLUSH, READ, WRITE, Event, Metadata, Request, Store
from hast.sim.disk import SECTOR_BYTES, STORE, Disk, Flush
from hast.sim.world import World

OPERATION_S = 0.004


class Watcher(Protocol):
    """Who compares what the engine does with what is true."""

    def executes(self, node: Node, request: Request) -> None:
        """This write of the data area is about to change the disk."""
        ...

    def fails(self, node: Node, request: Request) -> None:
        """This operation of the data area failed."""
        ...

    def writes_map(self, node: Node, job: Store) -> None:
        """This part of the map is about to be written."""
        ...

    def asks_store(self, node: Node, job: Store) -> None:
        """The engine asked for this durable write just now."""
        ...

    def happened(self, node: Node, event: Event) -> None:
        """The engine told of this just now."""
        ...

    def wrong(self, text: str) -> None:
        """A rule is broken."""
        ...


class Shell(Protocol):
    """Who carries what the engine says to the others."""

    def sent(self, node: Node) -> None: ...
    def event(self, node: Node, event: Event) -> None: ...
    def asked(self, node: Node, question: str) -> None: ...


class Node:
    """One host. `engine` is None while it is down or idle. The cluster sets `shell`, `watcher` and `on_finished`."""

    shell: Shell
    watcher: Watcher

    def __init__(self, world: World, name: str, metadata: Metadata) -> None:
        self.world = world
        self.name = name
        self.disk = Disk(metadata)
        self.rng = world.stream(f"node {name}")
        self.engine: Primary | Secondary | None = None
        self.boot_id = self.rng.getrandbits(128).to_bytes(16, "big")
        self.flush_doubtful = False
        """A worker of this boot may have been told of a failed flush, and not have noted it."""
        self.follows = False
        """In this boot the peer came to hold what this copy lacks, and the disk took no record of it."""
        self.life = 0
        """Counts engines: what an earlier one started is not reported to a later one."""
        self.up = True
        self.sync_seqs: set[int] = set()
        """Of the requests that reached this secondary: those that synchronise."""
        self.copied: dict[int, int] = {}
        """Sector → version, as a synchronisation wrote it."""
        self.on_finished: Callable[[Node, list[Request]], None] = lambda node, batch: None
        self._stores: deque[Store] = deque()
        self._storing = False
        self._writing: list[Request] = []
        self._flushing: list[Flush] = []
        self._reading: set[Request] = set()
        self._under_way = 0

    @property
    def metadata(self) -> Metadata:
        """What a worker reads, with what the run directory says."""
        meta = self.disk.metadata
        return replace(meta, stale=True) if self.follows else meta

    def start_primary(self, settings: Settings, force: bool = False) -> Primary:
        meta = self.metadata
        image = self.disk.map()
        resuid = self.rng.getrandbits(63) + 1
        self.stop()
        engine = Primary(
            settings,
            meta,
            image,
            sectorsize_bytes=SECTOR_BYTES,
            fresh_resuid=resuid,
            boot_id=self.boot_id,
            force=force,
            flush_doubtful=self.flush_doubtful,
            wall_offset_s=1e9,
        )
        engine.map._unit_bytes = SECTOR_BYTES
        self.engine = engine
        self._tick(self.life)
        self.pump()
        return engine

    def start_secondary(self, features: int) -> Secondary:
        self.stop()
        engine = self.engine = Secondary(
            self.metadata,
            self.disk.map(),
            sectorsize_bytes=SECTOR_BYTES,
            features=features,
            flush_doubtful=self.flush_doubtful,
            wall_offset_s=1e9,
        )
        if self.follows:
            engine.store_metadata("copy is stale")
        self.sync_seqs = set()
        self._tick(self.life)
        return engine

    @property
    def idle(self) -> bool:
        """A secondary has carried out all that it was given."""
        engine = self.engine
        if not isinstance(engine, Secondary):
            return True
        if not engine.idle or self._stores:
            return False
        if self._under_way:
            self.watcher.wrong(
                f"S10: the secondary on {self.name} is idle, with {self._under_way} operations under way"
            )
        return True

    @property
    def flushing(self) -> bool:
        """A flush of the data area is under way."""
        return bool(self._flushing)

    @property
    def storing(self) -> bool:
        """A durable write is under way."""
        return self._storing

    def stop(self) -> None:
        """The process ends; the kernel's cache lives on, and what it was just doing is carried out or not."""
        if self.up:
            for request in self._writing:
                if self.rng.random() < 0.5:
                    self.disk.execute(request)
            for flush in self._flushing:
                self._end_flush(flush)
            if self._storing and self.rng.random() < 0.5:
                self._write_job(self._stores[0])
        self.flush_doubtful = self.flush_doubtful or bool(self._flushing)
        self._flushing = []
        self.engine = None
        self.life += 1
        self._stores.clear()
        self._storing = False
        self._writing = []
        self._reading = set()
        self._under_way = 0

    def crash(self, keep: float) -> list[int]:
        """Power cut; returns the sectors of the data area whose newest content was lost."""
        self.stop()
        self.up = False
        self.flush_doubtful = self.follows = False
        self.world.note(f"{self.name}: power cut")
        return self.disk.crash(self.rng, keep)

    def boot(self) -> None:
        self.up = True
        self.boot_id = self.rng.getrandbits(128).to_bytes(16, "big")
        self.world.note(f"{self.name}: boots")

    def pump(self) -> None:
        """Carry out what the engine asked for."""
        engine = self.engine
        if engine is None:
            return
        effects = engine.effects
        if effects.follows:
            effects.follows, self.follows = False, True
        if effects.stores:
            stores, effects.stores = effects.stores, []
            for job in stores:
                self.watcher.asks_store(self, job)
            self._stores.extend(stores)
            self._next_store()
        if effects.local:
            local, effects.local = effects.local, []
            for request in local:
                self._execute(request)
        if effects.events:
            events, effects.events = effects.events, []
            for event in events:
                self.world.note(f"{self.name}: {event.name}: {event.text}")
                self.watcher.happened(self, event)
                self.shell.event(self, event)
        if effects.ask:
            questions, effects.ask = effects.ask, []
            for question in questions:
                self.shell.asked(self, question)
        if effects.finished:
            finished, effects.finished = effects.finished, []
            self.on_finished(self, finished)
        self.shell.sent(self)

    def _tick(self, life: int) -> None:
        engine = self.engine
        if life != self.life or engine is None:
            return
        now = self.world.now
        when_s = engine.tick(now)
        self.world.after(max(when_s - now, 0.001), self._tick, life)
        self.pump()

    def _delay_s(self) -> float:
        return self.rng.random() * OPERATION_S * self.disk.slowness

    # -- durable writes -----------------------------------------------------------------------------------------

    def _write_job(self, job: Store) -> int:
        if job.metadata is not None:
            self.disk.write_metadata(job.metadata)
            return 0
        self.watcher.writes_map(self, job)
        return self.disk.write(job.offset_bytes, job.data)

    def _next_store(self) -> None:
        if self._stores and not self._storing:
            self._storing = True
            self.world.after(self._delay_s(), self._written, self._stores[0], self.life)

    def _written(self, job: Store, life: int) -> None:
        if life != self.life:
            return
        if self.disk.fails(STORE):
            self._stored(job, -1, life)
            return
        version = self._write_job(job)
        if job.flush:
            self.world.after(self._delay_s(), self._stored, job, version, life)
        else:
            self._stored(job, version, life)

    def _stored(self, job: Store, version: int, life: int) -> None:
        if life != self.life or self.engine is None:
            return
        failed = version < 0 or self.disk.broken
        if job.flush and not failed:
            if job.metadata is not None:
                self.disk.store_metadata(job.metadata)
            else:
                self.disk.store(job.offset_bytes, job.data, version)
        self._storing = False
        self._stores.popleft()
        if job.metadata is not None and job.metadata.unflushed and not failed:
            self.flush_doubtful = False
        if job.metadata is not None and job.metadata.stale and not failed:
            self.follows = False
        self.engine.stored(job, errno.EIO if failed else 0, self.world.now)
        self._next_store()
        self.pump()

    # -- the data area ------------------------------------------------------------------------------------------

    def _execute(self, request: Request) -> None:
        self._under_way += 1
        if request.op == FLUSH:
            flush = self.disk.begin_flush()
            self._flushing.append(flush)
            self.world.after(self._delay_s(), self._flushed, request, flush, self.life)
            return
        self._check_order(request)
        if request.op != READ:
            self._writing.append(request)
        elif request.owner:
            self._reading.add(request)
        self.world.after(self._delay_s(), self._executed, request, self.life)

    def _check_order(self, request: Request) -> None:
        """S5: the engine never lets two overlapping writes be under way together, nor a write and a copying read."""
        if request.op == READ and not request.owner:
            return
        end = request.offset + request.length
        for other in self._writing:
            if other.offset < end and request.offset < other.offset + other.length:
                self.watcher.wrong(f"S5: {self.name} was given {request} while {other} is under way")
        if request.op != READ:
            for other in self._reading:
                if other.offset < end and request.offset < other.offset + other.length:
                    self.watcher.wrong(f"S5: {self.name} was given {request} while it is copied by {other}")

    def _flushed(self, request: Request, flush: Flush, life: int) -> None:
        if life != self.life:
            return
        self._flushing = [other for other in self._flushing if other is not flush]
        request.local_error = self._end_flush(flush)
        if request.local_error:
            self.watcher.fails(self, request)
        self._done(request)

    def _end_flush(self, flush: Flush) -> int:
        error = self.disk.fails(FLUSH)
        if error:
            self.flush_doubtful = True
            self.disk.fail_flush(flush)
        else:
            self.disk.end_flush(flush)
        return error

    def _executed(self, request: Request, life: int) -> None:
        if life != self.life:
            return
        if request.op != READ:
            self._writing.remove(request)
            self.watcher.executes(self, request)
        elif request.owner:
            self._reading.discard(request)
        request.local_error = self.disk.execute(request)
        if request.local_error:
            self.watcher.fails(self, request)
        elif request.op == WRITE and (request.owner or request.seq in self.sync_seqs):
            self.copied.update(self.disk.versions(request.offset, request.length))
        self._done(request)

    def _done(self, request: Request) -> None:
        assert self.engine is not None, "done without an engine"
        self._under_way -= 1
        self.engine.local_done([request], self.world.now)
        self.pump()
