"""The secondary: the primary's requests in order, and what its disk says of its copy."""

from __future__ import annotations

import pytest
from driver import (
    EIO,
    EXTENT,
    MAP,
    MIB,
    PING,
    RESUID,
    SECTOR,
    SYNC_BEGIN,
    SYNC_END,
    TAKE_LEAD,
    Shelf,
    image,
    marked,
    metadata,
)

from hast.format.constants import Command, Feature, SyncSource
from hast.replication.secondary import MAX_ACTIVE, REFERENCE_SYNC_QUIET_S
from hast.replication.types import DELETE, FLUSH, READ, WRITE, ZERO, Lead

EINVAL = 22
KEEPALIVE = int(Command.KEEPALIVE)
DATA = b"d" * SECTOR
PIECE = b"p" * EXTENT


# -- order ---------------------------------------------------------------------------------------------------


def test_map_is_cleared_when_the_first_request_reaches_the_disk_and_not_before() -> None:
    shelf = Shelf(on_disk=image(1, 2))
    shelf.hello()
    shelf.request(KEEPALIVE, 0)
    shelf.request(PING, 5)
    shelf.store_all()
    assert marked(shelf.disk.map) == {1, 2}
    shelf.request(WRITE, 6, 0, SECTOR, DATA)
    shelf.request(WRITE, 7, SECTOR, SECTOR, DATA)
    assert not shelf.local
    shelf.store_all()
    assert marked(shelf.disk.map) == set()
    assert [request.seq for request in shelf.local] == [6, 7]


def test_map_that_cannot_be_cleared_ends_the_connection() -> None:
    shelf = Shelf()
    shelf.hello()
    shelf.request(WRITE, 6, 0, SECTOR, DATA)
    while shelf.stores:
        shelf.store(error=EIO)
    assert shelf.drops
    assert not shelf.local


def test_map_covers_the_offset_of_the_metadata_and_never_the_data_area() -> None:
    """Section 10.1: with a provider much larger than `create -m` clearing the map overwrites the data area."""
    shelf = Shelf()
    assert shelf.hello().mapsize_bytes == MAP
    shelf.request(FLUSH, 6)
    jobs = [job for job in shelf.stores if job.metadata is None]
    assert [(job.offset_bytes, len(job.data)) for job in jobs] == [(4096, MAP)]


def test_s5_overlapping_requests_are_carried_out_in_order() -> None:
    shelf = Shelf().ready()
    shelf.requests(
        (WRITE, 1, 0, 1024, b"1" * 1024, False),
        (WRITE, 2, 512, 1024, b"2" * 1024, False),
        (READ, 3, 512, 512, None, False),
        (DELETE, 4, 0, 512, None, False),
        (WRITE, 5, 8192, 512, DATA, False),
    )
    assert [request.seq for request in shelf.local] == [1, 5]
    shelf.finish_local()
    assert {request.seq for request in shelf.local} == {2, 4}
    shelf.work()
    assert (3, 0, False, b"2" * 512) in shelf.replies
    assert shelf.disk.data[:1536] == bytes(512) + b"2" * 1024


def test_flush_starts_when_every_write_before_it_is_over_and_later_ones_do_not_wait() -> None:
    shelf = Shelf().ready()
    shelf.request(WRITE, 1, 0, SECTOR, DATA)
    shelf.request(FLUSH, 2)
    shelf.request(WRITE, 3, EXTENT, SECTOR, DATA)
    assert [request.seq for request in shelf.local] == [1, 3]
    shelf.finish_local(shelf.local[1])
    assert [request.seq for request in shelf.local] == [1]
    shelf.finish_local()
    assert [request.seq for request in shelf.local] == [2]
    shelf.finish_local()
    assert [reply[0] for reply in shelf.replies] == [3, 1, 2]


def test_s4_memsync_receipt_comes_before_the_final_reply() -> None:
    shelf = Shelf().ready()
    shelf.request(WRITE, 9, 0, SECTOR, DATA, memsync=True)
    assert shelf.replies == [(9, 0, True, None)]
    shelf.finish_local()
    assert shelf.replies == [(9, 0, True, None), (9, 0, False, None)]


def test_equal_seqs_are_no_error() -> None:
    """Section 5.5: 1 may occur twice at the very start of a reference primary."""
    shelf = Shelf().ready()
    shelf.request(WRITE, 1, 0, SECTOR, DATA)
    shelf.request(WRITE, 1, EXTENT, SECTOR, DATA)
    shelf.finish_local()
    assert [reply[:2] for reply in shelf.replies] == [(1, 0), (1, 0)]


def test_zeros_read_back_as_zeros() -> None:
    shelf = Shelf().ready()
    shelf.disk.data[:1024] = b"x" * 1024
    shelf.request(ZERO, 4, 0, 512)
    shelf.work()
    assert shelf.disk.data[:1024] == bytes(512) + b"x" * 512


# -- refusals (section 5.2) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        (WRITE, 5, 0, 0, b"", False),
        (WRITE, 5, 0, SECTOR, None, False),
        (WRITE, 5, 0, 2 * SECTOR, DATA, False),
        (WRITE, 5, 1, SECTOR, DATA, False),
        (WRITE, 5, 64 * EXTENT, SECTOR, DATA, False),
        (READ, 5, 0, 100, None, False),
        (READ, 5, 64 * EXTENT - SECTOR, 2 * SECTOR, None, False),
        (DELETE, 5, 64 * EXTENT, SECTOR, None, False),
        (6, 5, 0, 0, None, False),
        (0, 5, 0, 0, None, False),
        (99, 5, 0, 0, None, False),
        (READ, 0, 0, SECTOR, None, False),
    ],
)
def test_s12_bad_request_is_answered_with_einval_and_touches_nothing(
    item: tuple[int, int, int, int, bytes, bool],
) -> None:
    shelf = Shelf().ready()
    shelf.requests(item)
    assert shelf.replies == [(item[1], EINVAL, False, None)]
    assert not shelf.local
    assert not shelf.stores


def test_s12_bad_memsync_write_gets_one_reply_that_is_receipt_and_error() -> None:
    shelf = Shelf().ready()
    shelf.request(WRITE, 5, 0, 0, b"", memsync=True)
    assert shelf.replies == [(5, EINVAL, True, None)]


def test_s12_bad_first_request_does_not_clear_the_map() -> None:
    shelf = Shelf(on_disk=image(1))
    shelf.hello()
    shelf.request(WRITE, 5, 0, 0, b"")
    shelf.store_all()
    assert marked(shelf.disk.map) == {1}


def test_read_longer_than_a_data_block_is_refused_and_a_discard_of_any_length_is_not() -> None:
    shelf = Shelf(metadata(datasize_bytes=8 * MIB, extentsize_bytes=MIB)).ready()
    shelf.request(READ, 5, 0, 2 * MIB)
    assert shelf.replies == [(5, EINVAL, False, None)]
    shelf.request(DELETE, 6, 0, 8 * MIB)
    assert len(shelf.local) == 1


def test_marks_of_ours_are_refused_where_they_were_not_agreed_on() -> None:
    shelf = Shelf(features=Feature.NONE).ready()
    for op in (SYNC_BEGIN, SYNC_END, TAKE_LEAD):
        shelf.request(op, 9)
    assert shelf.replies == [(9, EINVAL, False, None)] * 3


# -- disk errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "counter"),
    [(READ, "read_errors"), (WRITE, "write_errors"), (DELETE, "delete_errors"), (FLUSH, "flush_errors")],
)
def test_disk_errors_are_answered_and_counted(op: int, counter: str) -> None:
    shelf = Shelf().ready()
    length = 0 if op == FLUSH else SECTOR
    shelf.request(op, 5, 0, length, DATA if op == WRITE else None)
    shelf.finish_local(error=EIO)
    shelf.store_all()
    assert shelf.replies == [(5, EIO, False, None)]
    assert getattr(shelf.engine.counters, counter) == 1
    assert [event.name for event in shelf.events] == ["disk-failed"]
    assert shelf.events[0].text.endswith(" failed: Input/output error.")


def test_disk_errors_of_one_kind_are_told_once_a_minute() -> None:
    shelf = Shelf().ready()
    for seq in range(1, 10):
        shelf.request(WRITE, seq, 0, SECTOR, DATA)
        shelf.finish_local(error=EIO)
    assert len(shelf.events) == 1
    shelf.tick(61)
    shelf.request(WRITE, 20, 0, SECTOR, DATA)
    shelf.finish_local(error=EIO)
    assert len(shelf.events) == 2


def test_flush_that_the_disk_does_not_know_is_no_event() -> None:
    shelf = Shelf().ready()
    shelf.request(FLUSH, 5)
    shelf.finish_local(error=95)
    assert shelf.replies == [(5, 95, False, None)]
    assert not shelf.events


# -- what the disk says of the copy (S7) -------------------------------------------------------------------------


def test_s7_copy_says_that_it_is_inconsistent_before_the_answer_to_sync_begin() -> None:
    """Section 10.1: no on-disk "inconsistent" mark; an S in the middle of a sync can be promoted."""
    shelf = Shelf().ready()
    shelf.request(SYNC_BEGIN, 5)
    assert not shelf.replies
    shelf.store_all()
    assert shelf.saved.inconsistent
    assert shelf.replies == [(5, 0, False, None)]
    shelf.request(SYNC_END, 6)
    shelf.store_all()
    assert not shelf.saved.inconsistent
    assert shelf.replies[-1] == (6, 0, False, None)


def test_s7_mark_that_cannot_be_written_is_an_error_to_the_primary() -> None:
    shelf = Shelf().ready()
    shelf.request(SYNC_BEGIN, 5)
    shelf.store(error=EIO)
    assert shelf.replies == [(5, EIO, False, None)]


def test_s7_sync_end_makes_a_stale_copy_good_again() -> None:
    shelf = Shelf(metadata(stale=True)).ready()
    shelf.request(SYNC_END, 6)
    shelf.store_all()
    assert not shelf.saved.stale


def test_s6_lead_is_durable_with_every_extent_marked_before_it_is_answered() -> None:
    shelf = Shelf().ready()
    shelf.request(TAKE_LEAD, 5)
    assert not shelf.replies
    shelf.store_all()
    assert shelf.saved.localcnt == 1
    assert len(marked(shelf.disk.map)) == MAP * 8
    assert shelf.replies == [(5, 0, False, None)]
    assert "take-lead" in [event.name for event in shelf.events]
    shelf.request(SYNC_END, 6)
    shelf.store_all()
    assert not marked(shelf.disk.map)
    assert shelf.saved.localcnt == 1


@pytest.mark.parametrize("good", [0, 1], ids=["map", "metadata"])
def test_s8_lead_that_cannot_be_recorded_ends_the_connection(good: int) -> None:
    """The next one is told what the disk says, and no raised counter that nobody knows of."""
    shelf = Shelf().ready()
    shelf.request(TAKE_LEAD, 5)
    for _ in range(good):
        shelf.store()
    shelf.store(error=EIO)
    assert shelf.drops


def test_s6_copy_whose_worker_left_it_to_be_known_that_the_peer_leads_says_so_on_its_disk() -> None:
    shelf = Shelf(lead=Lead.PEERS)
    shelf.store_all()
    assert shelf.saved.stale


def test_s8_lead_that_was_offered_as_primary_is_settled_when_this_copy_follows() -> None:
    shelf = Shelf(lead=Lead.OFFERED)
    shelf.hello()
    assert shelf.engine.effects.lead is None, "the other may still refuse"
    shelf.request(FLUSH, 1)
    assert shelf.engine.effects.lead is Lead.AS_RECORDED


def test_s6_lead_before_the_first_disk_request_is_not_wiped_by_it() -> None:
    shelf = Shelf()
    shelf.hello()
    shelf.request(TAKE_LEAD, 5)
    shelf.store_all()
    shelf.request(WRITE, 6, 0, SECTOR, DATA)
    shelf.work()
    assert len(marked(shelf.disk.map)) == MAP * 8


def reference() -> Shelf:
    """Connected to a reference primary, which has begun to write."""
    shelf = Shelf(features=Feature.NONE)
    shelf.hello()
    shelf.request(WRITE, 1, 0, EXTENT, PIECE)
    return shelf


def test_s7_with_a_reference_primary_the_copy_is_called_inconsistent_before_the_first_write_of_a_sync() -> None:
    shelf = reference()
    shelf.store_all()
    assert shelf.saved.inconsistent
    assert shelf.local


@pytest.mark.parametrize(
    ("seq", "offset", "length", "memsync"),
    [(2, 0, EXTENT, False), (1, 0, SECTOR, False), (1, SECTOR, SECTOR, False), (1, 0, EXTENT, True)],
    ids=["another seq", "a client's first write", "not aligned", "memsync"],
)
def test_client_writes_of_a_reference_primary_leave_the_copy_consistent(
    seq: int, offset: int, length: int, memsync: bool
) -> None:
    shelf = Shelf(features=Feature.NONE)
    shelf.hello()
    shelf.request(WRITE, seq, offset, length, bytes(length), memsync)
    while shelf.stores or shelf.local:
        shelf.store_all()
        assert not shelf.saved.inconsistent
        shelf.finish_local()


def test_in_fullsync_a_sync_between_copies_in_step_leaves_this_one_usable() -> None:
    """It repeats what both have: nothing acknowledged is lacking at any moment, should the primary die then."""
    for fullsync, ahead, inconsistent in ((True, 0, False), (True, 1, True), (False, 0, True)):
        shelf = Shelf(features=Feature.NONE, fullsync=fullsync)
        shelf.hello(localcnt=ahead)
        shelf.request(WRITE, 1, 0, EXTENT, PIECE)
        shelf.work()
        assert shelf.saved.inconsistent is inconsistent


def test_s7_sync_is_not_begun_on_a_disk_that_cannot_say_so() -> None:
    shelf = reference()
    shelf.store()
    shelf.store(error=EIO)
    assert shelf.drops
    assert not shelf.local


def test_s7_keepalive_tells_that_a_reference_primary_is_idle_and_so_done() -> None:
    shelf = reference()
    shelf.work()
    shelf.request(KEEPALIVE, 0)
    shelf.store_all()
    assert not shelf.saved.inconsistent


def test_s7_keepalive_while_writes_are_under_way_tells_nothing() -> None:
    shelf = reference()
    shelf.store_all()
    shelf.request(KEEPALIVE, 0)
    assert not shelf.stores


def test_s7_copy_left_inconsistent_by_an_earlier_link_is_good_only_after_a_sync_was_seen() -> None:
    """Section 10.1: a reference primary that had to wait for its peer connects and never starts the sync."""
    shelf = Shelf(metadata(inconsistent=True, stale=True), features=Feature.NONE)
    shelf.hello()
    shelf.request(KEEPALIVE, 0)
    shelf.request(WRITE, 900, 0, SECTOR, DATA)
    shelf.work()
    shelf.request(KEEPALIVE, 0)
    shelf.tick(100)
    shelf.store_all()
    assert shelf.saved.inconsistent
    shelf.request(WRITE, 1, 0, EXTENT, PIECE)
    shelf.work()
    shelf.request(KEEPALIVE, 0)
    shelf.store_all()
    assert not shelf.saved.inconsistent
    assert not shelf.saved.stale


def test_s7_busy_reference_primary_is_done_when_its_sync_requests_have_stopped() -> None:
    shelf = reference()
    shelf.work()
    for _ in range(3):
        shelf.tick(REFERENCE_SYNC_QUIET_S - 1)
        shelf.request(WRITE, 1, 0, EXTENT, PIECE)
        shelf.work()
        assert shelf.saved.inconsistent
    shelf.tick(REFERENCE_SYNC_QUIET_S - 1)
    shelf.request(WRITE, 555, 0, SECTOR, DATA)
    shelf.work()
    assert shelf.saved.inconsistent
    shelf.tick(2)
    shelf.store_all()
    assert shelf.saved.inconsistent, "silence tells nothing: the primary may be dead"
    shelf.request(WRITE, 556, 0, SECTOR, DATA)
    shelf.store_all()
    assert not shelf.saved.inconsistent


def test_s2_unflushed_copy_is_written_anew_by_a_reference_primary_and_good_after_a_flush() -> None:
    shelf = Shelf(metadata(unflushed=True), features=Feature.NONE)
    assert shelf.hello().bitmap == b"\xff" * MAP
    shelf.request(WRITE, 1, 0, EXTENT, PIECE)
    shelf.work()
    shelf.request(KEEPALIVE, 0)
    shelf.store_all()
    assert shelf.saved.unflushed, "nothing was flushed since"
    shelf.request(WRITE, 1, 0, EXTENT, PIECE)
    shelf.request(FLUSH, 9)
    shelf.work()
    shelf.request(KEEPALIVE, 0)
    shelf.store_all()
    assert not shelf.saved.unflushed


@pytest.mark.parametrize(("features", "told"), [(Feature.NONE, EIO), (Feature.SYNC_MARK, 0)])
def test_s4_first_flush_of_a_connection_tells_of_one_that_failed_before_it_where_no_boot_id_can(
    features: Feature, told: int
) -> None:
    shelf = Shelf(metadata(unflushed=True), features=features)
    shelf.hello()
    assert _answers_to_flushes(shelf) == [(1, told), (2, 0)]


def test_s4_flush_that_failed_on_this_connection_is_not_told_again() -> None:
    shelf = Shelf(features=Feature.NONE)
    shelf.hello()
    assert _answers_to_flushes(shelf, EIO) == [(1, EIO), (2, 0)]


def _answers_to_flushes(shelf: Shelf, first_error: int = 0) -> list[tuple[int, int]]:
    """(seq, error) of two flushes, one after the other."""
    shelf.request(FLUSH, 1)
    shelf.store_all()
    shelf.finish_local(error=first_error)
    shelf.store_all()
    shelf.request(FLUSH, 2)
    shelf.work()
    return [(seq, error) for seq, error, *_ in shelf.replies]


def test_s7_copy_that_is_read_from_by_a_reference_primary_stays_consistent() -> None:
    shelf = Shelf(metadata(localcnt=1), image(0), features=Feature.NONE)
    assert shelf.hello().syncsrc is SyncSource.SECONDARY
    shelf.request(READ, 1, 0, SECTOR)
    shelf.work()
    assert not shelf.saved.inconsistent


def test_our_primary_says_itself_when_a_sync_begins() -> None:
    shelf = Shelf().ready()
    shelf.request(WRITE, 1, 0, SECTOR, DATA)
    shelf.work()
    shelf.tick(100)
    assert not shelf.saved.inconsistent


# -- the rest -------------------------------------------------------------------------------------------------


def test_ping_is_answered_by_the_engine_and_not_by_the_disk() -> None:
    shelf = Shelf()
    shelf.hello()
    shelf.request(PING, 8)
    assert shelf.replies == [(8, 0, False, None)]


def test_ping_without_a_seq_is_refused() -> None:
    shelf = Shelf()
    shelf.request(PING, 0)
    assert shelf.replies == [(0, EINVAL, False, None)]


def test_congested_until_the_disk_catches_up() -> None:
    shelf = Shelf().ready()
    shelf.requests(*[(READ, n + 1, 0, SECTOR, None, False) for n in range(MAX_ACTIVE)])
    assert shelf.engine.congested
    assert not shelf.engine.idle
    shelf.work()
    assert not shelf.engine.congested
    assert shelf.engine.idle


def test_status_tells_what_the_disk_says() -> None:
    shelf = Shelf(metadata(localcnt=2, remotecnt=3)).ready()
    status = shelf.engine.status()
    assert (status["localcnt"], status["remotecnt"], status["resuid"]) == (2, 3, RESUID)
    assert status["status"] == "complete"
    assert status["dirty"] == 0


def test_the_disk_of_a_copy_that_leads_is_not_let_go() -> None:
    shelf = Shelf()
    shelf.hello()
    shelf.store_all()
    assert shelf.engine.why_not_release_disk() == ""
    shelf.request(TAKE_LEAD, 1, 0, 0)
    shelf.store_all()
    assert "the other node lacks" in shelf.engine.why_not_release_disk()
    shelf.request(SYNC_END, 2, 0, 0)
    shelf.store_all()
    assert shelf.engine.why_not_release_disk() == ""
