"""A simulated host: the shell around one engine, with a disk, and everything it carries out taking its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hast.replication.primary import Primary, Settings
from hast.replication.promotion import as_led
from hast.replication.secondary import Secondary
from hast.replication.types import Event, Lead, Metadata, Request, Store
from hast.sim.disk import SECTOR_BYTES, Disk
from hast.sim.provider import Provider
from hast.sim.world import World


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

    def gives_way(self, node: Node) -> None:
        """Its disk was taken out of service just now, or says what a worker that is dead wrote: that it is stale."""
        ...

    def wrong(self, text: str) -> None:
        """A rule is broken."""
        ...


class Shell(Protocol):
    """Who carries what the engine says to the others."""

    def sent(self, node: Node) -> None: ...
    def event(self, node: Node, event: Event) -> None: ...
    def asked(self, node: Node, question: str) -> None: ...
    def disk_hung(self, node: Node) -> None: ...


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
        self.lead = Lead.AS_RECORDED
        """What a worker of this boot left to be known beside the disk."""
        self.life = 0
        """Counts engines: what an earlier one started is not reported to a later one."""
        self.up = True
        self.gone: list[int] = []
        """The sectors whose newest content a power cut took."""
        self.sync_seqs: set[int] = set()
        """Of the requests that reached this secondary: those that synchronise."""
        self.copied: dict[int, int] = {}
        """Sector → version, as a synchronisation wrote it."""
        self.on_finished: Callable[[Node, list[Request]], None] = lambda node, batch: None
        self.provider = Provider(self, self.disk)
        """The disk as the worker has it open."""
        self.detached = False
        """The operator took the disk out of service."""

    @property
    def metadata(self) -> Metadata:
        """What a worker reads, with what the run directory says."""
        return as_led(self.disk.metadata, self.lead)

    def start_primary(self, settings: Settings, force: bool = False) -> Primary:
        meta = self.metadata
        image = self.disk.map()
        resuid = self.rng.getrandbits(63) + 1
        self.stop()
        self.open_disk()
        engine = Primary(
            settings,
            meta,
            image,
            sectorsize_bytes=SECTOR_BYTES,
            fresh_resuid=resuid,
            boot_id=self.boot_id,
            force=force,
            flush_doubtful=self.flush_doubtful,
            lead=self.lead,
            wall_offset_s=1e9,
        )
        engine.map._unit_bytes = SECTOR_BYTES
        self.engine = engine
        self._tick(self.life)
        self.pump()
        return engine

    def start_secondary(self, features: int) -> Secondary:
        self.stop()
        self.open_disk()
        engine = self.engine = Secondary(
            self.metadata,
            self.disk.map(),
            sectorsize_bytes=SECTOR_BYTES,
            features=features,
            flush_doubtful=self.flush_doubtful,
            lead=self.lead,
            wall_offset_s=1e9,
        )
        self.sync_seqs = set()
        self._tick(self.life)
        return engine

    @property
    def idle(self) -> bool:
        """A secondary has carried out all that it was given."""
        engine = self.engine
        if not isinstance(engine, Secondary):
            return True
        if not engine.idle or self.provider.pending_stores:
            return False
        if self.provider.under_way:
            count = self.provider.under_way
            self.watcher.wrong(f"S10: the secondary on {self.name} is idle, with {count} operations under way")
        return True

    @property
    def left_something(self) -> bool:
        """What a worker that is gone gave the disk may still be carried out."""
        return self.disk.late > 0

    @property
    def has_disk(self) -> bool:
        """A worker that begins now can use it."""
        return not (self.disk.hung or self.left_something or self.detached)

    @property
    def flushing(self) -> bool:
        """A flush of the data area is under way."""
        return self.provider.flushing

    @property
    def storing(self) -> bool:
        """A durable write is under way."""
        return self.provider.storing

    def open_disk(self) -> None:
        """By a worker that begins, or that takes a disk into service."""
        self.provider.close()
        self.provider = Provider(self, self.disk)

    def stop(self, dying: bool = False) -> None:
        """The process ends; the kernel's cache lives on, and what it was just doing is carried out or not. `dying`: it
        was killed, and takes its time to be gone."""
        doubtful = self.flushing
        self.provider.close(dying)
        self.flush_doubtful = self.flush_doubtful or doubtful
        self.provider = Provider(self, self.disk)
        self.engine = None
        self.life += 1

    def crash(self, keep: float) -> list[int]:
        """Power cut; returns the sectors of the data area whose newest content was lost."""
        self.stop()
        self.up = False
        self.flush_doubtful = self.detached = False
        self.lead = Lead.AS_RECORDED
        self.world.note(f"{self.name}: power cut")
        gone = self.disk.crash(self.rng, keep)
        self.gone = sorted({*self.gone, *gone})
        return gone

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
        if effects.lead is not None:
            self.lead, effects.lead = effects.lead, None
        if effects.stores:
            stores, effects.stores = effects.stores, []
            for job in stores:
                self.watcher.asks_store(self, job)
            self.provider.store(stores)
        if effects.local:
            local, effects.local = effects.local, []
            failed = self.provider.submit(local)
            if failed:
                engine.local_done(failed, self.world.now)
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
        if effects.stores or effects.local:  # what went to a disk that is out of service failed at once
            self.pump()

    def noted(self, metadata: Metadata) -> None:
        """The disk says this durably: what outlives a worker has not to say it any more."""
        self.flush_doubtful = self.flush_doubtful and not metadata.unflushed
        self.lead = Lead.AS_RECORDED if metadata.stale else self.lead

    def disk_lost(self) -> None:
        """The worker gives its disk up; what it was given fails next."""
        engine = self.engine
        if isinstance(engine, Primary):
            engine.disk_lost("it does not answer", self.world.now)
        self.shell.disk_hung(self)

    def swap_disk(self, metadata: Metadata) -> None:
        """Another disk, with other things on it, in the place of this one. Nobody uses either."""
        self.disk = Disk(metadata)
        self.disk.recreate(metadata, self.rng)
        self.flush_doubtful, self.lead = False, Lead.AS_RECORDED

    def _tick(self, life: int) -> None:
        engine = self.engine
        if life != self.life or engine is None:
            return
        now = self.world.now
        when_s = engine.tick(now)
        self.world.after(max(when_s - now, 0.001), self._tick, life)
        self.pump()
