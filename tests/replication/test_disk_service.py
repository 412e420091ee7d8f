"""A disk of a serving primary is let go only behind a peer that leads, and taken in again as one that is behind."""

from __future__ import annotations

import pytest
from driver import BOOT_A, EIO, EXTENT, MAP, SECTOR, SYNC_END, TAKE_LEAD, Pair, Rig, Shelf, metadata

from hast.format.constants import Feature, SyncSource
from hast.replication.disk_service import full_map, replacement_of
from hast.replication.types import READ, WRITE, Lead


def connected() -> Rig:
    rig = Rig()
    rig.connect()
    return rig


def released() -> Rig:
    """The peer leads, and the disk is not used any more."""
    rig = connected()
    assert rig.engine.why_not_release_disk() == ""
    rig.call(rig.engine.release_disk)
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.disk_released
    rig.call(rig.engine.drop_disk)
    return rig


def test_a_disk_is_not_released_before_both_disks_say_that_the_peer_leads() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    assert not rig.engine.disk_released
    rig.store_all()
    assert rig.saved.stale
    assert not rig.engine.disk_released
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.disk_released
    rig.tick(1)
    assert rig.engine.disk_released, "the lead is not taken back meanwhile"


def test_a_disk_that_is_kept_after_all_leads_again() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.call(rig.engine.keep_disk)
    rig.store_all()
    assert not rig.saved.stale


def test_without_a_peer_that_can_lead_no_disk_is_released() -> None:
    assert "only copy" in Rig().engine.why_not_release_disk()
    rig = Rig()
    rig.connect(Feature.NONE)
    assert "FreeBSD" in rig.engine.why_not_release_disk()


def test_without_a_disk_reads_and_writes_are_the_peers_alone() -> None:
    rig = released()
    write, read = rig.write(0), rig.read(EXTENT)
    while rig.stores:
        rig.store(error=EIO)
    assert not [request for request in rig.local if request.op in (READ, WRITE)]
    rig.reply(rig.sent(WRITE)[0][1])
    rig.reply(rig.sent(READ)[0][1], data=bytes(read.length))
    assert rig.finished == [write, read]
    assert (write.error, read.error) == (0, 0)


@pytest.mark.parametrize("everything", [True, False])
def test_a_disk_taken_in_is_inconsistent_first_and_serves_no_read_of_what_it_lacks(everything: bool) -> None:
    rig = released()
    rig.write(0)
    while rig.stores:
        rig.store(error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    rig.call(rig.engine.take_disk, everything, False)
    rig.store_all()
    assert rig.saved.stale
    assert rig.saved.inconsistent
    missing = rig.engine.status()["local_missing"]
    assert missing == (rig.engine.map.extents * EXTENT if everything else EXTENT)
    before = len(rig.sent(READ))
    rig.read(0)
    assert len(rig.sent(READ)) > before


@pytest.mark.parametrize("crash", ["none", "worker during the work", "worker during the copying"])
@pytest.mark.parametrize("everything", [True, False])
def test_a_disk_is_let_go_and_taken_in_and_both_copies_are_equal_and_durably_say_so(
    everything: bool, crash: str
) -> None:
    rig, shelf = Rig(metadata(resuid=77)), Shelf(metadata(resuid=77))
    pair = Pair(rig, shelf)
    pair.connect()
    rig.write(0, b"a" * SECTOR)
    pair.run()
    rig.call(rig.engine.release_disk)
    pair.run()
    assert rig.engine.disk_released
    rig.call(rig.engine.drop_disk)
    rig.disk.map = b"\xff" * MAP
    for extent in (0, 3):
        request = rig.write(extent * EXTENT, b"b" * SECTOR)
        while rig.stores:
            rig.store(error=EIO)
        pair.run()
        assert request.error == 0
    if crash == "worker during the work":
        pair.new_primary()
        pair.new_secondary()
        pair.connect()
    else:
        if everything:
            rig.disk.data[:] = bytes(len(rig.disk.data))
        rig.call(rig.engine.take_disk, everything, False)
        if crash == "worker during the copying":
            for _ in range(6):
                pair.step()
            pair.new_primary()
            pair.new_secondary()
            pair.connect()
    for _ in range(5):
        pair.run()
        pair.rig.tick(3)
    pair.run()
    assert not pair.rig.saved.stale
    assert not pair.rig.saved.inconsistent
    assert pair.rig.saved.localcnt == pair.shelf.saved.remotecnt
    assert pair.rig.disk.data == pair.shelf.disk.data
    assert pair.rig.disk.data[3 * EXTENT :][:SECTOR] == b"b" * SECTOR


def given_up() -> Rig:
    """Nothing of the disk is used any more, and it took no record of that."""
    rig = connected()
    rig.call(rig.engine.disk_lost, "it does not answer")
    while rig.stores:
        rig.store(error=EIO)
    return rig


def test_a_disk_that_hung_is_filled_by_a_peer_that_leads() -> None:
    rig = given_up()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.disk_is_behind
    request = rig.write(0)
    while rig.stores:
        rig.store(error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    assert request.error == 0
    assert rig.engine.disk_is_behind
    rig.lose()
    assert not rig.engine.disk_is_behind, "the peer may lose its cache meanwhile: another worker looks anew"


def test_a_disk_that_hung_while_the_peer_lacked_something_is_not_overwritten_by_it() -> None:
    rig = Rig()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.store_all()
    rig.call(rig.engine.disk_lost, "it does not answer")
    while rig.stores:
        rig.store(error=EIO)
    assert not rig.engine.disk_is_behind
    rig.connect()
    assert not rig.engine.core.peer_whole
    assert not rig.engine.disk_is_behind


def test_a_write_that_both_copies_failed_does_not_make_the_peer_lack_something_beside_a_disk_that_is_lost() -> None:
    """Nobody was told that it succeeded; else nothing could be written any more."""
    rig = connected()
    failed = rig.write(0)
    rig.store_all()
    rig.lose()
    rig.call(rig.engine.disk_lost, "it does not answer")
    while rig.stores:
        rig.store(error=EIO)
    rig.finish_local(error=EIO)
    assert failed.error == EIO
    rig.attach()
    assert rig.engine.core.peer_whole
    request = rig.write(0)
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.reply(rig.sent(WRITE)[0][1])
    assert (rig.finished[-1], request.error) == (request, 0)


def test_a_pass_that_had_nothing_to_copy_does_not_end_the_lead_of_the_peer() -> None:
    """The peer would clear the map that says that everything is missing here."""
    rig = connected()
    rig.write(0)
    rig.work()
    rig.flush()
    rig.lose()
    rig.attach()
    assert rig.engine.sync.active, "it waits for the flush"
    rig.call(rig.engine.disk_lost, "it does not answer")
    rig.finish_local(error=EIO)
    assert rig.sent(TAKE_LEAD)
    assert not rig.sent(SYNC_END)
    assert not rig.engine.sync.active


def test_a_disk_that_does_not_hold_this_copy_is_not_taken() -> None:
    rig = released()
    assert rig.engine.why_not_take_disk(rig.saved) == ""
    assert "replace" in rig.engine.why_not_take_disk(metadata(resuid=1234))


def test_only_what_the_map_names_is_missing_on_a_disk_that_is_as_it_was_left() -> None:
    rig = released()
    assert not rig.engine.disk_lacks_everything(rig.saved, False)
    assert rig.engine.disk_lacks_everything(rig.saved, True)
    assert rig.engine.disk_lacks_everything(metadata(), False)


def test_a_disk_that_takes_the_place_of_another_calls_itself_empty() -> None:
    meta = replacement_of(metadata(unflushed=True))
    assert (meta.stale, meta.inconsistent, meta.unflushed) == (True, True, False)
    assert full_map(meta) == b"\xff" * MAP


def test_a_disk_that_is_let_go_says_that_everything_is_to_be_looked_at() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    last = rig.engine.drop_disk(rig.now)
    assert last.data == b"\xff" * MAP
    assert last.flush


def test_a_copy_whose_disk_took_no_record_serves_nothing_of_its_own_when_it_begins_again() -> None:
    """Its map names none of the extents that only the peer wrote."""
    rig = Rig(metadata(stale=True), lead=Lead.PEERS, started=False)
    assert rig.stores[0].data == b"\xff" * MAP, "the map says so before the metadata"
    rig.store_all()
    read = rig.read(3 * EXTENT)
    assert not rig.local
    assert read.error == EIO, "the peer is away"


@pytest.mark.parametrize("answered", [True, False], ids=["peer leads", "answer is lost"])
def test_s8_a_disk_that_could_not_leave_is_ahead_of_the_peer_that_was_given_the_lead(answered: bool) -> None:
    """The peer may have lost what it did not flush; this copy has it."""
    rig = connected()
    rig.call(rig.engine.release_disk)
    if answered:
        rig.store_all()
        rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    assert not rig.engine.hello_ready
    rig.store_all()
    assert (rig.saved.stale, rig.saved.remotecnt) == (False, 1)
    assert rig.engine.hello_ready
    write = rig.write(0)
    rig.call(rig.engine.detach, "the peer is not there")
    rig.store_all()
    rig.finish_local()
    rig.store_all()
    assert (write.error, rig.saved.localcnt) == (0, 1)


def test_s6_a_disk_that_failed_while_it_was_leaving_does_not_come_back_alone() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    rig.store_all()
    rig.call(rig.engine.disk_lost, "it does not answer")
    rig.lose()
    rig.store_all()
    assert rig.saved.stale


def test_s9_a_disk_that_was_given_up_while_it_was_leaving_does_not_keep_the_peer_waiting() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    rig.store(error=EIO)
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.call(rig.engine.disk_lost, "it does not answer")
    rig.write(0)
    rig.lose()
    rig.store_all()
    rig.call(rig.engine.begin_handshake)
    rig.store_all()
    assert rig.engine.hello_ready


def test_s8_a_disk_is_not_behind_a_peer_that_may_never_have_been_told_to_lead() -> None:
    """It holds all that was acknowledged: a worker that begins anew has to wait for the peer and ask."""
    rig = connected()
    rig.write(0)
    rig.store(error=EIO)
    rig.lose()
    rig.store_all()
    assert not rig.engine.core.local_ok
    assert not rig.engine.disk_is_behind


def test_the_next_worker_is_told_of_a_disk_that_is_lost_while_the_peer_leads_already() -> None:
    rig = connected()
    rig.call(rig.engine.release_disk)
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.effects.lead is Lead.AS_RECORDED, "the disk says it"
    rig.call(rig.engine.disk_lost, "it does not answer")
    assert rig.engine.effects.lead is Lead.PEERS, "writes go to the peer alone, and no map on the disk names them"


def test_the_next_worker_is_told_of_a_disk_that_was_let_go() -> None:
    assert released().engine.effects.lead is Lead.PEERS


def test_a_disk_that_is_taken_in_has_its_map_before_it_says_that_it_is_behind() -> None:
    rig = given_up()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.call(rig.engine.take_disk, True, True)
    assert rig.stores[0].data[:8] == b"\xff" * 8
    assert rig.stores[1].metadata is not None
    assert rig.stores[1].metadata.stale


def test_a_map_that_says_everything_is_on_the_disk_before_the_peer_may_clear_its_own() -> None:
    meta = metadata(stale=True, inconsistent=True, boot_id=BOOT_A)
    rig = Rig(meta, lead=Lead.PEERS, started=False)
    rig.call(rig.engine.begin_handshake)
    assert rig.engine.hello_ready
    rig.engine.second_hello()
    leader = rig.peer(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=b"\xff" * MAP)
    rig.call(rig.engine.attach, leader)
    for _ in range(len(rig.stores)):
        assert not rig.engine.core.connected
        rig.store()
    rig.store_all()
    assert rig.engine.core.connected
