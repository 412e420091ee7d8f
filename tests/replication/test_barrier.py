"""Flushes: two-node barriers, and what they allow to be cleared."""

from __future__ import annotations

import pytest
from driver import EIO, EXTENT, SECTOR, TAKE_LEAD, Rig, marked

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.replication.core import EOPNOTSUPP, Settings
from hast.replication.types import FLUSH, WRITE, Request


def connected(features: int = OUR_FEATURES, replication: Replication = Replication.FULLSYNC) -> Rig:
    rig = Rig(settings=Settings(replication=replication))
    rig.connect(features)
    return rig


def written(rig: Rig, count: int) -> None:
    """So many extents written and confirmed by both copies."""
    for extent in range(count):
        rig.write(extent * EXTENT)
    rig.work()


@pytest.mark.parametrize("replication", list(Replication))
def test_s4_flush_is_a_barrier_on_both_nodes_in_every_mode(replication: Replication) -> None:
    rig = connected(replication=replication)
    request = rig.flush()
    assert [r.op for r in rig.local] == [FLUSH]
    assert [item[:1] + item[2:4] for item in rig.sent()] == [(FLUSH, 0, 0)]
    rig.finish_local()
    assert not rig.finished
    rig.answer_remote()
    assert rig.finished == [request]


def test_flushes_that_come_meanwhile_share_the_next_one() -> None:
    rig = connected()
    first = rig.flush()
    others = [rig.flush() for _ in range(5)]
    assert len(rig.local) == 1
    rig.finish_local()
    rig.reply(rig.remote.pop()[1])
    assert rig.finished == [first]
    rig.work()
    assert rig.finished == [first, *others]


def test_s4_flush_does_not_join_one_that_began_before_the_write_it_is_to_cover() -> None:
    rig = connected()
    written(rig, 1)
    first = rig.flush()
    running = rig.local[0]
    sent = rig.sent(FLUSH)
    write = rig.write(0)
    rig.finish_local(rig.local[1])
    rig.reply(rig.sent(WRITE)[0][1])
    second = rig.flush()
    assert rig.finished[-1:] == [write]
    rig.remote.clear()
    rig.finish_local(running)
    rig.reply(sent[0][1])
    assert rig.finished[-1:] == [first]
    assert [request.op for request in rig.local] == [FLUSH]
    assert len(rig.sent(FLUSH)) == 1
    rig.work()
    assert rig.finished[-1:] == [second]


def test_s4_fua_write_does_not_join_a_flush_that_is_under_way() -> None:
    rig = connected()
    written(rig, 1)
    rig.flush()
    running = rig.local[0]
    sent = rig.sent(FLUSH)
    write = rig.write(0, fua=True)
    rig.finish_local(rig.local[1])
    rig.reply(rig.sent(WRITE)[0][1])
    rig.remote.clear()
    rig.finish_local(running)
    rig.reply(sent[0][1])
    assert write not in rig.finished
    rig.work()
    assert rig.finished[-1:] == [write]


def test_flush_without_the_operation_on_the_peer_succeeds_and_is_not_asked_again() -> None:
    rig = connected(Feature.NONE)
    first = rig.flush()
    rig.finish_local()
    rig.answer_remote(error=EOPNOTSUPP)
    second = rig.flush()
    assert not rig.sent(FLUSH)
    rig.finish_local()
    assert rig.finished == [first, second]
    assert (first.error, second.error) == (0, 0)
    rig.lose()
    rig.attach(Feature.NONE)
    rig.work()
    rig.flush()
    assert rig.sent(FLUSH), "a new link may have a new peer"


@pytest.mark.parametrize("replication", [Replication.MEMSYNC, Replication.ASYNC])
def test_s4_fua_write_beside_a_peer_without_flush_waits_for_the_final_word(replication: Replication) -> None:
    rig = connected(replication=replication)
    rig.flush()
    rig.finish_local()
    rig.answer_remote(error=EOPNOTSUPP)
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1], received=True)
    rig.finish_local()
    assert request not in rig.finished
    rig.answer_remote()
    rig.finish_local()
    assert request in rig.finished


def test_flush_without_the_operation_locally_succeeds_and_is_not_asked_again() -> None:
    rig = connected()
    first = rig.flush()
    rig.finish_local(error=EOPNOTSUPP)
    rig.answer_remote()
    second = rig.flush()
    assert not rig.local
    rig.answer_remote()
    assert rig.finished == [first, second]
    assert second.error == 0


def test_flush_that_neither_copy_has_succeeds_at_once_afterwards() -> None:
    rig = connected()
    rig.flush()
    rig.finish_local(error=EOPNOTSUPP)
    rig.answer_remote(error=EOPNOTSUPP)
    request = rig.flush()
    assert request in rig.finished
    assert request.error == 0


def test_s4_flush_that_failed_locally_with_no_peer_is_an_error() -> None:
    rig = Rig()
    request = rig.flush()
    rig.finish_local(error=EIO)
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == EIO
    assert rig.engine.core.counters.flush_errors == 1


def test_s4_flush_that_failed_locally_after_the_peer_left_is_an_error_even_if_it_led_once() -> None:
    rig = connected()
    rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    rig.answer_remote()
    rig.lose()
    request = rig.flush()
    rig.finish_local(error=EIO)
    rig.store_all()
    assert request in rig.finished
    assert request.error == EIO


def test_s4_flush_with_a_broken_disk_and_no_peer_is_an_error() -> None:
    rig = Rig()
    rig.write(0)
    rig.store(error=EIO)
    request = rig.flush()
    rig.work()
    assert request in rig.finished
    assert request.error == EIO


def test_s6_flush_that_failed_locally_is_answered_when_the_peer_leads() -> None:
    rig = connected()
    written(rig, 2)
    rig.finished.clear()
    request = rig.flush()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(FLUSH)[0][1])
    assert not rig.finished
    assert rig.engine.status()["local_missing"] == 2 * EXTENT, "a failed flush may have lost what was written before"
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert not rig.finished, "nothing on this disk says yet that it is stale"
    rig.store_all()
    assert rig.saved.stale
    assert rig.finished == [request]
    assert request.error == 0


def test_flush_that_failed_at_the_peer_is_answered_when_the_counter_is_durable() -> None:
    rig = connected()
    written(rig, 2)
    rig.finished.clear()
    request = rig.flush()
    rig.finish_local()
    rig.answer_remote(error=EIO)
    assert not rig.finished
    assert rig.engine.status()["peer_missing"] == 2 * EXTENT
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.saved.localcnt == 1


def test_flush_that_failed_on_both_copies_is_an_error() -> None:
    rig = connected()
    request = rig.flush()
    rig.finish_local(error=EIO)
    rig.answer_remote(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_s8_flush_waits_for_the_counter_of_an_earlier_write_that_the_peer_lacks() -> None:
    rig = connected(replication=Replication.MEMSYNC)
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    seq = rig.sent(WRITE)[0][1]
    rig.reply(seq, received=True)
    flush = rig.flush()
    rig.reply(seq, error=EIO)
    rig.finish_local()
    rig.reply(rig.sent(FLUSH)[0][1])
    assert flush not in rig.finished
    rig.store_all()
    assert flush in rig.finished


def test_flush_alone_counts_as_going_alone_while_the_lost_peer_may_lose_what_it_confirmed() -> None:
    """Section 10.1: S's volatile cache is not flushed, so a power loss on S can lose acknowledged blocks."""
    rig = connected()
    written(rig, 1)
    rig.lose()
    request = rig.flush()
    rig.finish_local()
    assert request not in rig.finished
    rig.store_all()
    assert request in rig.finished
    assert rig.saved.localcnt == 1


# -- S2 --------------------------------------------------------------------------------------------------------


def test_s2_bits_are_not_cleared_by_the_writes_replies_alone() -> None:
    """Section 10.1: extents marked clean after S's plain write reply."""
    rig = connected()
    written(rig, 40)
    assert marked(rig.disk.map) == set(range(40))


def test_s2_bits_outside_the_keepdirty_list_are_cleared_after_a_flush_of_both() -> None:
    rig = connected()
    written(rig, 40)
    rig.flush()
    rig.work()
    assert marked(rig.disk.map) == set(range(36, 40)), "the most recently written stay marked"


@pytest.mark.parametrize("side", ["local", "remote"])
def test_s2_bits_stay_when_the_flush_failed_on_one_copy(side: str) -> None:
    rig = connected()
    written(rig, 40)
    rig.flush()
    rig.finish_local(error=EIO if side == "local" else 0)
    rig.reply(rig.sent(FLUSH)[0][1], error=EIO if side == "remote" else 0)
    rig.store_all()
    assert marked(rig.disk.map) == set(range(40))


def test_s2_extent_written_during_the_flush_stays_marked() -> None:
    rig = connected()
    written(rig, 40)
    rig.flush()
    rig.write(0)
    rig.finish_local(rig.local[1])
    rig.reply(rig.sent(WRITE)[0][1])
    rig.finish_local()
    rig.answer_remote()
    rig.store_all()
    assert 0 in marked(rig.disk.map)
    assert 1 not in marked(rig.disk.map)


def test_s2_flush_covers_no_write_that_waited_for_another_when_it_began() -> None:
    rig = connected()
    written(rig, 40)
    rig.submit(Request(WRITE, 0, SECTOR, bytes(SECTOR)), Request(WRITE, 0, SECTOR, bytes(SECTOR)), Request(FLUSH, 0, 0))
    flush = next(request for request in rig.local if request.op == FLUSH)
    for _ in range(2):
        rig.finish_local(next(request for request in rig.local if request.op == WRITE))
        rig.reply(rig.sent(WRITE)[0][1])
        rig.remote = [item for item in rig.remote if item[0] == FLUSH or item[1] in rig.engine.core.pending]
    rig.finish_local(flush)
    rig.answer_remote()
    rig.store_all()
    assert 0 in marked(rig.disk.map)


def test_s2_owed_extents_stay_marked() -> None:
    rig = connected()
    written(rig, 40)
    rig.lose()
    rig.write(0)
    rig.work()
    rig.flush()
    rig.work()
    assert marked(rig.disk.map) == set(range(40))


def test_quiet_pair_ends_with_a_clean_map_so_that_a_crash_costs_nothing() -> None:
    rig = connected()
    written(rig, 3)
    for _ in range(8):
        rig.tick(1.0)
        rig.work()
    assert marked(rig.disk.map) == set()


def test_idle_flush_does_not_repeat_when_the_map_is_clean() -> None:
    rig = connected()
    written(rig, 1)
    for _ in range(8):
        rig.tick(1.0)
        rig.work()
    for _ in range(20):
        rig.tick(1.0)
        assert not rig.local
        rig.answer_remote()


def alone() -> Rig:
    """A primary that goes on without its peer, with one acknowledged write."""
    rig = connected()
    rig.lose()
    rig.write(0)
    rig.work()
    assert rig.finished[-1].error == 0
    return rig


def test_s4_failed_flush_that_no_client_waited_for_is_told_to_the_next_one_and_once() -> None:
    rig = alone()
    rig.engine.writes.want_flush()
    rig.tick()
    rig.finish_local(error=EIO)
    rig.work()
    first, second = rig.flush(), None
    rig.work()
    assert first.error == EIO
    second = rig.flush()
    rig.work()
    assert second.error == 0


def test_s4_fua_write_whose_data_another_failed_flush_may_have_covered_is_not_acknowledged() -> None:
    rig = alone()
    flush = rig.flush()
    running = rig.local[0]
    write = rig.write(0, fua=True)
    rig.finish_local(rig.local[1])
    rig.finish_local(running, error=EIO)
    rig.work()
    assert flush.error == EIO
    assert write.error == EIO
    again = rig.write(0, fua=True)
    rig.work()
    assert again.error == 0


def test_s4_flush_that_waits_while_another_fails_is_told_so() -> None:
    rig = alone()
    rig.flush()
    running = rig.local[0]
    waiting = rig.flush()
    rig.finish_local(running, error=EIO)
    rig.work()
    assert waiting.error == EIO


def test_s6_flush_that_rests_on_the_peer_waits_for_both_records_of_it() -> None:
    """A local flush fails; the next one succeeds before this disk says that it is stale."""
    rig = connected()
    written(rig, 1)
    rig.flush()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(FLUSH)[0][1])
    rig.remote = rig.sent(TAKE_LEAD)
    second = rig.flush()
    rig.finish_local()
    rig.answer_remote()
    assert rig.stores
    assert second not in rig.finished
    rig.store_all()
    assert second in rig.finished
    assert second.error == 0
