"""How a primary joins its peer."""

from __future__ import annotations

import pytest
from driver import BOOT_A, BOOT_B, EIO, EXTENT, MAP, RESUID, SECTOR, Pair, Rig, Shelf, image, marked, metadata

from hast.format.constants import Feature, Replication, SyncSource
from hast.replication.core import Settings
from hast.replication.joining import HOLD_S
from hast.replication.types import READ, WRITE

SECONDARY = SyncSource.SECONDARY


# -- the start ----------------------------------------------------------------------------------------------


def test_nothing_is_let_in_before_the_role_is_durable() -> None:
    rig = Rig(started=False)
    write, flush = rig.write(0), rig.flush()
    assert not rig.local
    again, job = rig.stores
    assert again.offset_bytes == 4096
    assert job.metadata is not None
    assert job.metadata.prevrole == "primary"
    assert job.metadata.boot_id == BOOT_A
    assert job.flush, "what an earlier worker left in the cache"
    rig.store_all()
    rig.work()
    assert {write, flush} == set(rig.finished)


def test_handshake_that_begins_before_the_start_is_durable_keeps_the_hold() -> None:
    rig = Rig(started=False)
    rig.call(rig.engine.begin_handshake)
    write = rig.write(0)
    rig.store_all()
    assert not rig.local
    assert rig.engine.hello_ready
    rig.lose()
    rig.work()
    assert rig.finished == [write]


def test_link_lost_before_the_start_is_durable_lets_nothing_in() -> None:
    rig = Rig(started=False)
    rig.call(rig.engine.begin_handshake)
    rig.write(0)
    rig.lose()
    assert not rig.local
    rig.store_all()
    rig.work()
    assert len(rig.finished) == 1


# -- message 3 ----------------------------------------------------------------------------------------------


def test_writes_are_held_during_the_handshake_and_reads_are_not() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    write, flush, read = rig.write(0), rig.flush(), rig.read(0)
    assert rig.local == [read]
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer())
    rig.work()
    assert {write, flush, read} == set(rig.finished)


def test_message_3_waits_for_writes_under_way_and_for_the_counter() -> None:
    rig = Rig()
    rig.write(0)
    rig.store_all()
    rig.call(rig.engine.begin_handshake)
    assert not rig.engine.hello_ready
    rig.finish_local()
    assert not rig.engine.hello_ready, "the counter is on its way to the disk"
    rig.store_all()
    assert rig.engine.hello_ready
    assert rig.engine.second_hello() == (RESUID, 1, 0, False)


def test_hello_is_not_ready_without_a_handshake() -> None:
    assert not Rig().engine.hello_ready


def test_node_that_is_ahead_already_goes_on_writing_during_the_handshake() -> None:
    rig = Rig()
    rig.write(0)
    rig.work()
    rig.call(rig.engine.begin_handshake)
    request = rig.write(SECTOR)
    assert rig.local == [request]
    assert rig.engine.hello_ready


def test_handshake_that_takes_too_long_lets_writes_go_on_alone() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    request = rig.write(0)
    rig.tick(HOLD_S / 2)
    assert not rig.stores
    rig.tick(HOLD_S)
    rig.work()
    assert rig.finished == [request]
    assert rig.saved.localcnt == 1


def test_s8_peer_found_ahead_after_writes_went_on_alone_is_not_taken_as_source() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.write(0)
    rig.tick(HOLD_S + 1)
    rig.work()
    rig.call(rig.engine.attach, rig.peer(localcnt=1, syncsrc=SECONDARY, bitmap=image(0)))
    assert rig.drops
    assert not rig.engine.core.connected
    assert rig.engine.status()["local_missing"] == 0
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    assert rig.engine.second_hello()[1] == 1, "the next handshake tells the truth: split brain"


def test_s8_peer_found_ahead_while_the_arbiter_is_asked_is_not_taken_as_source() -> None:
    rig = Rig(settings=Settings(arbiter=True))
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.write(0)
    rig.engine._joining.unhold()
    rig.tick()
    rig.work()
    assert rig.asked
    rig.call(rig.engine.attach, rig.peer(localcnt=1, syncsrc=SECONDARY, bitmap=image(0)))
    assert rig.drops


def test_failed_handshake_lets_writes_in() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    request = rig.write(0)
    rig.lose()
    rig.work()
    assert rig.finished == [request]
    assert "disconnect" not in rig.event_names(), "there was no connection yet"


# -- message 4 ----------------------------------------------------------------------------------------------


def test_maps_are_merged_and_durable_before_anything_is_sent() -> None:
    rig = Rig(on_disk=image(1))
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(bitmap=image(2)))
    request = rig.write(5 * EXTENT)
    assert not rig.remote
    assert not rig.engine.core.connected
    assert marked(rig.stores[-1].data) == {1, 2}
    assert all(job.flush for job in rig.stores)
    rig.store()
    assert not rig.engine.core.connected
    rig.store()
    assert rig.engine.core.connected
    assert "connect" in rig.event_names()
    rig.work()
    assert request in rig.finished
    assert rig.engine.status()["peer_missing"] == 0


def test_merge_adds_to_what_is_owed_and_disturbs_no_write_under_way() -> None:
    """Section 10.1: merge at reconnect overwrites the pending count of extents with writes in flight."""
    rig = Rig(metadata(localcnt=1))
    rig.write(0)
    rig.work()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    request = rig.write(SECTOR)
    rig.call(rig.engine.attach, rig.peer(bitmap=image(0)))
    rig.store_all()
    rig.work()
    assert request in rig.finished
    assert rig.engine.map.inflight == {}


def test_peer_that_is_ahead_marks_this_copy_inconsistent_before_the_link_is_live() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(localcnt=1, syncsrc=SECONDARY, bitmap=image(3)))
    assert any(job.metadata is not None and job.metadata.inconsistent for job in rig.stores)
    assert not rig.engine.core.connected
    rig.store_all()
    assert rig.saved.inconsistent
    assert rig.engine.core.connected
    rig.work()
    assert not rig.saved.inconsistent


def test_with_the_peer_ahead_every_owed_extent_is_taken_from_it() -> None:
    """Section 6.5: direction of copying is decided solely by syncsrc for all merged extents."""
    rig = Rig(on_disk=image(1))
    rig.attach(localcnt=1, syncsrc=SECONDARY, bitmap=image(2))
    assert rig.engine.status()["local_missing"] == 2 * EXTENT
    assert rig.engine.status()["peer_missing"] == 0


def test_sync_begins_whichever_attempt_succeeded() -> None:
    """Section 10.1: connection obtained while waiting for a `wait`-flagged peer never starts the sync pass."""
    rig = Rig(on_disk=image(1))
    for _ in range(3):
        rig.call(rig.engine.begin_handshake)
        rig.lose()
    rig.connect()
    assert rig.engine.status()["peer_missing"] == 0


# -- first connections ------------------------------------------------------------------------------------


def test_virgin_pair_starts_with_one_in_memory_of_who_has_the_data_and_ends_in_step() -> None:
    rig, shelf = Rig(metadata(resuid=0)), Shelf(metadata(resuid=0))
    Pair(rig, shelf).connect()
    assert rig.saved.resuid == shelf.saved.resuid == 99
    assert (rig.saved.localcnt, rig.saved.remotecnt) == (0, 0)
    assert not rig.sent(WRITE, READ)
    assert "syncstart" not in rig.event_names()


def test_virgin_pair_copies_what_was_written_alone() -> None:
    rig, shelf = Rig(metadata(resuid=0)), Shelf(metadata(resuid=0))
    rig.write(3 * EXTENT, b"x" * SECTOR)
    rig.work()
    assert rig.saved.localcnt == 1
    Pair(rig, shelf).connect()
    assert rig.disk.data == shelf.disk.data
    assert (rig.saved.localcnt, rig.saved.remotecnt) == (shelf.saved.remotecnt, shelf.saved.localcnt) == (0, 0)


def test_resource_id_is_durable_before_message_3() -> None:
    rig = Rig(metadata(resuid=0))
    rig.call(rig.engine.begin_handshake)
    assert not rig.engine.hello_ready
    rig.store_all()
    assert rig.saved.resuid == 99
    assert rig.engine.second_hello() == (99, 0, 0, True)


def test_second_attempt_is_no_virgin_any_more() -> None:
    rig = Rig(metadata(resuid=0))
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    assert rig.engine.second_hello() == (99, 0, 0, False)


def test_virgin_answer_raises_the_counter_before_the_link_is_live() -> None:
    rig = Rig(metadata(resuid=0))
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(virgin=True, bitmap=None))
    assert [job.metadata.localcnt for job in rig.stores if job.metadata] == [1]
    assert not rig.engine.core.connected
    rig.store_all()
    assert rig.engine.core.connected


def test_s8_counters_of_the_peers_former_disk_are_not_kept_for_its_new_one() -> None:
    rig = Rig(metadata(localcnt=2, remotecnt=1))
    rig.call(rig.engine.begin_handshake)
    rig.call(rig.engine.attach, rig.peer(virgin=True, bitmap=None))
    stored = [(job.metadata.localcnt, job.metadata.remotecnt) for job in rig.stores if job.metadata]
    assert stored == [(3, 0)], "the new disk, promoted by force, raises 0 to 1: that must not look known"


def test_s8_peer_that_calls_itself_newer_and_does_not_know_of_our_writes_is_refused_with_the_reason() -> None:
    rig = Rig()
    rig.connect()
    rig.lose()
    rig.write(0)
    rig.work()
    rig.store_all()
    rig.call(rig.engine.begin_handshake)
    told = rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(syncsrc=SyncSource.SECONDARY, localcnt=1, remotecnt=told[1], bitmap=b""))
    assert "split brain" in rig.drops[-1]
    assert not rig.engine.core.connected


# -- a peer that lost its cache, and our own that was lost ------------------------------------------------------


def unflushed(features: Feature | None = None) -> Rig:
    """Extent 0 confirmed by both copies, flushed by neither; then the link is lost."""
    rig = Rig()
    if features is None:
        rig.connect()
    else:
        rig.connect(features)
    rig.write(0)
    rig.work()
    rig.lose()
    return rig


def test_s2_peer_whose_kernel_restarted_gets_again_what_it_did_not_flush() -> None:
    """Section 10.1: a power loss on S can lose acknowledged blocks nobody re-syncs."""
    rig = unflushed()
    rig.attach(boot_id=b"c" * 16)
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_peer_whose_kernel_lives_is_not_sent_it_again() -> None:
    rig = unflushed()
    rig.attach(boot_id=BOOT_B)
    assert rig.engine.status()["peer_missing"] == 0


def test_s2_peer_that_does_not_tell_gets_it_again() -> None:
    rig = unflushed(Feature.NONE)
    rig.attach(Feature.NONE)
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_no_peer_is_told_an_id_that_our_disk_did_not_take() -> None:
    """The next worker would make another one up, and the two copies would be strangers."""
    rig = Rig(metadata(resuid=0))
    rig.call(rig.engine.begin_handshake)
    while rig.stores:
        rig.store(error=EIO)
    assert not rig.engine.hello_ready


def test_s3_a_handshake_that_came_to_nothing_does_not_make_forget_what_the_peer_may_lose() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.lose()
    rig.store_all()
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(bitmap=image(7)))
    assert not rig.engine.core.connected, "the map is not on the disk yet"
    rig.lose()
    rig.store_all()
    rig.attach(boot_id=b"another boot 123")
    assert rig.engine.map.owed_remote.data[0] & 1, "the peer lost its cache in between"


def crashed(replication: Replication, boot_id: bytes = BOOT_B) -> Rig:
    meta = metadata(prevrole="primary", boot_id=BOOT_A)
    return Rig(meta, image(2), Settings(replication=replication), boot_id=boot_id)


@pytest.mark.parametrize("replication", [Replication.FULLSYNC, Replication.MEMSYNC])
def test_s4_primary_that_lost_its_cache_takes_it_from_a_peer_in_step(replication: Replication) -> None:
    rig = crashed(replication)
    rig.attach()
    assert rig.engine.status()["local_missing"] == EXTENT
    assert rig.engine.status()["peer_missing"] == 0


def test_s4_primary_that_lost_its_cache_gives_to_a_peer_that_is_behind() -> None:
    rig = Rig(metadata(prevrole="primary", boot_id=BOOT_A, localcnt=1), image(2), boot_id=BOOT_B)
    rig.attach(remotecnt=0)
    assert rig.engine.status()["peer_missing"] == EXTENT
    assert rig.engine.status()["local_missing"] == 0


def test_worker_that_was_replaced_on_a_living_host_keeps_its_copy() -> None:
    rig = crashed(Replication.FULLSYNC, boot_id=BOOT_A)
    rig.attach()
    assert rig.engine.status()["peer_missing"] == EXTENT


def test_disk_that_fails_before_the_handshake_is_not_used_and_the_peer_serves() -> None:
    rig = Rig(started=False)
    rig.store()
    rig.store(error=EIO)
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer())
    assert rig.engine.core.connected
    assert rig.engine.status()["local_disk"] == "failed"
    rig.answer_remote()
    request = rig.write(0)
    while rig.stores:
        rig.store(error=EIO)
    rig.answer_remote()
    assert rig.finished == [request]
    assert request.error == 0


def test_s6_what_only_a_peer_has_that_tells_no_boot_is_not_read_from_a_broken_disk_after_the_link_was_lost() -> None:
    rig = Rig()
    rig.connect(Feature.NONE)
    request = rig.write(0)
    rig.store(error=EIO)
    rig.answer_remote()
    while rig.stores:
        rig.store(error=EIO)
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.engine.status()["local_missing"] == EXTENT
    rig.lose()
    rig.attach(Feature.NONE, boot_id=b"")
    assert rig.engine.status()["local_missing"] == EXTENT


def test_disk_that_fails_while_the_peer_lacks_writes_leaves_no_whole_copy_to_write_to() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(bitmap=image(1)))
    while rig.stores:
        rig.store(error=EIO)
    assert rig.engine.core.connected
    request = rig.write(0)
    while rig.stores:
        rig.store(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_s8_peer_that_lacks_something_is_known_to_be_behind_before_it_is_copied_to() -> None:
    """Seed 20000181: a new disk of the peer was being filled, both counters were 0, this host lost power, and took
    what the new disk held for what it had lost itself."""
    rig = Rig()
    rig.attach(bitmap=image(1))
    rig.store_all()
    assert rig.engine.core.connected
    assert rig.saved.localcnt == 1


def test_s3_crashed_primary_takes_nothing_from_extents_that_the_peer_itself_doubts() -> None:
    """The same, and the counter was not raised yet: the peer's own map names what it lacks."""
    rig = Rig(metadata(prevrole="primary", boot_id=b"x" * 16), image(1, 2))
    rig.attach(bitmap=image(2, 3))
    assert set(rig.engine.map.owed_local) == {1}
    assert set(rig.engine.map.owed_remote) == {2, 3}


def test_lost_link_while_the_merged_map_is_written_is_no_connection() -> None:
    rig = Rig()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(bitmap=image(1)))
    rig.lose()
    rig.store_all()
    assert not rig.engine.core.connected
    assert rig.engine.status()["peer_missing"] == EXTENT
    request = rig.write(0)
    rig.work()
    assert rig.finished == [request]


def test_s4_flush_that_ends_between_message_4_and_the_live_link_is_not_answered_for_a_peer_that_lost_its_cache() -> (
    None
):
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.lose()
    flush = rig.flush()
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(boot_id=b"another boot 000", bitmap=bytes([0xFF]) + bytes(MAP - 1)))
    assert rig.stores, "the merged map is on its way"
    rig.finish_local()
    assert flush not in rig.finished
    rig.work()
    assert flush in rig.finished


def test_s3_what_a_peer_lost_with_its_cache_is_not_read_from_it_after_a_write_that_failed_on_both() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.lose()
    failed = rig.write(0)
    rig.store_all()
    rig.call(rig.engine.disk_lost, "it does not answer")
    rig.finish_local(error=EIO)
    assert failed.error == EIO
    rig.attach(boot_id=b"another boot of b")
    read = rig.read(0)
    assert not rig.sent(READ)
    assert read.error == EIO
