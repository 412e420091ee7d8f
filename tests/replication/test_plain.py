"""Writes in batches: each keeps its own rules among those that need nothing special."""

from __future__ import annotations

import pytest
from driver import EIO, EXTENT, MIB, SECTOR, Rig, Shelf, marked, metadata

from hast.format.constants import Feature, Replication
from hast.replication.core import ESHUTDOWN, Settings
from hast.replication.types import DELETE, FLUSH, READ, WRITE, Request, WireReply

MODES = list(Replication)


def write(offset: int, length: int = SECTOR, fua: bool = False) -> Request:
    return Request(WRITE, offset, length, bytes([7]) * length, fua=fua)


def marked_pair(settings: Settings | None = None) -> Rig:
    """In step, with the first eight extents marked on the disk."""
    rig = Rig(settings=settings or Settings())
    rig.connect()
    rig.submit(*[write(extent * EXTENT) for extent in range(8)])
    rig.work()
    rig.finished.clear()
    return rig


def answers(rig: Rig, *errors: int) -> list[WireReply]:
    """What the peer says to all that it was sent, in this order."""
    sent = rig.sent()
    rig.remote.clear()
    return [(item[1], error, False, None) for item, error in zip(sent, errors, strict=True)]


def test_a_batch_goes_to_both_copies_in_order_and_is_answered_in_order() -> None:
    rig = marked_pair()
    batch = [write(extent * EXTENT) for extent in range(8)]
    rig.submit(*batch)
    assert rig.local == batch
    assert [item[2] for item in rig.sent(WRITE)] == [request.offset for request in batch]
    rig.finish_local()
    rig.call(rig.engine.replies, answers(rig, *[0] * 8))
    assert rig.finished == batch
    assert all(request.error == 0 for request in batch)
    assert rig.engine.active == 0
    assert not rig.engine.map.inflight


def test_s1_only_those_whose_extent_is_not_marked_wait_for_the_map() -> None:
    rig = marked_pair()
    first, unmarked, last = write(0), write(20 * EXTENT), write(EXTENT)
    rig.submit(first, unmarked, last)
    assert rig.local == [first, last]
    assert [item[2] for item in rig.sent(WRITE)] == [0, EXTENT]
    assert 20 in marked(rig.stores[0].data)
    rig.store_all()
    assert rig.local == [first, last, unmarked]


def test_s5_one_that_overlaps_an_earlier_one_of_its_batch_waits_for_both_copies() -> None:
    rig = marked_pair()
    first, beside, second = write(0, 2 * SECTOR), write(4 * SECTOR), write(SECTOR, 2 * SECTOR)
    rig.submit(first, beside, second)
    assert rig.local == [first, beside]
    rig.finish_local()
    assert not rig.local
    rig.call(rig.engine.replies, answers(rig, 0, 0))
    assert rig.finished == [first, beside]
    assert rig.local == [second]
    rig.work()
    assert rig.finished == [first, beside, second]


def test_s5_a_discard_keeps_its_place_between_the_writes_of_a_batch() -> None:
    rig = marked_pair()
    before, discard, after = write(0), Request(DELETE, 0, EXTENT), write(SECTOR)
    rig.submit(before, discard, after)
    assert rig.local == [before]
    rig.finish_local()
    rig.call(rig.engine.replies, answers(rig, 0))
    assert rig.local == [discard]


def test_s8_one_that_the_peer_failed_waits_for_the_record_and_the_others_do_not() -> None:
    rig = marked_pair()
    good, bad, last = write(0), write(EXTENT), write(2 * EXTENT)
    rig.submit(good, bad, last)
    rig.finish_local()
    rig.call(rig.engine.replies, answers(rig, 0, EIO, 0))
    assert rig.finished == [good, last]
    assert 1 in rig.engine.map.owed_remote
    rig.store_all()
    assert rig.finished[:3] == [good, last, bad]
    assert bad.error == 0
    assert rig.saved.localcnt == 1


def test_s6_one_that_failed_here_is_owed_to_this_copy_and_the_others_are_not() -> None:
    rig = marked_pair()
    good, bad = write(0), write(EXTENT)
    rig.submit(good, bad)
    rig.finish_local(good)
    rig.finish_local(bad, error=EIO)
    rig.call(rig.engine.replies, answers(rig, 0, 0))
    assert rig.finished == [good]
    assert set(rig.engine.map.owed_local) == {1}


@pytest.mark.parametrize("mode", MODES)
def test_s4_fua_write_of_a_batch_is_answered_after_a_flush_and_the_others_before(mode: Replication) -> None:
    rig = marked_pair(Settings(replication=mode))
    plain, fua = write(0), write(EXTENT, fua=True)
    rig.submit(plain, fua)
    rig.finish_local()
    rig.call(rig.engine.replies, answers(rig, 0, 0))
    assert rig.finished == [plain]
    assert [request.op for request in rig.local] == [FLUSH]
    rig.work()
    assert rig.finished == [plain, fua]


@pytest.mark.parametrize("mode", MODES)
def test_s4_each_of_a_batch_is_answered_once_by_its_mode(mode: Replication) -> None:
    rig = marked_pair(Settings(replication=mode))
    batch = [write(0), write(EXTENT)]
    rig.submit(*batch)
    rig.finish_local()
    assert rig.finished == (batch if mode is Replication.ASYNC else [])
    sent = rig.sent(WRITE)
    assert all(item[5] == (mode is Replication.MEMSYNC) for item in sent)
    if mode is Replication.MEMSYNC:
        rig.call(rig.engine.replies, [(item[1], 0, True, None) for item in sent])
        assert rig.finished == batch
    assert rig.engine.map.inflight
    rig.call(rig.engine.replies, answers(rig, 0, 0))
    assert rig.finished == batch
    assert not rig.engine.map.inflight


def test_s4_a_flush_that_the_peer_answers_after_writes_in_one_batch_covers_only_what_was_answered_before_it() -> None:
    rig = marked_pair()
    write_before, flush, read = write(0), Request(FLUSH, 0, 0), Request(READ, 2 * EXTENT, SECTOR)
    rig.submit(write_before, flush, read)
    rig.finish_local()
    rig.call(rig.engine.replies, answers(rig, 0, 0))
    assert rig.finished == [read, write_before, flush]


def test_s10_a_batch_that_comes_while_the_node_lets_go_is_refused() -> None:
    rig = marked_pair()
    rig.call(rig.engine.drain)
    batch = [write(0), write(EXTENT)]
    rig.submit(*batch)
    assert rig.finished == batch
    assert {request.error for request in batch} == {ESHUTDOWN}


def test_s10_while_answers_are_withheld_a_batch_is_carried_out_and_not_answered() -> None:
    rig = marked_pair()
    rig.call(rig.engine.withhold, False)
    rig.submit(write(0), write(EXTENT))
    rig.work()
    assert not rig.finished
    assert rig.disk.data[EXTENT : EXTENT + SECTOR] == bytes([7]) * SECTOR


def test_s11_a_batch_that_comes_while_writes_are_held_starts_when_they_are_not() -> None:
    rig = marked_pair()
    rig.call(rig.engine.freeze, "test")
    batch = [write(0), write(EXTENT)]
    rig.submit(*batch)
    assert not rig.local
    assert not rig.sent()
    rig.call(rig.engine.thaw)
    assert rig.local == batch


def test_one_that_is_too_long_for_the_peer_goes_in_pieces_among_the_others() -> None:
    rig = Rig(metadata(datasize_bytes=8 * MIB, extentsize_bytes=MIB))
    rig.connect(Feature.NONE)
    rig.submit(write(0), write(MIB))
    rig.work()
    rig.finished.clear()
    small, large, last = write(0), write(MIB, 300 * 1024), write(4096)
    rig.submit(small, large, last)
    rig.finish_local()
    assert [item[3] // 1024 for item in rig.sent(WRITE)] == [0, 128, 128, 44, 0]
    replies = answers(rig, *[0] * 5)
    rig.call(rig.engine.replies, replies[:3] + replies[4:])
    assert rig.finished == [small, last]
    rig.call(rig.engine.replies, replies[3:4])
    assert rig.finished == [small, last, large]


def test_the_secondary_keeps_order_and_answers_a_bad_request_of_a_batch_alone() -> None:
    shelf = Shelf().ready()
    data = bytes([1]) * SECTOR
    shelf.requests(
        (WRITE, 1, 0, SECTOR, data, False),
        (WRITE, 2, 1, SECTOR, data, False),
        (WRITE, 3, 0, SECTOR, data, True),
        (FLUSH, 4, 0, 0, None, False),
        (WRITE, 5, EXTENT, SECTOR, data, False),
    )
    assert shelf.replies == [(2, 22, False, None), (3, 0, True, None)]
    assert [request.seq for request in shelf.local] == [1, 5]
    shelf.work()
    assert [reply[0] for reply in shelf.replies[2:]] == [1, 5, 3, 4]
