"""A flush that failed (S2, S8, S9): the kernel tells it once, shows what the medium lacks, and does not try again.

Each story is an explicit sequence of events: that of seeds which once failed in the simulator, or one beside them. It
is told again with a worker killed, or a host's power cut, after each of its steps.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver import EIO, EXTENT, MAP, SECTOR, SYNC_BEGIN, SYNC_END, TAKE_LEAD, Disk, Pair, Rig, Shelf, image, metadata

from hast.format.constants import OUR_FEATURES, Feature, Replication, SyncSource
from hast.replication.core import SYNC, Settings
from hast.replication.types import FLUSH, WRITE, Request

A, B, C = (letter * SECTOR for letter in (b"a", b"b", b"c"))
EXTENTS = 8
ROUNDS = 12


class Halt(Exception):
    """The step at which the story is to be struck is reached."""


class Story(Pair):
    """`strike_at`: raise Halt before that step."""

    def __init__(
        self, strike_at: int = -1, features: int = OUR_FEATURES, mode: Replication = Replication.FULLSYNC
    ) -> None:
        meta = metadata(datasize_bytes=EXTENTS * EXTENT)
        super().__init__(Rig(meta, settings=Settings(replication=mode)), Shelf(meta, features=features), features)
        self.steps = 0
        self.strike_at = -1
        self.connect()
        self.write(0, A)
        self.run()
        self.flush()
        self.run()
        self.steps, self.strike_at = 0, strike_at

    def step(self) -> bool:
        self.steps += 1
        if self.steps == self.strike_at:
            raise Halt
        return super().step()

    def run(self) -> None:
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("does not come to rest")

    def write(self, offset: int, data: bytes) -> Request:
        return self.rig.write(offset, data)

    def flush(self) -> Request:
        return self.rig.flush()

    def fail(self, op: int, *sides: Rig | Shelf, times: int = 1) -> None:
        """The next operations of this kind fail."""
        for side in sides:
            side.disk.failures[op] = times

    def run_into(self, op: int) -> None:
        """Go on until the next thing a disk does is this."""
        for _ in range(10_000):
            if any(side.local and side.local[0].op == op for side in (self.rig, self.shelf)):
                return
            assert self.step(), "it never comes"

    def wait(self, seconds: float = 3.0) -> None:
        """Time passes: what is owed is tried again."""
        self.rig.tick(seconds)
        self.run()

    # -- strikes

    def cut(self) -> None:
        self.rig.lose()
        self.shelf.work()

    def kill_primary(self) -> None:
        self.rig.disk.end(self.rig.local)
        self.new_primary()

    def kill_secondary(self) -> None:
        self.rig.lose()
        self.shelf.disk.end(self.shelf.local)
        self.new_secondary()

    def cut_power_of_primary(self) -> None:
        self.rig.disk.crash()
        self.new_primary()

    def cut_power_of_secondary(self) -> None:
        self.rig.lose()
        self.shelf.disk.crash()
        self.new_secondary()

    def settle(self) -> None:
        """The link is up again, no disk fails any more, and everything is made equal."""
        self.strike_at = -1
        self.rig.disk.failures.clear()
        self.shelf.disk.failures.clear()
        self.new_secondary()
        self.rig.remote.clear()
        self.rig.lose()
        self.attach()
        for _ in range(ROUNDS):
            self.wait(11.0)
            if self.in_step:
                return
        raise AssertionError("the copies did not become equal")

    @property
    def in_step(self) -> bool:
        status = self.rig.engine.status()
        return bool(status["connected"]) and not (status["dirty"] or self.rig.engine.sync.active)

    def verify(self) -> None:
        """In step; then each host in turn loses power and comes back, and nothing differs."""
        rig, shelf = self.rig, self.shelf
        assert self.in_step
        assert rig.disk.data == shelf.disk.data, "they differ although in step"
        assert not rig.saved.stale
        assert not rig.saved.inconsistent
        assert not rig.saved.unflushed
        assert not (self.features and shelf.saved.inconsistent), "without marks it is a guess that takes its time"
        assert (rig.saved.localcnt, rig.saved.remotecnt) == (shelf.saved.remotecnt, shelf.saved.localcnt)
        for strike in (self.cut_power_of_secondary, self.cut_power_of_primary):
            before = bytes(self.rig.disk.data)
            strike()
            self.new_secondary()
            self.attach()
            self.wait(11.0)
            self.wait(11.0)
            assert self.in_step
            assert self.rig.disk.data == self.shelf.disk.data, f"they differ after {strike.__name__}"
            assert self.rig.disk.data == before, f"data lost after {strike.__name__}"


Tale = Callable[[Story], None]


def peer_fails_a_flush_while_it_leads(story: Story) -> None:
    """Seed 881046: the peer leads, a write reaches both caches, the peer's flush of it fails during the resync."""
    story.fail(WRITE, story.rig)
    story.write(EXTENT, A)
    story.run()
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.shelf)
    story.flush()
    story.wait()
    story.wait(11.0)
    story.wait(11.0)


def peer_fails_the_flush_of_the_resync(story: Story) -> None:
    """Beside it: it is the flush at the end of the copying that fails."""
    story.fail(WRITE, story.rig)
    story.write(EXTENT, A)
    story.run()
    story.write(5 * EXTENT, B)
    story.run()
    story.rig.tick(3)
    story.run_into(FLUSH)
    story.fail(FLUSH, story.shelf)
    story.write(EXTENT, C)
    story.run()
    story.wait(11.0)
    story.wait(11.0)


def local_flush_fails(story: Story) -> None:
    """The mirror: this copy is the one whose flush fails."""
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.rig)
    story.flush()
    story.run()
    story.wait()
    story.wait(11.0)


def local_flush_fails_while_the_peer_lacks_a_write(story: Story) -> None:
    """The mirror of the first: the extent is owed to the peer, and not durable here."""
    story.fail(WRITE, story.shelf)
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.rig)
    story.flush()
    story.run()
    story.wait()
    story.wait(11.0)
    story.wait(11.0)


def local_flush_fails_alone(story: Story) -> None:
    """Nobody is there to take it back from."""
    story.cut()
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.rig)
    story.flush()
    story.run()
    story.new_secondary()
    story.attach()
    story.run()
    story.wait(11.0)


def both_fail_a_flush(story: Story) -> None:
    """One flush, failed on both."""
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.rig, story.shelf)
    story.flush()
    story.run()
    story.wait()
    story.wait(11.0)
    story.wait(11.0)


def failed_flush_of_the_peer_is_never_heard_of(story: Story) -> None:
    """The link is lost before the peer's answer to the flush arrives."""
    story.write(EXTENT, B)
    story.run()
    story.fail(FLUSH, story.shelf)
    story.flush()
    for _ in range(100):
        if not story.shelf.disk.failures[FLUSH]:
            break
        story.step()
    story.cut()
    story.run()
    story.new_secondary()
    story.attach()
    story.run()
    story.wait(11.0)


def lead_comes_back_although_something_is_owed(story: Story) -> None:
    """Seeds 881036, 5000019, 976226919: this copy has everything again, the peer failed a flush; then a write fails
    there, or the link drops, and this node goes on alone."""
    story.fail(WRITE, story.rig)
    story.write(EXTENT, A)
    story.run()
    story.rig.tick(3)
    story.run_into(FLUSH)
    story.fail(WRITE, story.shelf, times=2)
    story.write(5 * EXTENT, B)
    story.run()
    story.cut()
    story.write(6 * EXTENT, C)
    story.run()
    story.new_secondary()
    story.attach()
    story.run()
    story.wait(11.0)


def power_of_the_peer_is_cut_while_it_leads(story: Story) -> None:
    """What only the peer holds goes with its cache; the copies are equal all the same."""
    story.fail(WRITE, story.rig)
    story.write(EXTENT, A)
    story.run()
    story.flush()
    story.run()
    story.fail(FLUSH, story.shelf)
    story.write(2 * EXTENT, B)
    story.flush()
    story.run()
    story.wait(11.0)


def local_flush_fails_while_the_peer_is_copied_to(story: Story) -> None:
    """Seed 400007710: when the pass to the peer ends, this copy lacks something."""
    story.fail(WRITE, story.shelf)
    story.write(EXTENT, B)
    story.run()
    story.write(2 * EXTENT, C)
    story.run()
    story.fail(FLUSH, story.rig)
    story.flush()
    story.rig.tick(3)
    story.run()
    story.wait(11.0)
    story.wait(11.0)


TALES: tuple[Tale, ...] = (
    peer_fails_a_flush_while_it_leads,
    peer_fails_the_flush_of_the_resync,
    local_flush_fails,
    local_flush_fails_while_the_peer_lacks_a_write,
    local_flush_fails_alone,
    both_fail_a_flush,
    failed_flush_of_the_peer_is_never_heard_of,
    lead_comes_back_although_something_is_owed,
    power_of_the_peer_is_cut_while_it_leads,
    local_flush_fails_while_the_peer_is_copied_to,
)
STRIKES = ("cut", "kill_primary", "kill_secondary", "cut_power_of_primary", "cut_power_of_secondary")
named = pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.__name__)
with_and_without = pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE], ids=["ours", "reference"])


@with_and_without
@named
def test_s2_failed_flush_never_leaves_the_copies_silently_different(tale: Tale, features: Feature) -> None:
    story = Story(features=int(features))
    tale(story)
    story.settle()
    story.verify()


@pytest.mark.parametrize("strike", STRIKES)
@with_and_without
@named
def test_s2_failed_flush_is_remembered_whatever_happens_in_between(tale: Tale, features: Feature, strike: str) -> None:
    told = Story(features=int(features))
    tale(told)
    for strike_at in range(1, told.steps + 1):
        story = Story(strike_at, int(features))
        with pytest.raises(Halt):
            tale(story)
        try:
            getattr(story, strike)()
            story.settle()
            story.verify()
        except AssertionError as error:
            raise AssertionError(f"{strike} before step {strike_at}: {error}") from error


def test_s2_in_step_is_what_this_test_says() -> None:
    """The story that nothing happens in."""
    story = Story()
    story.settle()
    story.verify()
    assert story.rig.disk.data[:SECTOR] == A
    assert story.rig.disk.map == bytes(MAP) or story.rig.disk.map == image(0)
    assert story.rig.saved.resuid == metadata().resuid


# -- what a flush may promise meanwhile (S4, S8) ---------------------------------------------------------------


def test_s8_flush_that_a_peer_cannot_be_believed_in_is_answered_when_this_node_is_ahead() -> None:
    """Seed 9100173: the peer failed a flush, and this worker was killed before its counter said what that means."""
    rig = Rig(metadata(), image(1))
    rig.attach(boot_id=b"")
    before = rig.saved.localcnt
    flush = rig.flush()
    rig.finish_local(*[request for request in rig.local if request.op == FLUSH])
    for item in rig.sent(FLUSH):
        rig.reply(item[1])
    assert flush not in rig.finished
    rig.store_all()
    assert rig.saved.localcnt == before + 1
    assert flush in rig.finished
    assert flush.error == 0


def test_s4_failed_flush_of_a_peer_that_leads_is_told_once_also_by_the_next_worker() -> None:
    """Seeds 9100081, 9200125: the sync's own flush failed there, and no client waited for it."""
    rig = Rig(metadata(stale=True), image(1))
    rig.attach(boot_id=b"", localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(1))
    errors = []
    for _ in range(2):
        flush = rig.flush()
        rig.work()
        errors.append(flush.error)
    assert errors == [EIO, 0]


@pytest.mark.parametrize("here", [True, False])
def test_s4_flush_that_may_have_failed_on_both_copies_is_told_once(here: bool) -> None:
    disk = Disk()
    disk.doubtful = here
    rig = Rig(disk=disk)
    rig.attach(boot_id=b"")
    errors = []
    for _ in range(2):
        flush = rig.flush()
        rig.work()
        errors.append(flush.error)
    assert errors == [EIO if here else 0, 0]


def test_s4_flush_that_the_peer_fails_is_told_where_one_may_have_failed_here_before() -> None:
    disk = Disk()
    disk.doubtful = True
    rig = Rig(on_disk=image(1), disk=disk)
    rig.attach(localcnt=0, bitmap=image(1))
    flush = rig.flush()
    rig.store_all()
    while rig.remote or rig.local:
        rig.store_all()
        rig.finish_local()
        failing = rig.sent(FLUSH)
        for item in failing:
            rig.remote.remove(item)
            rig.reply(item[1], EIO)
        rig.answer_remote()
        if flush in rig.finished:
            break
    assert flush.error == EIO


def test_s8_nothing_is_answered_early_until_our_disk_says_that_this_copy_lacks_nothing_any_more() -> None:
    """Seed 78: a worker that began anew in that moment took the peer's copy for the better one."""
    rig = Rig(metadata(stale=True), image(1), Settings(replication=Replication.ASYNC))
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(1))
    while not any(job.reason == "lead taken back" for job in rig.stores):
        while rig.stores:
            rig.store()
        rig.finish_local()
        rig.answer_remote()
    assert rig.saved.stale
    early = rig.write(EXTENT)
    while rig.stores and rig.stores[0].reason != "lead taken back":
        rig.store()
    rig.finish_local()
    assert early not in rig.finished
    rig.store_all()
    rig.finish_local()
    later = rig.write(5 * EXTENT)
    rig.store_all()
    rig.finish_local()
    assert not rig.saved.stale
    assert later in rig.finished


def test_s2_write_that_the_peer_fails_after_a_flush_failed_here_is_copied_from_here() -> None:
    """Seed 2400017197: answered early (memsync), it was taken from the peer again, which did not have it."""
    rig = Rig(settings=Settings(replication=Replication.MEMSYNC))
    rig.connect()
    write = rig.write(0, b"x" * SECTOR)
    rig.store_all()
    rig.finish_local()
    seq = rig.sent(WRITE)[0][1]
    rig.reply(seq, received=True)
    assert write in rig.finished
    rig.flush()
    rig.finish_local(error=EIO)
    for item in rig.sent(FLUSH):
        rig.remote.remove(item)
        rig.reply(item[1])
    assert 0 in rig.engine.map.owed_local
    rig.reply(seq, EIO)
    assert 0 not in rig.engine.map.owed_local
    assert 0 in rig.engine.map.owed_remote


def test_s4_reference_peer_that_never_tells_a_boot_id_is_not_taken_for_one_that_failed() -> None:
    rig = Rig(metadata(stale=True), image(1))
    rig.attach(Feature.NONE, localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(1))
    flush = rig.flush()
    rig.work()
    assert flush.error == 0


def test_s4_nothing_is_answered_early_while_this_copy_lacks_writes() -> None:
    rig = Rig(metadata(stale=True), image(1), Settings(replication=Replication.ASYNC))
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(1))
    request = rig.write(5 * EXTENT)
    rig.store_all()
    rig.finish_local(next(r for r in rig.local if r.op == WRITE))
    assert request not in rig.finished
    rig.reply(rig.sent(WRITE)[0][1])
    assert request in rig.finished


# -- a cache that is lost meanwhile ----------------------------------------------------------------------------


def test_what_a_failed_flush_made_owed_here_is_not_taken_from_a_peer_that_lost_its_cache() -> None:
    """Seed 72020: the peer lacks another write, so it does not lead; this copy still shows what was written."""
    rig = Rig(metadata(localcnt=1), image(1, 2))
    rig.attach(bitmap=image(1, 2))
    rig.remote.clear()
    rig.finish_local(error=EIO)
    rig.write(30 * EXTENT)
    rig.store_all()
    rig.finish_local(*[request for request in rig.local if request.op == WRITE])
    for item in rig.sent(WRITE):
        rig.reply(item[1])
    rig.flush()
    rig.finish_local(*[request for request in rig.local if request.op == FLUSH], error=EIO)
    for item in rig.sent(FLUSH):
        rig.reply(item[1])
    rig.store_all()
    assert rig.engine.status()["local_missing"] == EXTENT
    rig.lose()
    rig.attach(boot_id=b"another boot 123")
    assert rig.engine.status()["local_missing"] == 0
    assert rig.engine.status()["peer_missing"] == 3 * EXTENT


def test_s2_flush_begun_alone_that_fails_when_the_peer_is_back_leaves_what_it_covered_owed() -> None:
    """Nothing was owed when the link went live, and the peer was not asked for this flush."""
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.lose()
    rig.flush()
    flush = next(request for request in rig.local if request.op == FLUSH)
    rig.attach()
    assert rig.engine.status()["peer_missing"] == 0
    rig.finish_local(flush, error=EIO)
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_s7_flush_that_fails_here_while_the_peer_takes_its_mark_off_makes_it_lead() -> None:
    """Seed 59000277: while the mark was there the peer could not be given the lead, and later nobody thought of it."""
    rig = Rig(metadata(localcnt=1), image(1))
    rig.attach()
    while not rig.sent(SYNC_END):
        rig.store_all()
        rig.finish_local()
        for item in rig.sent(SYNC_BEGIN, WRITE, FLUSH):
            rig.remote.remove(item)
            rig.reply(item[1])
    rig.remote.clear()
    end = rig.engine.core.last_seq
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1])
    rig.flush()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(FLUSH)[0][1])
    rig.store_all()
    assert not rig.saved.stale
    rig.reply(end)
    rig.store_all()
    assert rig.saved.stale
    assert rig.sent(TAKE_LEAD)


def test_s7_nothing_is_taken_from_a_peer_that_was_copied_to_before_our_disk_says_so() -> None:
    """Seed 400007710: the peer kept the mark of the pass that had ended, so it was never given the lead."""
    story = Story()
    taken: list[bool] = []
    step = story.step

    def watched() -> bool:
        owed = story.rig.engine.map
        if owed.owed_local and not owed.owed_remote:
            says_so = story.rig.saved.stale or story.rig.saved.inconsistent
            taken.extend(says_so for request in story.rig.local if request.op == WRITE and request.owner == SYNC)
        return step()

    story.step = watched  # type: ignore[method-assign]
    local_flush_fails_while_the_peer_is_copied_to(story)
    assert taken
    assert all(taken)
    assert story.in_step
    assert not story.shelf.saved.inconsistent


def test_copy_unflushed_here_is_written_again_here_as_well() -> None:
    rig = Rig(metadata(localcnt=1, unflushed=True), image(1))
    rig.attach()
    rig.reply(rig.sent(SYNC_BEGIN)[0][1])
    rig.finish_local()
    assert [request.op for request in rig.local] == [WRITE]
    assert rig.sent(WRITE)
    rig.work()
    assert not rig.saved.unflushed


def test_s4_flush_that_fails_here_while_the_peer_lacks_what_it_covers_is_told_to_the_next_client() -> None:
    """Seed 9300087: it was the sync's own flush."""
    rig = Rig(metadata(localcnt=1), image(1, 2))
    rig.attach()
    rig.reply(rig.sent(SYNC_BEGIN)[0][1])
    while not any(request.op == FLUSH for request in rig.local):
        rig.finish_local()
        rig.answer_remote()
    rig.write(30 * EXTENT)
    rig.store_all()
    rig.finish_local(*[request for request in rig.local if request.op == WRITE])
    for item in rig.sent(WRITE):
        rig.reply(item[1], error=EIO)
    rig.finish_local(error=EIO)
    rig.answer_remote()
    rig.lose()
    flush = rig.flush()
    rig.work()
    assert flush.error == EIO


def test_s8_flush_alone_is_no_promise_while_the_copy_to_trust_is_away() -> None:
    """Seed 9300017: what it covers will be overwritten by the older data of the peer, should that lose its cache."""
    rig = Rig(metadata(stale=True), image(1))
    flush = rig.flush()
    rig.work()
    assert flush.error == EIO


@pytest.mark.parametrize("ends", ["before the link is live", "after it"])
def test_s4_flush_begun_alone_is_repeated_with_a_peer_that_is_back(ends: str) -> None:
    """Seed 500003778: what the peer had taken and not flushed counted as promised, and no counter said more."""
    rig = Rig()
    rig.connect()
    write = rig.write(0, fua=True)
    rig.store_all()
    rig.reply(rig.sent(WRITE)[0][1])
    rig.lose()
    rig.finish_local()
    assert [request.op for request in rig.local] == [FLUSH], "of the write, and alone"
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer())
    if ends == "after it":
        rig.store_all()
    rig.finish_local()
    assert write not in rig.finished
    rig.store_all()
    assert rig.sent(FLUSH)
    rig.work()
    assert write in rig.finished
    assert write.error == 0


def test_s8_new_worker_that_is_alone_goes_ahead_before_it_answers_a_flush_of_what_the_peer_may_have_lost() -> None:
    """Seed 9300132: the peer lost its cache, and the worker that knew what it had not flushed was killed."""
    rig = Rig(metadata(), image(1))
    flush = rig.flush()
    rig.finish_local()
    assert flush not in rig.finished
    rig.work()
    assert flush.error == 0
    assert rig.saved.localcnt == 1
