"""Events in any order: no assertion fails, nothing is answered twice, and everything is answered in the end."""

from __future__ import annotations

from driver import EIO, EXTENT, EXTENTS, MAP, SECTOR, Rig, Shelf, image, metadata
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hast.format.constants import OUR_FEATURES, Feature, Replication, SyncSource
from hast.replication.core import Settings
from hast.replication.standing import OUTDATE_PEER
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Request

numbers = st.integers(0, 1000)
errors = st.sampled_from([0, 0, 0, 0, 0, 0, 0, EIO])
features = st.sampled_from([OUR_FEATURES, Feature.NONE])
bitmaps = st.sampled_from([image(), image(0, 1, 2), b"\xff" * MAP])


class PrimaryMachine(RuleBasedStateMachine):
    """A primary whose disk, peer, link and operator do as they please."""

    @initialize(
        mode=st.sampled_from(list(Replication)),
        arbiter=st.booleans(),
        stale=st.booleans(),
        resuid=st.sampled_from([0, 77]),
        on_disk=bitmaps,
    )
    def start(self, mode: Replication, arbiter: bool, stale: bool, resuid: int, on_disk: bytes) -> None:
        chosen = Settings(replication=mode, arbiter=arbiter, timeout_s=5.0)
        self.rig = Rig(metadata(stale=stale, resuid=resuid, keepdirty=2), on_disk, chosen, started=False)
        self.asked: list[Request] = []
        self.shaking = self.linked = False

    @property
    def engine(self):  # type: ignore[no-untyped-def]
        return self.rig.engine

    @rule(
        op=st.sampled_from([WRITE, WRITE, READ, FLUSH, ZERO, DELETE]),
        sector=st.integers(0, 40),
        sectors=st.sampled_from([1, 2, 8, 20]),
        fua=st.booleans(),
    )
    def submit(self, op: int, sector: int, sectors: int, fua: bool) -> None:
        length = 0 if op == FLUSH else sectors * SECTOR
        data = bytes(length) if op == WRITE else None
        request = Request(op, 0 if op == FLUSH else sector * SECTOR, length, data, fua=fua and op == WRITE)
        self.asked.append(request)
        self.rig.submit(request)

    @precondition(lambda self: self.rig.stores)
    @rule(error=errors)
    def store(self, error: int) -> None:
        broken = not self.engine.core.local_ok
        self.rig.store(EIO if broken else error)

    @precondition(lambda self: self.rig.local)
    @rule(number=numbers, error=errors)
    def finish_local(self, number: int, error: int) -> None:
        self.rig.finish_local(self.rig.local[number % len(self.rig.local)], error=error)

    @precondition(lambda self: self.rig.remote)
    @rule(number=numbers, error=errors, received=st.booleans())
    def reply(self, number: int, error: int, received: bool) -> None:
        remote = self.rig.remote
        item = remote[number % len(remote)]
        if received and item[5]:
            self.rig.reply(item[1], received=True)
        remote.remove(item)
        self.rig.reply(item[1], error, bytes(item[3]) if item[0] == READ and not error else None)

    @precondition(lambda self: not self.shaking and not self.linked)
    @rule()
    def begin_handshake(self) -> None:
        self.shaking = True
        self.rig.call(self.engine.begin_handshake)

    @precondition(lambda self: self.shaking and self.engine.hello_ready)
    @rule(chosen=features, secondary_leads=st.booleans(), bitmap=bitmaps, virgin=st.booleans())
    def attach(self, chosen: Feature, secondary_leads: bool, bitmap: bytes, virgin: bool) -> None:
        self.shaking, self.linked = False, True
        self.engine.second_hello()
        virgin = virgin and not secondary_leads
        peer = self.rig.peer(
            int(chosen),
            localcnt=int(secondary_leads),
            syncsrc=SyncSource.SECONDARY if secondary_leads else SyncSource.PRIMARY,
            virgin=virgin,
            bitmap=None if virgin else bitmap,
        )
        self.rig.call(self.engine.attach, peer)
        if self.rig.drops:
            self.lose()

    @precondition(lambda self: self.shaking or self.linked)
    @rule()
    def lose(self) -> None:
        self.shaking = self.linked = False
        self.rig.drops.clear()
        self.rig.lose()

    @rule(seconds=st.sampled_from([0.01, 1.0, 3.0, 11.0]))
    def tick(self, seconds: float) -> None:
        assert self.rig.tick(seconds) > self.rig.now
        if self.rig.drops and (self.shaking or self.linked):
            self.lose()

    @precondition(lambda self: not self.engine.why_not_release_disk())
    @rule()
    def release_disk(self) -> None:
        self.rig.call(self.engine.release_disk)

    @precondition(lambda self: self.engine.standing.disk_leaves)
    @rule(go_on=st.booleans())
    def drop_or_keep_disk(self, go_on: bool) -> None:
        if not go_on:
            self.rig.call(self.engine.keep_disk)
        elif self.engine.disk_released:
            self.rig.call(self.engine.drop_disk)

    @precondition(lambda self: not self.engine.core.local_ok and not self.rig.stores and not self.rig.local)
    @rule(everything=st.booleans(), doubtful=st.booleans())
    def take_disk(self, everything: bool, doubtful: bool) -> None:
        self.rig.call(self.engine.take_disk, everything, doubtful)

    @precondition(lambda self: self.rig.asked)
    @rule(agreed=st.booleans())
    def arbiter(self, agreed: bool) -> None:
        self.rig.asked.pop()
        self.rig.call(self.engine.answered, OUTDATE_PEER, agreed)

    @rule(freeze=st.booleans())
    def freeze_or_thaw(self, freeze: bool) -> None:
        if freeze:
            self.rig.call(self.engine.freeze, "test")
        else:
            self.rig.call(self.engine.thaw)

    @invariant()
    def answered_once_and_counted(self) -> None:
        if hasattr(self, "rig"):
            assert len({id(request) for request in self.rig.finished}) == len(self.rig.finished)
            assert self.engine.active == len(self.asked) - len(self.rig.finished)
            self.engine.status()

    def teardown(self) -> None:
        """Demotion: whatever happened, everything is answered and the engine comes to its end."""
        if not hasattr(self, "rig"):
            return
        rig = self.rig
        rig.call(self.engine.drain)
        if not self.linked:
            rig.lose()
        for _ in range(200):
            if self.engine.drained:
                break
            while rig.stores:
                rig.store(0 if self.engine.core.local_ok else EIO)
            rig.finish_local()
            rig.answer_remote()
            while rig.asked:
                rig.asked.pop()
                rig.call(self.engine.answered, OUTDATE_PEER, False)
            rig.tick(0.1)
        assert self.engine.drained, "the demotion does not end"
        assert len(rig.finished) == len(self.asked), "unanswered"
        assert not self.engine.core.pending or self.linked


PrimaryMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestPrimary = PrimaryMachine.TestCase


class SecondaryMachine(RuleBasedStateMachine):
    """A secondary and a primary that may send anything."""

    @initialize(chosen=features, localcnt=st.integers(0, 1), resuid=st.sampled_from([0, 77]))
    def start(self, chosen: Feature, localcnt: int, resuid: int) -> None:
        self.shelf = Shelf(metadata(localcnt=localcnt, resuid=resuid), features=chosen)
        self.shelf.hello()
        self.shelf.store_all()
        self.expected: list[int] = []

    @rule(
        op=st.sampled_from([WRITE, WRITE, READ, FLUSH, DELETE, ZERO, 5, 65, 66, 67, 68, 99]),
        sector=st.integers(0, EXTENTS * EXTENT // SECTOR + 4),
        sectors=st.sampled_from([0, 1, 2, 20]),
        whole=st.booleans(),
        memsync=st.booleans(),
    )
    def request(self, op: int, sector: int, sectors: int, whole: bool, memsync: bool) -> None:
        seq = len(self.expected) + 1
        if op != 5:
            self.expected.append(seq)
        data = bytes(sectors * SECTOR) if op == WRITE and whole else None
        self.shelf.request(op, seq, sector * SECTOR, sectors * SECTOR, data, memsync)

    @precondition(lambda self: self.shelf.stores)
    @rule()
    def store(self) -> None:
        self.shelf.store()

    @precondition(lambda self: self.shelf.local)
    @rule(number=numbers, error=errors)
    def finish_local(self, number: int, error: int) -> None:
        self.shelf.finish_local(self.shelf.local[number % len(self.shelf.local)], error=error)

    @rule(seconds=st.sampled_from([0.1, 40.0]))
    def tick(self, seconds: float) -> None:
        self.shelf.tick(seconds)

    def teardown(self) -> None:
        """Every request gets its final reply, once."""
        if hasattr(self, "shelf"):
            self.shelf.work()
            final = [seq for seq, error, received, _data in self.shelf.replies if error or not received]
            assert sorted(final) == self.expected
            assert self.shelf.engine.idle


SecondaryMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestSecondary = SecondaryMachine.TestCase
