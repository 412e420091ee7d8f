"""Engines driven by hand: every effect is carried out when the test says so, and not before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hast.format.constants import OUR_FEATURES, Command, Feature, SyncSource
from hast.replication.handshake import Accepted, SecondReplyValues, check_second_reply
from hast.replication.primary import Primary, Settings
from hast.replication.secondary import Secondary, SecondHello
from hast.replication.types import (
    DELETE,
    FLUSH,
    READ,
    WRITE,
    ZERO,
    Event,
    Lead,
    Metadata,
    Peer,
    Request,
    Store,
    WireReply,
    WireRequest,
)

SECTOR = 512
EXTENT = 4096
EXTENTS = 64
MAP = 512
OFFSET = 4096 + MAP
MIB = 1024 * 1024
EIO = 5
RESUID = 77
BOOT_A, BOOT_B = b"a" * 16, b"b" * 16
SYNC_BEGIN, SYNC_END, TAKE_LEAD, PING = (
    int(Command.SYNC_BEGIN),
    int(Command.SYNC_END),
    int(Command.TAKE_LEAD),
    int(Command.PING),
)
MARKS = (SYNC_BEGIN, SYNC_END, TAKE_LEAD, PING)


def metadata(**changes: Any) -> Metadata:
    """A small resource that has been connected before."""
    base = Metadata("test", EXTENT * EXTENTS, EXTENT, 4, OFFSET, resuid=RESUID)
    return replace(base, **changes)


def image(*extents: int) -> bytes:
    """An on-disk map with these extents marked."""
    data = bytearray(MAP)
    for extent in extents:
        data[extent >> 3] |= 1 << (extent & 7)
    return bytes(data)


def marked(data: bytes) -> set[int]:
    """The extents of an on-disk map."""
    return {n for n in range(len(data) * 8) if data[n >> 3] & (1 << (n & 7))}


class Disk:
    """A data area behind a cache: reads see the cache, `crash` leaves what a good flush covered.

    `failures` counts down the coming operations of a kind that fail. What a failed flush covered stays readable and is
    not tried again by the next one, as on Linux: only another write of it is.
    """

    def __init__(self, size: int = EXTENT * EXTENTS) -> None:
        self.data = bytearray(size)
        self.map = bytes(MAP)
        self.boot = 0
        self.failures: dict[int, int] = {}
        self.doubtful = False
        """A worker may have been told of a failed flush, and not have noted it."""
        self._medium = bytearray(size)
        self._cached: set[int] = set()

    def outcome(self, request: Request) -> int:
        """Carry a request out; returns an errno."""
        if self.failures.get(request.op):
            self.failures[request.op] -= 1
            if request.op == FLUSH:
                self._cached.clear()
                self.doubtful = True
            return EIO
        self.execute(request)
        return 0

    def execute(self, request: Request) -> None:
        start, end = request.offset, request.offset + request.length
        if request.op == READ:
            request.data = bytes(self.data[start:end])
            return
        if request.op == FLUSH:
            for sector in self._cached:
                place = slice(sector * SECTOR, (sector + 1) * SECTOR)
                self._medium[place] = self.data[place]
            self._cached.clear()
            return
        self.data[start:end] = request.data if request.op == WRITE and request.data else bytes(request.length)
        self._cached.update(range(start // SECTOR, -(-end // SECTOR)))

    def end(self, under_way: list[Request]) -> None:
        """The worker is killed: the flush that it waited for comes to its end, and nobody is told how."""
        for request in under_way:
            if request.op == FLUSH:
                self.outcome(request)

    def crash(self) -> None:
        """Power cut: the whole cache is lost."""
        self.boot += 1
        self.doubtful = False
        self.data[:] = self._medium
        self._cached.clear()

    def store(self, job: Store) -> None:
        if job.metadata is None:
            position = job.offset_bytes - 4096
            self.map = self.map[:position] + job.data + self.map[position + len(job.data) :]


class Rig:
    """A primary. `local`, `remote`, `stores`, `finished` hold what is asked for and not carried out yet."""

    def __init__(
        self,
        meta: Metadata | None = None,
        on_disk: bytes = bytes(MAP),
        settings: Settings | None = None,
        *,
        started: bool = True,
        boot_id: bytes = BOOT_A,
        force: bool = False,
        fresh_resuid: int = 99,
        disk: Disk | None = None,
        lead: Lead = Lead.AS_RECORDED,
    ) -> None:
        meta = meta or metadata()
        self.disk = disk or Disk(meta.datasize_bytes)
        self.disk.map = on_disk
        self.saved = meta
        self.now = 100.0
        self.local: list[Request] = []
        self.remote: list[WireRequest] = []
        self.stores: list[Store] = []
        self.finished: list[Request] = []
        self.events: list[Event] = []
        self.asked: list[str] = []
        self.drops: list[str] = []
        self.engine = Primary(
            settings or Settings(),
            meta,
            on_disk,
            boot_id=boot_id,
            fresh_resuid=fresh_resuid,
            force=force,
            flush_doubtful=self.disk.doubtful,
            lead=lead,
        )
        self.take()
        if started:
            self.store_all()

    # -- calls into the engine ------------------------------------------------------------------------------------

    def take(self) -> None:
        effects = self.engine.effects
        self.local += effects.local
        self.remote += effects.remote
        self.stores += effects.stores
        self.finished += effects.finished
        self.events += effects.events
        self.asked += effects.ask
        if effects.drop is not None:
            self.drops.append(effects.drop.reason)
        effects.local, effects.remote, effects.stores, effects.finished = [], [], [], []
        effects.events, effects.ask, effects.drop = [], [], None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        result = function(*arguments, self.now)
        self.take()
        return result

    def submit(self, *batch: Request) -> None:
        self.call(self.engine.submit, list(batch))

    def _one(self, op: int, offset: int, length: int, data: bytes | None = None, fua: bool = False) -> Request:
        request = Request(op, offset, length, data, fua=fua)
        self.submit(request)
        return request

    def write(self, offset: int, data: bytes | int = SECTOR, fua: bool = False) -> Request:
        data = bytes([1]) * data if isinstance(data, int) else data
        return self._one(WRITE, offset, len(data), data, fua)

    def read(self, offset: int, length: int = SECTOR) -> Request:
        return self._one(READ, offset, length)

    def zero(self, offset: int, length: int) -> Request:
        return self._one(ZERO, offset, length)

    def discard(self, offset: int, length: int) -> Request:
        return self._one(DELETE, offset, length)

    def flush(self) -> Request:
        return self._one(FLUSH, 0, 0)

    def tick(self, seconds: float = 0.0) -> float:
        self.now += seconds
        when: float = self.call(self.engine.tick)
        return when

    # -- carrying out ---------------------------------------------------------------------------------------------

    def store(self, error: int = 0) -> Store:
        """Carry out the oldest durable write."""
        job = self.stores.pop(0)
        if not error:
            self.disk.store(job)
            self.saved = job.metadata or self.saved
        self.call(self.engine.stored, job, error)
        return job

    def store_all(self) -> None:
        while self.stores:
            self.store()

    def finish_local(self, *requests: Request, error: int = 0) -> None:
        """Carry out these local operations, or all there are."""
        for request in requests or tuple(self.local):
            self.local.remove(request)
            request.local_error = error or self.disk.outcome(request)
            self.call(self.engine.local_done, [request])

    def reply(self, seq: int, error: int = 0, data: bytes | None = None, received: bool = False) -> None:
        self.call(self.engine.replies, [(seq, error, received, data)])

    def answer_remote(self, error: int = 0, data: bytes | None = None) -> None:
        """The peer answers everything that it was sent and has not answered yet."""
        while self.remote:
            item = self.remote.pop(0)
            if item[1]:
                given = data if data is not None else bytes(item[3])
                self.reply(item[1], error, given if item[0] == READ and not error else None)

    def work(self) -> None:
        """Carry everything out, successfully, until nothing is left to do."""
        while self.local or self.remote or self.stores:
            self.store_all()
            self.finish_local()
            self.answer_remote()

    def sent(self, *ops: int) -> list[WireRequest]:
        """What was sent to the peer of these commands (all but pings if none are given) and is not answered."""
        return [item for item in self.remote if (item[0] in ops if ops else item[0] != PING)]

    # -- the link -------------------------------------------------------------------------------------------------

    def peer(self, features: int = OUR_FEATURES, **changes: Any) -> Peer:
        values: dict[str, Any] = {
            "version": 2,
            "features": int(features),
            "datasize_bytes": self.engine.core.meta.datasize_bytes,
            "extentsize_bytes": EXTENT,
            "localcnt": 0,
            "remotecnt": 0,
            "syncsrc": SyncSource.PRIMARY,
            "virgin": False,
            "bitmap": bytes(MAP),
            "boot_id": BOOT_B if features else b"",
        }
        return Peer(**{**values, **changes})

    def attach(self, features: int = OUR_FEATURES, **changes: Any) -> None:
        """Handshake up to the point where the link is live; the synchronisation then begins."""
        self.call(self.engine.begin_handshake)
        self.store_all()
        assert self.engine.hello_ready
        self.engine.second_hello()
        self.call(self.engine.attach, self.peer(features, **changes))
        self.store_all()

    def connect(self, features: int = OUR_FEATURES, **changes: Any) -> None:
        """Handshake and synchronisation; afterwards the copies are in step and nothing is under way."""
        self.attach(features, **changes)
        self.work()
        assert not self.engine.sync.active

    def lose(self) -> None:
        """The link is gone, with everything that was on it."""
        self.remote.clear()
        self.call(self.engine.detach, "test")

    def event_names(self) -> list[str]:
        return [event.name for event in self.events]


class Shelf:
    """A secondary."""

    def __init__(
        self,
        meta: Metadata | None = None,
        on_disk: bytes = bytes(MAP),
        features: int = OUR_FEATURES,
        disk: Disk | None = None,
        fullsync: bool = False,
        lead: Lead = Lead.AS_RECORDED,
    ) -> None:
        meta = meta or metadata()
        self.disk = disk or Disk(meta.datasize_bytes)
        self.disk.map = on_disk
        self.saved = meta
        self.now = 100.0
        self.local: list[Request] = []
        self.replies: list[WireReply] = []
        self.stores: list[Store] = []
        self.events: list[Event] = []
        self.drops: list[str] = []
        doubtful = self.disk.doubtful
        self.engine = Secondary(
            meta, on_disk, features=int(features), flush_doubtful=doubtful, lead=lead, fullsync=fullsync
        )
        self.take()

    def take(self) -> None:
        effects = self.engine.effects
        self.local += effects.local
        self.replies += effects.replies
        self.stores += effects.stores
        self.events += effects.events
        if effects.drop is not None:
            self.drops.append(effects.drop.reason)
        effects.local, effects.replies, effects.stores, effects.events, effects.drop = [], [], [], [], None

    def hello(self, localcnt: int = 0, remotecnt: int = 0, resuid: int = RESUID, virgin: bool = False) -> Any:
        """Message 3; returns message 4 as far as it is ready."""
        self.engine.answer(SecondHello(resuid, localcnt, remotecnt, virgin), self.now)
        self.take()
        return self.engine.reply

    def ready(self) -> Shelf:
        """In step with its primary, map cleared."""
        self.hello()
        self.request(FLUSH, 1000)
        self.work()
        self.replies.clear()
        return self

    def requests(self, *batch: WireRequest) -> None:
        self.engine.requests(list(batch), self.now)
        self.take()

    def request(
        self,
        op: int,
        seq: int,
        offset: int = 0,
        length: int = 0,
        data: bytes | None = None,
        memsync: bool = False,
    ) -> None:
        self.requests((op, seq, offset, length, data, memsync))

    def store(self, error: int = 0) -> Store:
        job = self.stores.pop(0)
        if not error:
            self.disk.store(job)
            self.saved = job.metadata or self.saved
        self.engine.stored(job, error, self.now)
        self.take()
        return job

    def store_all(self) -> None:
        while self.stores:
            self.store()

    def finish_local(self, *requests: Request, error: int = 0) -> None:
        for request in requests or tuple(self.local):
            self.local.remove(request)
            request.local_error = error or self.disk.outcome(request)
            self.engine.local_done([request], self.now)
            self.take()

    def work(self) -> None:
        while self.local or self.stores:
            self.store_all()
            self.finish_local()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.engine.tick(self.now)
        self.take()


class Pair:
    """A primary and its secondary, each carrying out everything at once, or `step` by step."""

    def __init__(self, rig: Rig, shelf: Shelf, features: int = OUR_FEATURES) -> None:
        self.rig, self.shelf, self.features = rig, shelf, int(features)

    def connect(self) -> None:
        """The whole handshake; then everything there is to do. Raises Refused."""
        self.attach()
        self.run()

    def attach(self) -> None:
        """The whole handshake. Raises Refused."""
        rig, shelf = self.rig, self.shelf
        rig.remote.clear()
        shelf.replies.clear()
        rig.call(rig.engine.begin_handshake)
        rig.store_all()
        shelf.engine.answer(SecondHello(*rig.engine.second_hello()), shelf.now)
        shelf.take()
        shelf.store_all()
        reply = shelf.engine.reply
        assert reply is not None
        accepted = Accepted(2, b"t" * 16, Feature(self.features))
        boot_id = boot_of(BOOT_B, shelf.disk) if self.features and shelf.engine.cache_known else b""
        rig.call(
            rig.engine.attach,
            check_second_reply(SecondReplyValues(*reply, boot_id=boot_id), accepted, rig.engine.core.meta),
        )

    def run(self) -> None:
        """Until nothing is left to do."""
        rig, shelf = self.rig, self.shelf
        while rig.local or rig.remote or rig.stores or shelf.local or shelf.stores or shelf.replies:
            rig.store_all()
            rig.finish_local()
            batch, rig.remote = rig.remote, []
            shelf.requests(*batch)
            shelf.work()
            answers, shelf.replies = shelf.replies, []
            rig.call(rig.engine.replies, answers)

    def step(self) -> bool:
        """Carry out one thing, the same one in every run of a test; False when nothing is left to do."""
        rig, shelf = self.rig, self.shelf
        if rig.stores:
            rig.store()
        elif shelf.stores:
            shelf.store()
        elif rig.local:
            rig.finish_local(rig.local[0])
        elif shelf.local:
            shelf.finish_local(shelf.local[0])
        elif rig.remote:
            shelf.requests(rig.remote.pop(0))
        elif shelf.replies:
            rig.call(rig.engine.replies, [shelf.replies.pop(0)])
        else:
            return False
        return True

    def new_secondary(self) -> None:
        """The secondary's worker is replaced."""
        self.shelf = Shelf(self.shelf.saved, self.shelf.disk.map, self.features, self.shelf.disk)

    def new_primary(self) -> None:
        """The primary's worker is replaced."""
        old = self.rig
        settings, boot_id = old.engine.core.settings, boot_of(BOOT_A, old.disk)
        self.rig = Rig(old.saved, old.disk.map, settings, boot_id=boot_id, disk=old.disk)
        self.rig.now = old.now


def boot_of(host: bytes, disk: Disk) -> bytes:
    """What this host's kernel calls this boot."""
    return host[:-1] + bytes([disk.boot]) if disk.boot else host
