"""Synchronisation in both directions."""

from __future__ import annotations

import random

import pytest
from driver import (
    EIO,
    EXTENT,
    EXTENTS,
    MIB,
    SECTOR,
    SYNC_BEGIN,
    SYNC_END,
    TAKE_LEAD,
    Pair,
    Rig,
    Shelf,
    image,
    marked,
    metadata,
)

from hast.format.constants import OUR_FEATURES, Feature, Replication, SyncSource
from hast.replication.copy_rate import PIECES_BUSY, PIECES_IDLE
from hast.replication.core import Settings
from hast.replication.sync import FIRST_RETRY_S, RETRY_S, Stage
from hast.replication.types import FLUSH, READ, WRITE

ALL = image(*range(EXTENTS))


def outbound(*extents: int, features: int = OUR_FEATURES, settings: Settings | None = None) -> Rig:
    """The peer lacks these extents; the pass has begun."""
    rig = Rig(metadata(localcnt=1), image(*extents), settings)
    rig.attach(features)
    return rig


def inbound(*extents: int) -> Rig:
    rig = Rig()
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(*extents))
    return rig


def answer(rig: Rig, *ops: int, error: int = 0) -> None:
    """The peer answers what it was sent of these commands."""
    for item in rig.sent(*ops):
        rig.remote.remove(item)
        rig.reply(item[1], error, bytes(item[3]) if item[0] == READ and not error else None)


# -- both copies equal (S9) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE])
@pytest.mark.parametrize("direction", ["to the peer", "from the peer"])
def test_s9_copies_are_identical_after_a_sync(direction: str, features: int) -> None:
    chance = random.Random(1)
    old, new = chance.randbytes(EXTENT * EXTENTS), bytearray(chance.randbytes(EXTENT * EXTENTS))
    owed = image(1, 2, 5, 63)
    for extent in set(range(EXTENTS)) - marked(owed):
        new[extent * EXTENT : (extent + 1) * EXTENT] = old[extent * EXTENT : (extent + 1) * EXTENT]
    mine_is_new = direction == "to the peer"
    rig = Rig(metadata(localcnt=int(mine_is_new)), owed if mine_is_new else image())
    shelf = Shelf(metadata(localcnt=int(not mine_is_new)), image() if mine_is_new else owed, features)
    rig.disk.data[:] = new if mine_is_new else old
    shelf.disk.data[:] = old if mine_is_new else new
    Pair(rig, shelf, features).connect()
    assert bytes(rig.disk.data) == bytes(shelf.disk.data) == bytes(new)
    assert not rig.saved.inconsistent
    assert rig.saved.localcnt == shelf.saved.remotecnt
    assert rig.saved.remotecnt == shelf.saved.localcnt
    assert [n for n in rig.event_names() if n.startswith("sync")] == ["syncstart", "syncdone"]


def test_nothing_owed_means_no_sync_events_but_counters_in_step() -> None:
    rig = Rig(metadata(localcnt=3, remotecnt=8))
    rig.connect(localcnt=8, remotecnt=3)
    assert not [n for n in rig.event_names() if n.startswith("sync")]
    assert (rig.saved.localcnt, rig.saved.remotecnt) == (3, 8)


def test_last_extent_may_be_shorter() -> None:
    rig = Rig(metadata(datasize_bytes=EXTENT + SECTOR, localcnt=1), image(0, 1))
    rig.attach()
    answer(rig, SYNC_BEGIN)
    assert [(r.offset, r.length) for r in rig.local] == [(0, EXTENT), (EXTENT, SECTOR)]


def test_async_primary_takes_a_sync_from_the_secondary() -> None:
    """Section 10.1: a sync from S in async mode kills the P worker."""
    rig = Rig(settings=Settings(replication=Replication.ASYNC))
    shelf = Shelf(metadata(localcnt=1), image(3))
    shelf.disk.data[3 * EXTENT : 4 * EXTENT] = b"n" * EXTENT
    Pair(rig, shelf).connect()
    assert rig.disk.data == shelf.disk.data
    assert not rig.finished


# -- S7 -----------------------------------------------------------------------------------------------------


def test_s7_peer_is_marked_before_the_first_sync_write_and_unmarked_when_all_is_flushed() -> None:
    rig = outbound(1)
    assert [item[0] for item in rig.sent()] == [SYNC_BEGIN]
    assert not rig.local
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    assert [item[0] for item in rig.sent()] == [WRITE]
    answer(rig, WRITE)
    assert [item[0] for item in rig.sent()] == [FLUSH]
    rig.finish_local()
    assert not rig.sent(SYNC_END)
    answer(rig, FLUSH)
    assert [item[0] for item in rig.sent()] == [SYNC_END]
    assert not rig.stores or rig.stores[0].metadata is None
    answer(rig, SYNC_END)
    rig.store_all()
    assert rig.saved.localcnt == 0


def test_s7_peer_that_cannot_mark_itself_gets_no_sync_writes_and_is_asked_again_later() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN, error=EIO)
    assert not rig.local
    rig.tick(RETRY_S + 1)
    assert rig.sent(SYNC_BEGIN)


def test_peer_that_cannot_take_its_mark_off_is_asked_again_later() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    answer(rig, WRITE)
    rig.finish_local()
    answer(rig, FLUSH)
    answer(rig, SYNC_END, error=EIO)
    rig.store_all()
    assert rig.saved.localcnt == 1
    rig.tick(RETRY_S + 1)
    assert rig.sent(SYNC_END)
    rig.work()
    assert rig.saved.localcnt == 0


def test_reference_peer_is_sent_no_marks() -> None:
    rig = outbound(1, features=Feature.NONE)
    assert [request.op for request in rig.local] == [READ]
    rig.work()
    assert rig.saved.localcnt == 0


# -- pieces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "piece"), [(Feature.NONE, 131072), (OUR_FEATURES, 262144)])
def test_pieces_are_many_at_once_and_as_large_as_the_peer_takes(features: Feature, piece: int) -> None:
    """Section 10.2: sync is one 128 KiB piece per round trip."""
    rig = Rig(metadata(datasize_bytes=64 * MIB, extentsize_bytes=2 * MIB, localcnt=1), image(0, 1, 2, 3, 4))
    rig.now = 1000.0
    rig.attach(features)
    answer(rig, SYNC_BEGIN)
    assert {request.length for request in rig.local} == {piece}
    assert len(rig.local) == PIECES_IDLE


def test_clients_go_first_few_pieces_while_they_are_at_work() -> None:
    rig = Rig(metadata(datasize_bytes=64 * MIB, extentsize_bytes=2 * MIB, localcnt=1), image(0, 1, 2, 3, 4))
    rig.attach()
    rig.read(60 * MIB)
    rig.finish_local()
    answer(rig, SYNC_BEGIN)
    assert len(rig.local) == PIECES_BUSY
    rig.tick(1)
    assert len(rig.local) == PIECES_IDLE


def test_s5_write_waits_for_the_piece_on_its_range_and_the_piece_for_writes() -> None:
    rig = outbound(1, 2)
    answer(rig, SYNC_BEGIN)
    waiting, free = rig.write(EXTENT), rig.write(5 * EXTENT)
    rig.store_all()
    assert waiting not in rig.local
    assert free in rig.local
    rig.work()
    assert {waiting, free} <= set(rig.finished)
    rig.lose()
    rig.write(0)
    rig.work()
    rig.finished.clear()
    rig.attach(remotecnt=0)
    first = rig.write(0)
    answer(rig, SYNC_BEGIN)
    rig.work()
    assert first in rig.finished
    assert rig.engine.status()["peer_missing"] == 0


# -- S2, S3 -----------------------------------------------------------------------------------------------------


def test_s3_error_reply_to_a_piece_leaves_its_extent_owed() -> None:
    """Section 10.1: a sync piece answered with an error is counted as synced; the extent is marked clean."""
    rig = outbound(1, 2)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    first, second = rig.sent(WRITE)
    rig.remote.clear()
    rig.reply(first[1], error=EIO)
    rig.reply(second[1])
    rig.finish_local()
    answer(rig, FLUSH)
    rig.store_all()
    assert rig.engine.status()["peer_missing"] == EXTENT
    assert rig.saved.localcnt == 1, "not in step"
    assert 1 in marked(rig.disk.map)
    assert "syncdone" not in rig.event_names()
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0
    assert rig.saved.localcnt == 0


@pytest.mark.parametrize("stage", ["read", "write"])
def test_s3_local_error_of_a_piece_leaves_its_extent_owed(stage: str) -> None:
    rig = outbound(1) if stage == "read" else inbound(1)
    answer(rig, SYNC_BEGIN)
    if stage == "write":
        answer(rig, READ)
    rig.finish_local(error=EIO)
    rig.work()
    status = rig.engine.status()
    assert status["peer_missing" if stage == "read" else "local_missing"] == EXTENT
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


def test_s3_read_error_at_the_peer_leaves_the_extent_owed() -> None:
    rig = inbound(1)
    answer(rig, READ, error=EIO)
    rig.work()
    assert rig.engine.status()["local_missing"] == EXTENT
    assert rig.saved.inconsistent


def test_s3_piece_without_data_leaves_the_extent_owed() -> None:
    rig = inbound(1)
    rig.reply(rig.sent(READ)[0][1])
    rig.remote.clear()
    rig.work()
    assert rig.engine.status()["local_missing"] == EXTENT


def test_s2_extent_is_owed_until_a_flush_of_both_covers_the_copy() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    answer(rig, WRITE)
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.finish_local()
    answer(rig, FLUSH, error=EIO)
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.store_all()
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_s2_flush_that_was_under_way_when_the_last_piece_ended_does_not_cover_it() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    client = rig.flush()
    flush = next(request for request in rig.local if request.op == FLUSH)
    rig.finish_local(next(request for request in rig.local if request.op == READ))
    answer(rig, WRITE)
    rig.finish_local(flush)
    answer(rig, FLUSH)
    assert rig.finished == [client]
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_s2_write_during_the_flush_of_its_copied_extent_keeps_the_bit() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    answer(rig, WRITE)
    flush = rig.local[0]
    assert flush.op == FLUSH
    rig.write(EXTENT)
    rig.finish_local(rig.local[1])
    answer(rig, WRITE)
    rig.finish_local(flush)
    answer(rig, FLUSH)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0
    assert marked(rig.disk.map) == {1}


def test_s2_flush_does_not_cover_a_write_that_was_in_flight_when_it_began() -> None:
    """The write waits behind the copy of its extent, is under way when the flush begins, and over before it ends."""
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.write(EXTENT)
    rig.finish_local()
    answer(rig, WRITE)
    flush = next(request for request in rig.local if request.op == FLUSH)
    rig.finish_local(next(request for request in rig.local if request.op == WRITE))
    answer(rig, WRITE)
    assert not rig.engine.map.inflight
    rig.finish_local(flush)
    answer(rig, FLUSH)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0
    assert marked(rig.disk.map) == {1}


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_s3_one_failed_piece_leaves_its_extent_owed_whichever_it_is(
    direction: str, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hast.replication.copy_rate.PIECE_BYTES", EXTENT // 4)
    rig = outbound(1) if direction == "outbound" else inbound(1)
    if direction == "outbound":
        answer(rig, SYNC_BEGIN)
        rig.finish_local()
        pieces = rig.sent(WRITE)
        rig.remote.clear()
        for number, item in enumerate(pieces):
            rig.reply(item[1], error=EIO if number == failing else 0)
    else:
        answer(rig, READ)
        pieces = list(rig.local)
        for number, request in enumerate(pieces):
            rig.finish_local(request, error=EIO if number == failing else 0)
    assert len(pieces) == 4
    rig.work()
    status = rig.engine.status()
    assert status["peer_missing" if direction == "outbound" else "local_missing"] == EXTENT
    assert 1 in marked(rig.disk.map)
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


def test_s3_write_beside_a_running_copy_that_the_peer_fails_voids_that_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The range of the write was copied already, the rest of its extent is still under way."""
    monkeypatch.setattr("hast.replication.copy_rate.PIECE_BYTES", EXTENT // 4)
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    first, *others = rig.sent(WRITE)
    rig.remote.clear()
    rig.reply(first[1])
    rig.write(EXTENT)
    rig.finish_local()
    answer(rig, WRITE, error=EIO)
    for item in others:
        rig.reply(item[1])
    rig.work()
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_s6_write_beside_a_running_copy_that_fails_here_voids_that_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hast.replication.copy_rate.PIECE_BYTES", EXTENT // 4)
    rig = inbound(1)
    first, *others = rig.sent(READ)
    rig.remote.clear()
    rig.reply(first[1], data=bytes(EXTENT // 4))
    rig.finish_local()
    client = rig.write(EXTENT, b"\7" * SECTOR)
    rig.finish_local(error=EIO)
    answer(rig, WRITE)
    answer(rig, TAKE_LEAD)
    rig.store_all()
    assert rig.finished == [client]
    for item in others:
        rig.reply(item[1], data=bytes(EXTENT // 4))
    rig.finish_local()
    rig.work()
    assert rig.engine.status()["local_missing"] == EXTENT
    read = rig.read(EXTENT)
    assert not rig.local
    answer(rig, READ)
    assert rig.finished == [client, read]


def test_write_that_fails_at_the_peer_while_its_extent_is_copied_keeps_it_owed() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    answer(rig, WRITE)
    rig.write(EXTENT)
    rig.finish_local(rig.local[1])
    answer(rig, WRITE, error=EIO)
    rig.store_all()
    rig.work()
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_write_that_fails_at_the_peer_while_the_pass_closes_is_no_assertion_and_is_copied_later() -> None:
    rig = outbound(1)
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    answer(rig, WRITE)
    rig.finish_local()
    rig.write(5 * EXTENT)
    rig.store_all()
    rig.finish_local()
    answer(rig, FLUSH)
    assert rig.sent(SYNC_END)
    answer(rig, WRITE, error=EIO)
    answer(rig, SYNC_END)
    rig.store_all()
    assert rig.saved.localcnt == 2, "ahead again"
    rig.tick(RETRY_S + 1)
    rig.work()
    assert rig.saved.localcnt == 0
    assert rig.engine.status()["dirty"] == 0


def test_write_that_fails_while_the_counters_are_written_is_copied_at_once() -> None:
    rig = Rig()
    rig.attach()
    answer(rig, SYNC_END)
    assert rig.engine.sync.stage is Stage.CLOSING
    closing = rig.stores[:]
    rig.write(0)
    rig.store_all()
    assert closing
    rig.finish_local()
    answer(rig, WRITE, error=EIO)
    rig.store_all()
    rig.tick(FIRST_RETRY_S + 0.1)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


# -- interruptions ------------------------------------------------------------------------------------------------


def test_interrupted_pass_says_so_and_goes_on_with_what_is_left() -> None:
    rig = outbound(*range(40))
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    rig.lose()
    assert "syncintr" in rig.event_names()
    assert rig.engine.status()["peer_missing"] == 40 * EXTENT
    rig.store_all()
    rig.connect(remotecnt=0)
    assert rig.engine.status()["peer_missing"] == 0


def test_pieces_of_a_lost_link_that_come_back_late_count_for_nothing() -> None:
    rig = outbound(1, 2)
    answer(rig, SYNC_BEGIN)
    late = rig.local[:]
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    rig.finish_local(*late)
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer())
    rig.store_all()
    assert not rig.sent(WRITE)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0
    assert not rig.engine.sync.active


def test_pieces_that_waited_for_a_range_when_the_link_was_lost_do_not_start() -> None:
    rig = outbound(1)
    rig.write(EXTENT)
    write = rig.local[0]
    answer(rig, SYNC_BEGIN)
    rig.lose()
    rig.finish_local(write)
    rig.store_all()
    assert not rig.local
    rig.connect()
    assert rig.engine.status()["peer_missing"] == 0


def test_local_write_of_a_piece_that_ends_after_the_link_was_lost_is_harmless() -> None:
    rig = inbound(1)
    answer(rig, READ)
    assert [request.op for request in rig.local] == [WRITE]
    rig.lose()
    rig.finish_local()
    assert rig.engine.status()["local_missing"] == EXTENT
    assert rig.saved.inconsistent


def test_broken_local_disk_ends_every_pass_and_starts_no_other() -> None:
    rig = inbound(1, 2)
    rig.write(50 * EXTENT)
    rig.store(error=EIO)
    rig.answer_remote()
    assert not [request for request in rig.local if request.op == WRITE]
    for _ in range(30):
        assert rig.tick(1.0) >= rig.now + 0.5, "called again and again for nothing"
        rig.answer_remote()
        rig.finish_local()
    assert rig.event_names().count("syncstart") == 1


def test_outbound_piece_is_not_read_from_a_broken_disk() -> None:
    rig = outbound(1, 2)
    rig.write(50 * EXTENT)
    rig.store(error=EIO)
    answer(rig, SYNC_BEGIN)
    answer(rig, TAKE_LEAD)
    assert not [request for request in rig.local if request.op == READ]


@pytest.mark.parametrize("direction", ["to the peer", "from the peer"])
def test_s8_link_lost_between_the_last_flush_and_sync_end_is_no_split_brain_later(direction: str) -> None:
    rig = outbound(1) if direction == "to the peer" else inbound(1)
    while not rig.sent(SYNC_END):
        rig.store_all()
        rig.finish_local()
        answer(rig, SYNC_BEGIN, READ, WRITE, FLUSH)
    in_flight = rig.write(EXTENT)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    rig.store_all()
    assert in_flight in rig.finished
    peer_localcnt = 0 if direction == "to the peer" else 1
    assert (rig.saved.localcnt, rig.saved.remotecnt) == (1, peer_localcnt)
    assert not rig.saved.inconsistent


# -- rate, status ---------------------------------------------------------------------------------------------------


def test_rate_limit_is_kept() -> None:
    """Section 10.2: no rate limit."""
    rate = 10 * MIB
    meta = metadata(datasize_bytes=64 * MIB, extentsize_bytes=2 * MIB, localcnt=1)
    rig = Rig(meta, image(*range(32)), Settings(sync_rate_bytes_s=rate))
    rig.attach()
    answer(rig, SYNC_BEGIN)
    began = rig.now
    while rig.now < began + 2:
        rig.now = rig.tick()
        rig.work()
    assert rig.engine.sync.done_bytes == pytest.approx(2 * rate, rel=0.1)


def test_rate_can_be_changed_while_copying() -> None:
    meta = metadata(datasize_bytes=64 * MIB, extentsize_bytes=2 * MIB, localcnt=1)
    rig = Rig(meta, image(*range(32)), Settings(sync_rate_bytes_s=MIB))
    rig.attach()
    rig.work()
    rig.call(rig.engine.reconfigure, Settings())
    rig.tick(0.1)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_status_tells_direction_position_rate_and_time_left() -> None:
    rig = outbound(*range(40))
    answer(rig, SYNC_BEGIN)
    rig.finish_local()
    rig.now += 2
    answer(rig, WRITE)
    status = rig.engine.status()["sync"]
    assert isinstance(status, dict)
    assert status["direction"] == "primary to secondary"
    assert status["total_bytes"] == 40 * EXTENT
    assert status["done_bytes"] == PIECES_IDLE * EXTENT
    assert status["percent"] == 80.0
    assert status["rate_bytes_s"] == PIECES_IDLE * EXTENT // 2
    assert status["left_s"] == 0.5
    rig.work()
    assert rig.engine.status()["sync"] is None


def test_status_of_an_inbound_pass() -> None:
    status = inbound(1).engine.status()["sync"]
    assert isinstance(status, dict)
    assert status["direction"] == "secondary to primary"
    assert status["left_s"] is None


def test_long_pass_flushes_now_and_then_so_that_a_break_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hast.replication.sync.WINDOW_BYTES", 24 * EXTENT)
    rig = outbound(*range(40))
    answer(rig, SYNC_BEGIN)
    rig.finish_local(*rig.local[:8])
    answer(rig, WRITE)
    assert rig.sent(FLUSH)
    rig.finish_local(next(request for request in rig.local if request.op == FLUSH))
    answer(rig, FLUSH)
    assert rig.engine.status()["peer_missing"] == 32 * EXTENT
    assert rig.engine.status()["dirty"] == 32 * EXTENT, "it counts down"
    assert rig.stores[0].flush, "what is done is on the medium, also after a power cut"
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_no_more_is_copied_ahead_of_the_flushes_than_an_interruption_may_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hast.replication.sync.WINDOW_BYTES", 6 * EXTENT)
    rig = outbound(*range(40))
    answer(rig, SYNC_BEGIN)
    begun: set[int] = set()
    while reads := [request for request in rig.local if request.op == READ]:
        begun |= {request.offset // EXTENT for request in reads}
        rig.finish_local(*reads)
        answer(rig, WRITE)
    assert begun == set(range(6))
    rig.finish_local()
    answer(rig, FLUSH)
    assert [request.offset // EXTENT for request in rig.local if request.op == READ], "it goes on after the flush"


@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE])
def test_interrupted_pass_goes_on_where_it_was_also_after_a_power_cut(
    monkeypatch: pytest.MonkeyPatch, features: int
) -> None:
    monkeypatch.setattr("hast.replication.sync.WINDOW_BYTES", 6 * EXTENT)
    meta = metadata(localcnt=1)
    pair = Pair(Rig(meta, image(*range(40))), Shelf(features=features), int(features))
    pair.attach()
    while (done := pair.shelf.engine.counters.writes) < 30:
        assert pair.step()
    pair.rig.disk.crash()
    pair.new_primary()
    assert int(str(pair.rig.engine.status()["dirty"])) <= (40 - done + 7) * EXTENT
    pair.new_secondary()
    pair.connect()
    assert pair.rig.engine.status()["dirty"] == 0


def test_the_record_of_a_pass_before_the_link_was_lost_does_not_end_the_next_one() -> None:
    """The peer would count as marked for ever, and could not take over."""
    rig = Rig()
    rig.connect()
    rig.lose()
    rig.attach()
    rig.answer_remote()
    assert [job.reason for job in rig.stores] == ["in step"], "on its way to a slow disk"
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer())
    assert rig.engine.core.connected
    rig.store()
    rig.answer_remote()
    rig.store_all()
    assert not rig.engine.sync.active
    assert rig.engine.core.peer_whole
