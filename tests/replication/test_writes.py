"""The way of a write: marked first, to both copies, answered by its mode."""

from __future__ import annotations

import pytest
from driver import EIO, EXTENT, MAP, MIB, SECTOR, Rig, image, marked, metadata

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.replication.core import ESHUTDOWN, Settings
from hast.replication.types import DELETE, FLUSH, WRITE, ZERO, Request
from hast.replication.writes import MAX_ACTIVE, MAX_ACTIVE_BYTES

FULLSYNC = Settings(replication=Replication.FULLSYNC)
MEMSYNC = Settings(replication=Replication.MEMSYNC)
ASYNC = Settings(replication=Replication.ASYNC)
BIG = metadata(datasize_bytes=8 * MIB, extentsize_bytes=MIB)


def connected(settings: Settings = FULLSYNC, features: int = OUR_FEATURES, **changes: object) -> Rig:
    rig = Rig(settings=settings)
    rig.connect(features, **changes)
    return rig


# -- S1 ----------------------------------------------------------------------------------------------------


def test_s1_map_is_durable_before_the_first_write_to_an_extent() -> None:
    rig = connected()
    request = rig.write(EXTENT * 3)
    assert not rig.local
    assert not rig.sent()
    (job,) = rig.stores
    assert job.flush
    assert marked(job.data) == {3}
    rig.store_all()
    assert rig.local == [request]
    assert [item[:4] for item in rig.sent()] == [(WRITE, rig.sent()[0][1], EXTENT * 3, SECTOR)]


def test_s1_write_to_a_marked_extent_starts_at_once() -> None:
    rig = connected()
    rig.write(0)
    rig.work()
    request = rig.write(SECTOR)
    assert not rig.stores
    assert rig.local == [request]


def test_s1_write_over_two_extents_waits_for_both_bits() -> None:
    rig = connected()
    rig.write(0)
    rig.work()
    rig.write(EXTENT - SECTOR, 2 * SECTOR)
    assert not rig.local
    assert marked(rig.stores[0].data) == {0, 1}


def test_s1_write_that_comes_while_the_map_is_written_waits_for_the_next_map() -> None:
    rig = connected()
    first = rig.write(0)
    second = rig.write(EXTENT)
    rig.store()
    assert rig.local == [first]
    assert marked(rig.stores[0].data) == {0, 1}
    rig.store()
    assert rig.local == [first, second]


def test_s1_without_metaflush_the_map_is_written_and_not_flushed() -> None:
    rig = connected(Settings(metaflush=False))
    rig.write(0)
    assert not rig.stores[0].flush


def test_s1_zero_and_discard_are_marked_like_writes() -> None:
    rig = connected()
    for request in (rig.zero(0, SECTOR), rig.discard(EXTENT, SECTOR)):
        assert request not in rig.local
    rig.store_all()
    assert [request.op for request in rig.local] == [ZERO, DELETE]


# -- modes -------------------------------------------------------------------------------------------------


def test_s4_fullsync_answers_when_both_copies_have_it() -> None:
    rig = connected(FULLSYNC)
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert not rig.finished
    rig.answer_remote()
    assert rig.finished == [request]
    assert request.error == 0


def test_s4_fullsync_does_not_answer_on_the_peers_word_alone() -> None:
    rig = connected(FULLSYNC)
    request = rig.write(0)
    rig.store_all()
    rig.answer_remote()
    assert not rig.finished
    rig.finish_local()
    assert rig.finished == [request]


def test_s4_memsync_answers_on_receipt_and_keeps_the_extent_until_the_final_word() -> None:
    rig = connected(MEMSYNC)
    request = rig.write(0)
    rig.store_all()
    (item,) = rig.sent(WRITE)
    assert item[5], "not marked as memsync"
    rig.finish_local()
    assert not rig.finished
    rig.reply(item[1], received=True)
    assert rig.finished == [request]
    assert rig.engine.status()["dirty"] == EXTENT
    rig.reply(item[1])
    assert rig.finished == [request]
    assert rig.engine.status()["dirty"] == 0


def test_s4_memsync_receipt_alone_is_not_enough() -> None:
    rig = connected(MEMSYNC)
    request = rig.write(0)
    rig.store_all()
    rig.reply(rig.sent(WRITE)[0][1], received=True)
    assert not rig.finished
    rig.finish_local()
    assert rig.finished == [request]


def test_s4_memsync_final_word_does_for_a_missing_receipt() -> None:
    rig = connected(MEMSYNC)
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote()
    assert rig.finished == [request]


def test_s4_async_answers_when_the_local_copy_has_it() -> None:
    rig = connected(ASYNC)
    request = rig.write(0)
    rig.store_all()
    assert not rig.sent(WRITE)[0][5]
    rig.finish_local()
    assert rig.finished == [request]
    rig.answer_remote()
    assert rig.finished == [request]


def test_s4_async_failed_locally_waits_for_the_peer() -> None:
    rig = connected(ASYNC)
    request = rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    assert not rig.finished
    rig.work()
    assert rig.finished == [request]
    assert request.error == 0


def test_memsync_with_a_version_1_peer_is_fullsync() -> None:
    rig = connected(MEMSYNC, Feature.NONE, version=1)
    request = rig.write(0)
    rig.store_all()
    assert not rig.sent(WRITE)[0][5]
    rig.finish_local()
    assert not rig.finished
    rig.answer_remote()
    assert rig.finished == [request]


def test_change_of_mode_is_in_force_from_the_next_request_and_survives_a_reconnect() -> None:
    """Section 10.2: live change of replication reverts at reconnect."""
    rig = connected(FULLSYNC)
    before = rig.write(0)
    rig.store_all()
    rig.call(rig.engine.reconfigure, ASYNC)
    after = rig.write(EXTENT)
    rig.store_all()
    rig.finish_local()
    assert rig.finished == [after]
    rig.answer_remote()
    assert rig.finished == [after, before]
    rig.lose()
    rig.connect()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert request in rig.finished


def test_change_to_memsync_with_a_version_1_peer_is_fullsync() -> None:
    """Section 10.2: change to memsync with a v1 peer aborts."""
    rig = connected(FULLSYNC, Feature.NONE, version=1)
    rig.call(rig.engine.reconfigure, MEMSYNC)
    rig.write(0)
    rig.store_all()
    assert not rig.sent(WRITE)[0][5]


def test_reply_that_nothing_waits_for_is_passed_over() -> None:
    rig = connected()
    rig.reply(123456)
    rig.reply(0)
    assert not rig.finished
    assert not rig.drops


def test_second_receipt_and_receipt_outside_memsync_change_nothing() -> None:
    rig = connected(FULLSYNC)
    rig.write(0)
    rig.store_all()
    seq = rig.sent(WRITE)[0][1]
    rig.reply(seq, received=True)
    rig.reply(seq, received=True)
    assert not rig.finished
    rig.finish_local()
    assert not rig.finished
    rig.reply(seq)
    assert len(rig.finished) == 1


# -- what goes over the wire -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "piece"), [(Feature.NONE, 131072), (OUR_FEATURES, MIB)])
def test_big_write_is_split_for_its_peer(features: Feature, piece: int) -> None:
    rig = Rig(BIG)
    rig.connect(features)
    data = b"".join(number.to_bytes(4, "big") for number in range(2 * MIB // 4 + 128))
    request = rig.write(512, data)
    rig.store_all()
    items = rig.sent(WRITE)
    assert max(item[3] for item in items) == piece
    assert b"".join(bytes(item[4] or b"") for item in items) == data
    assert [item[2] for item in items] == list(range(512, 512 + len(data), piece))
    assert len({item[1] for item in items}) == len(items)
    rig.finish_local()
    for item in items[:-1]:
        rig.reply(item[1])
    assert not rig.finished
    rig.reply(items[-1][1])
    assert rig.finished == [request]


def test_memsync_write_in_pieces_is_answered_when_every_piece_was_received() -> None:
    rig = Rig(BIG, settings=MEMSYNC)
    rig.connect(Feature.NONE)
    request = rig.write(0, 3 * 131072)
    rig.store_all()
    rig.finish_local()
    items = rig.sent(WRITE)
    for item in items[:-1]:
        rig.reply(item[1], received=True)
    assert not rig.finished
    rig.reply(items[-1][1], received=True)
    assert rig.finished == [request]


def test_error_of_one_piece_is_an_error_of_the_write_at_the_peer() -> None:
    rig = Rig(BIG)
    rig.connect(Feature.NONE)
    request = rig.write(0, 2 * 131072)
    rig.store_all()
    rig.finish_local()
    first, second = rig.sent(WRITE)
    rig.reply(first[1], error=EIO)
    rig.reply(second[1])
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.engine.status()["peer_missing"] == MIB


def test_zeros_for_a_reference_peer_are_writes_of_zero_blocks() -> None:
    rig = Rig(BIG)
    rig.connect(Feature.NONE)
    request = rig.zero(4096, 300 * 1024)
    rig.store_all()
    items = rig.sent()
    assert {item[0] for item in items} == {WRITE}
    assert [item[3] for item in items] == [131072, 131072, 300 * 1024 - 262144]
    assert all(item[4] is not None and not any(bytes(item[4])) and len(item[4]) == item[3] for item in items)
    rig.work()
    assert rig.finished == [request]


def test_zeros_for_our_peer_are_one_command_of_any_length() -> None:
    rig = Rig(BIG)
    rig.connect()
    rig.zero(0, 8 * MIB)
    rig.store_all()
    assert [item[:1] + item[2:5] for item in rig.sent()] == [(ZERO, 0, 8 * MIB, None)]


@pytest.mark.parametrize("features", [Feature.NONE, OUR_FEATURES])
def test_discard_goes_to_any_peer_in_one_piece_and_is_tracked(features: Feature) -> None:
    """Section 10.1: DELETE is not tracked; replicas may differ after an outage."""
    rig = Rig(BIG)
    rig.connect(features)
    request = rig.discard(0, 4 * MIB)
    assert marked(rig.stores[0].data) == {0, 1, 2, 3}
    rig.store_all()
    assert [item[0] for item in rig.sent()] == [DELETE]
    rig.finish_local()
    rig.lose()
    rig.store_all()
    assert rig.finished == [request]
    assert rig.engine.status()["peer_missing"] == 4 * MIB


def test_every_request_has_a_seq_of_its_own_and_never_zero() -> None:
    rig = connected()
    for offset in range(0, 8 * EXTENT, EXTENT):
        rig.write(offset)
    rig.store_all()
    seqs = [item[1] for item in rig.sent()]
    assert len(set(seqs)) == 8
    assert 0 not in seqs


# -- S5 ----------------------------------------------------------------------------------------------------


def test_s5_overlapping_write_starts_when_both_copies_confirmed_the_first() -> None:
    rig = connected()
    rig.write(0)
    rig.work()
    first, second = rig.write(0, b"1" * 1024), rig.write(512, b"2" * 1024)
    assert rig.local == [first]
    assert len(rig.sent(WRITE)) == 1
    rig.finish_local()
    assert second not in rig.local
    rig.answer_remote()
    assert rig.local == [second]
    rig.work()
    assert rig.disk.data[:1536] == b"1" * 512 + b"2" * 1024


def test_s5_memsync_keeps_order_after_an_early_answer() -> None:
    rig = connected(MEMSYNC)
    rig.write(0)
    rig.work()
    rig.write(0)
    seq = rig.sent(WRITE)[0][1]
    rig.finish_local()
    rig.reply(seq, received=True)
    second = rig.write(0)
    assert second not in rig.local
    rig.reply(seq)
    assert rig.local == [second]


def test_s5_discard_and_zero_keep_their_place_among_writes() -> None:
    rig = connected()
    rig.write(0)
    rig.work()
    rig.submit(Request(WRITE, 0, 512, b"1" * 512), Request(DELETE, 0, 512), Request(ZERO, 0, 512))
    assert [request.op for request in rig.local] == [WRITE]
    rig.finish_local()
    rig.answer_remote()
    assert [request.op for request in rig.local] == [DELETE]
    rig.finish_local()
    rig.answer_remote()
    assert [request.op for request in rig.local] == [ZERO]


def test_s5_writes_that_do_not_overlap_go_side_by_side() -> None:
    rig = connected()
    rig.write(0)
    rig.work()
    for sector in range(8):
        rig.write(sector * SECTOR)
    assert len(rig.local) == 8


# -- S3, S8 ------------------------------------------------------------------------------------------------


def test_s3_write_in_flight_when_the_link_drops_stays_owed() -> None:
    """Section 10.1: in-flight writes lost at disconnect are not marked for re-sync."""
    rig = connected()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    assert not rig.finished, "S8: answered before the counter is durable"
    (job,) = rig.stores
    assert job.metadata is not None
    assert job.metadata.localcnt == 1
    assert job.flush
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.attach(remotecnt=0)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0


def test_s3_write_refused_by_the_peer_stays_owed_and_is_copied_again() -> None:
    """Section 10.1: in-flight writes refused by S with an error are not marked for re-sync."""
    rig = connected()
    request = rig.write(0, b"x" * SECTOR)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote(error=EIO)
    assert not rig.finished
    rig.store_all()
    assert rig.finished == [request]
    told = [event.text for event in rig.events if event.name == "peer-disk-failed"]
    assert told == ["The peer failed a write at 0: Input/output error."]
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.tick(11)
    rig.work()
    assert rig.engine.status()["peer_missing"] == 0
    assert rig.saved.localcnt == 0


def test_s3_memsync_write_lost_after_its_answer_stays_owed_and_raises_the_counter() -> None:
    rig = connected(MEMSYNC)
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1], received=True)
    assert len(rig.finished) == 1
    rig.lose()
    rig.store_all()
    assert rig.engine.status()["peer_missing"] == EXTENT
    assert rig.saved.localcnt == 1


def test_s8_only_the_first_write_alone_waits_for_the_counter() -> None:
    rig = connected()
    rig.lose()
    rig.write(0)
    rig.work()
    second = rig.write(SECTOR)
    rig.finish_local()
    assert second in rig.finished
    assert rig.saved.localcnt == 1


def test_s8_a_fresh_worker_that_never_met_its_peer_raises_a_counter_that_is_not_zero() -> None:
    """Section 10.1: split-brain check compares with the peer counter known to the running worker, 0 in a fresh one."""
    rig = Rig(metadata(localcnt=5, remotecnt=2))
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert request not in rig.finished
    rig.store_all()
    assert rig.saved.localcnt == 6
    assert request in rig.finished


def test_s8_counter_that_cannot_be_written_is_an_error_to_the_client() -> None:
    rig = Rig()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.store(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_both_copies_failed_is_an_error_and_both_are_made_equal_again() -> None:
    rig = connected()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    rig.answer_remote(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO
    assert rig.engine.status()["dirty"] == EXTENT
    rig.tick(11)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


def test_memsync_local_failure_with_the_peer_gone_is_an_error() -> None:
    """Section 10.1: memsync, local write failing last while S is absent is reported as success with no copy."""
    rig = connected(MEMSYNC)
    request = rig.write(0)
    rig.store_all()
    rig.lose()
    rig.finish_local(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_local_failure_without_a_peer_is_an_error() -> None:
    rig = Rig()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == EIO


def test_failures_are_told_once_until_the_copies_are_in_step_again() -> None:
    rig = connected()
    for sector in range(4):
        rig.write(sector * SECTOR)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote(error=EIO)
    assert rig.event_names().count("peer-disk-failed") == 1
    rig.store_all()
    rig.tick(11)
    rig.work()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote(error=EIO)
    assert rig.event_names().count("peer-disk-failed") == 2


@pytest.mark.parametrize(
    ("op", "counter"), [(WRITE, "write_errors"), (DELETE, "delete_errors"), (ZERO, "write_errors")]
)
def test_local_errors_are_counted(op: int, counter: str) -> None:
    rig = connected()
    rig.submit(Request(op, 0, SECTOR, bytes(SECTOR) if op == WRITE else None))
    rig.store_all()
    rig.finish_local(error=EIO)
    counters = rig.engine.status()["counters"]
    assert isinstance(counters, dict)
    assert counters[counter] == 1


# -- FUA ---------------------------------------------------------------------------------------------------


def test_fua_write_is_answered_after_a_flush_of_both_copies() -> None:
    rig = connected()
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote()
    assert not rig.finished
    assert [item[0] for item in rig.sent()] == []
    (flush,) = rig.local
    assert flush.op == FLUSH
    rig.work()
    assert rig.finished == [request]


@pytest.mark.parametrize("settings", [MEMSYNC, ASYNC])
def test_fua_write_is_not_answered_early_in_any_mode(settings: Settings) -> None:
    rig = connected(settings)
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1], received=True)
    assert request not in rig.finished
    rig.work()
    assert request in rig.finished


def test_fua_write_alone_is_flushed_locally_and_recorded() -> None:
    rig = Rig()
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    rig.store_all()
    assert request not in rig.finished
    rig.work()
    assert rig.finished == [request]
    assert rig.saved.localcnt == 1


# -- limits ------------------------------------------------------------------------------------------------


def test_congested_by_number_until_answers_go_out() -> None:
    rig = connected()
    rig.submit(*[Request(FLUSH, 0, 0) for _ in range(MAX_ACTIVE - 1)])
    assert not rig.engine.congested
    rig.flush()
    assert rig.engine.congested
    rig.work()
    assert not rig.engine.congested
    assert rig.engine.active == 0


def test_congested_by_bytes() -> None:
    rig = Rig(BIG)
    rig.submit(*[Request(WRITE, 0, MIB, bytes(MIB)) for _ in range(MAX_ACTIVE_BYTES // MIB)])
    assert rig.engine.congested


def test_draining_engine_refuses_what_comes() -> None:
    rig = connected()
    rig.call(rig.engine.drain)
    requests = [rig.write(0), rig.zero(0, SECTOR), rig.discard(0, SECTOR), rig.flush(), rig.read(0)]
    assert [request.error for request in requests] == [ESHUTDOWN] * 5
    assert len(rig.finished) == 5


def test_map_of_an_old_worker_is_owed_to_the_peer() -> None:
    rig = Rig(on_disk=image(3, 9))
    assert rig.engine.status()["peer_missing"] == 2 * EXTENT
    assert len(image()) == MAP
