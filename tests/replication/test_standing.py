"""Who is ahead: what is durable before a client is answered."""

from __future__ import annotations

import pytest
from driver import EIO, EXTENT, MAP, SECTOR, SYNC_BEGIN, TAKE_LEAD, Pair, Rig, Shelf, image, metadata

from hast.format.constants import OUR_FEATURES, Command, Feature, SyncSource
from hast.replication.core import Settings
from hast.replication.standing import NOT_ALONE, OUTDATE_PEER, Record
from hast.replication.types import FLUSH, READ, WRITE, Lead, Request

ARBITER = Settings(arbiter=True)


def failed_locally(features: int = OUR_FEATURES) -> tuple[Rig, Request]:
    """A write that only the peer has; nothing is recorded yet."""
    rig = Rig()
    rig.connect(features)
    request = rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    return rig, request


# -- the peer leads (S6) -----------------------------------------------------------------------------------


def test_s6_write_that_only_the_peer_has_is_answered_when_both_disks_say_so() -> None:
    """Section 10.1: a P with a broken local disk keeps acking on S alone; nothing records that it is stale."""
    rig, request = failed_locally()
    assert rig.sent(TAKE_LEAD)
    rig.store_all()
    assert rig.saved.stale
    assert not rig.finished
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.finished == [request]
    assert request.error == 0


def test_s6_reference_peer_is_not_sent_a_command_it_does_not_know() -> None:
    rig, request = failed_locally(Feature.NONE)
    assert not rig.sent(TAKE_LEAD)
    assert not rig.finished
    rig.store_all()
    assert rig.saved.stale
    assert rig.finished == [request]


def test_s6_peer_that_cannot_record_its_lead_makes_the_write_fail() -> None:
    rig, request = failed_locally()
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1], error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_s6_peer_that_could_not_record_its_lead_is_asked_again_by_the_next_write() -> None:
    rig, _request = failed_locally()
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1], error=EIO)
    rig.remote.clear()
    second = rig.write(40 * EXTENT)
    rig.store_all()
    rig.finish_local(*[request for request in rig.local if request.op == WRITE], error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    assert second not in rig.finished
    assert rig.sent(TAKE_LEAD)


def test_s6_link_lost_before_the_peer_knows_makes_the_write_fail() -> None:
    rig, request = failed_locally()
    rig.lose()
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == EIO


def test_s6_a_lead_that_no_answer_rested_on_is_not_left_with_a_peer_that_may_lose_its_cache() -> None:
    """What failed here was answered as failed: this copy has all that clients were told, and the peer may not."""
    rig, request = failed_locally()
    rig.lose()
    rig.store_all()
    assert request.error == EIO
    assert not rig.saved.stale
    later = rig.write(0, b"y" * SECTOR)
    rig.work()
    assert later.error == 0, "this node serves on alone"
    rig.attach(boot_id=b"another boot", remotecnt=rig.saved.localcnt - 1, localcnt=rig.saved.remotecnt)
    assert rig.engine.status()["peer_missing"]
    assert not rig.engine.status()["local_missing"]


def test_s6_a_lead_that_one_answer_rested_on_stays_with_the_peer() -> None:
    rig, request = failed_locally()
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert request.error == 0
    rig.lose()
    rig.attach()
    rig.lose()
    rig.store_all()
    assert rig.saved.stale
    assert rig.write(0).error == EIO


def test_s6_a_lead_handed_over_for_a_failed_flush_stays_with_the_peer() -> None:
    """The medium here may lack what both copies had been told to make durable."""
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.flush()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(FLUSH)[-1][1])
    assert rig.sent(TAKE_LEAD)
    rig.lose()
    rig.store_all()
    assert rig.saved.stale


def test_s6_write_confirmed_only_by_a_peer_that_is_gone_fails_instead_of_hanging() -> None:
    rig = Rig()
    rig.connect()
    request = rig.write(0)
    rig.store_all()
    rig.reply(rig.sent(WRITE)[0][1])
    rig.lose()
    rig.finish_local(error=EIO)
    rig.store_all()
    assert rig.finished == [request]
    assert request.error == EIO


def test_s6_copy_that_follows_takes_no_writes_alone() -> None:
    rig, _request = failed_locally()
    rig.store_all()
    rig.answer_remote()
    rig.lose()
    request = rig.write(10 * EXTENT)
    rig.store_all()
    assert request.error == EIO
    assert not rig.local
    assert rig.saved.localcnt == 0, "it must not claim to be ahead"


def test_s6_write_in_flight_does_not_make_a_following_copy_claim_to_be_ahead() -> None:
    rig, _request = failed_locally()
    rig.store_all()
    rig.answer_remote()
    request = rig.write(EXTENT)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    rig.store_all()
    assert request.error == EIO
    assert rig.saved.localcnt == 0


def test_s6_resynced_copy_is_no_longer_stale_and_serves_reads() -> None:
    rig, _request = failed_locally()
    rig.store_all()
    rig.answer_remote()
    rig.tick(3)
    rig.work()
    assert not rig.saved.stale
    assert rig.saved.remotecnt == 1, "the peer raised its counter once"
    assert rig.engine.status()["local_missing"] == 0
    assert rig.read(0) in rig.local


def test_s6_counters_agree_after_the_peer_led_on_one_link_more_than_once() -> None:
    rig, shelf = Rig(), Shelf()
    pair = Pair(rig, shelf)
    pair.connect()
    for count in (1, 2):
        rig.write(0)
        rig.store_all()
        rig.finish_local(error=EIO)
        pair.run()
        rig.tick(3)
        pair.run()
        assert (rig.saved.localcnt, rig.saved.remotecnt) == (0, count)
        assert (shelf.saved.localcnt, shelf.saved.remotecnt) == (count, 0)
        assert not rig.saved.stale


def test_s6_counters_agree_after_a_reconnect_in_between() -> None:
    rig, shelf = Rig(), Shelf()
    pair = Pair(rig, shelf)
    pair.connect()
    rig.write(0, b"x" * SECTOR)
    rig.store_all()
    rig.finish_local(error=EIO)
    pair.run()
    rig.lose()
    pair.new_secondary()
    pair.connect()
    assert rig.saved.remotecnt == pair.shelf.saved.localcnt == 1
    assert rig.disk.data == pair.shelf.disk.data
    assert rig.disk.data[:SECTOR] == b"x" * SECTOR
    assert not rig.saved.stale


def test_s6_stale_copy_of_an_earlier_worker_mistrusts_its_marked_extents() -> None:
    rig = Rig(metadata(stale=True), image(4))
    assert rig.engine.status()["local_missing"] == EXTENT
    assert rig.read(4 * EXTENT).error == EIO
    rig.attach()
    request = rig.read(4 * EXTENT)
    assert request not in rig.local
    assert rig.sent(READ)


def test_forced_copy_is_taken_for_good() -> None:
    rig = Rig(metadata(stale=True, inconsistent=True), image(4), force=True)
    assert rig.engine.status()["local_missing"] == 0
    assert rig.engine.status()["peer_missing"] == EXTENT
    assert not rig.saved.stale
    assert not rig.saved.inconsistent


def incomplete() -> Rig:
    """The peer is being synchronised: it lacks extent 1, and says so on its disk."""
    rig = Rig(metadata(localcnt=1), image(1, 2))
    rig.attach()
    rig.reply(rig.sent(SYNC_BEGIN)[0][1])
    rig.remote.clear()
    return rig


def test_s6_peer_that_lacks_other_writes_is_not_given_the_lead() -> None:
    rig = incomplete()
    request = rig.write(40 * EXTENT)
    rig.store_all()
    local = next(r for r in rig.local if r.op == WRITE)
    rig.finish_local(local, error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    assert request.error == EIO
    assert request in rig.finished
    assert not rig.sent(TAKE_LEAD)
    rig.store_all()
    assert not rig.saved.stale
    rig.work()
    rig.tick(11)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


def test_s8_what_the_peer_missed_while_it_led_is_counted_once_this_copy_has_everything() -> None:
    """Without that the next write that the peer misses would be taken for a second history."""
    rig, _request = failed_locally()
    rig.store_all()
    rig.answer_remote()
    missed = rig.write(40 * EXTENT)
    rig.store_all()
    rig.finish_local(*[request for request in rig.local if request.op == WRITE])
    rig.reply(rig.sent(WRITE)[-1][1], error=EIO)
    rig.store_all()
    assert missed.error == EIO
    rig.tick(1)
    while rig.engine.status()["local_missing"]:
        rig.store_all()
        rig.answer_remote(data=bytes(EXTENT))
        rig.finish_local()
    rig.store_all()
    peer = rig.engine.core.peer
    assert peer is not None
    assert rig.saved.localcnt > peer.remotecnt


def test_s7_copy_that_is_the_better_of_two_with_gaps_is_not_called_inconsistent() -> None:
    rig = incomplete()
    rig.finish_local(error=EIO)
    rig.write(30 * EXTENT)
    rig.work()
    flush = rig.flush()
    rig.finish_local(error=EIO)
    rig.answer_remote()
    rig.store_all()
    assert flush.error == EIO
    assert rig.engine.status()["local_missing"]
    assert rig.engine.status()["peer_missing"]
    rig.lose()
    rig.store_all()
    rig.attach(localcnt=0, remotecnt=0)
    assert not rig.saved.inconsistent, "a worker after this one would take from the peer what the peer lacks"
    rig.tick(11)
    rig.work()
    rig.tick(11)
    rig.work()
    assert rig.engine.status()["dirty"] == 0


def test_s6_extent_that_the_peer_lacks_is_never_copied_from_it() -> None:
    rig = Rig()
    rig.connect()
    rig.lose()
    rig.write(EXTENT, b"a" * SECTOR)
    rig.work()
    rig.attach(remotecnt=0)
    failed = rig.write(EXTENT + SECTOR)
    rig.finish_local(next(r for r in rig.local if r.op == WRITE), error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    assert failed.error == EIO
    assert rig.engine.status()["local_missing"] == 0
    assert rig.engine.status()["peer_missing"] == EXTENT
    rig.work()
    rig.tick(11)
    rig.work()
    assert rig.disk.data[EXTENT : EXTENT + SECTOR] == b"a" * SECTOR


def test_s6_broken_disk_beside_an_incomplete_peer_refuses_writes() -> None:
    rig = incomplete()
    request = rig.write(40 * EXTENT)
    rig.store(error=EIO)
    assert request.error == EIO
    assert not rig.sent(TAKE_LEAD)


def test_s9_write_refused_to_a_copy_that_follows_does_not_leave_the_copies_different() -> None:
    rig = Rig()
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(1))
    read = rig.sent(READ)[0]
    rig.remote.clear()
    rig.reply(read[1], data=bytes(EXTENT))
    rig.finish_local()
    flush = next(r for r in rig.local if r.op == FLUSH)
    request = rig.write(EXTENT)
    rig.finish_local(next(r for r in rig.local if r.op == WRITE))
    rig.reply(rig.sent(WRITE)[0][1], error=EIO)
    assert request.error == EIO
    rig.finish_local(flush)
    rig.reply(rig.sent(FLUSH)[0][1])
    assert rig.engine.status()["local_missing"] == EXTENT, "it has to be copied again"


# -- a local disk that is broken ----------------------------------------------------------------------------


def test_s1_failed_map_write_keeps_the_data_write_off_this_disk() -> None:
    """Section 10.1: a failed map write is ignored and the data write goes on."""
    rig = Rig()
    rig.connect()
    request = rig.write(0)
    rig.store(error=EIO)
    assert not rig.local
    assert "disk-failed" in rig.event_names()
    assert not rig.sent(WRITE), "the peer has to know first that it leads"
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert len(rig.sent(WRITE)) == 1
    rig.reply(rig.sent(WRITE)[0][1])
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.engine.status()["local_disk"] == "failed"


def test_s6_that_only_the_peer_is_good_is_noted_outside_a_disk_that_takes_no_record() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store(error=EIO)
    assert rig.engine.effects.lead is Lead.OFFERED, "this worker may not live to hear the answer"
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.effects.lead is Lead.PEERS
    assert not rig.finished


def test_s6_reference_peer_that_alone_holds_a_write_is_noted_before_the_write_is_answered() -> None:
    """Nobody can tell it that it leads; a worker after this one has to know."""
    rig = Rig()
    rig.connect(Feature.NONE)
    write = rig.write(0)
    rig.store(error=EIO)
    assert rig.engine.effects.lead is None
    rig.reply(rig.sent(WRITE)[0][1])
    assert rig.finished == [write]
    assert write.error == 0
    assert rig.engine.effects.lead is Lead.PEERS


def test_s6_a_disk_that_took_the_record_needs_no_note() -> None:
    rig, _request = failed_locally()
    rig.store_all()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    assert rig.engine.effects.lead is Lead.AS_RECORDED


def test_s8_a_worker_that_does_not_know_whether_the_peer_leads_does_nothing_alone() -> None:
    rig = Rig(lead=Lead.OFFERED)
    read, write = rig.read(0), rig.write(0)
    rig.store_all()
    assert rig.local == [read], "nothing was acknowledged on the peer's copy alone"
    assert write.error == EIO
    assert rig.saved.localcnt == 0


def test_s8_a_peer_that_did_not_take_the_lead_it_was_offered_lets_this_copy_go_on_alone() -> None:
    rig = Rig(lead=Lead.OFFERED)
    rig.connect()
    assert rig.engine.effects.lead is Lead.AS_RECORDED
    rig.lose()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.store_all()
    assert request.error == 0
    assert rig.saved.localcnt == 1


def test_s8_a_peer_that_took_the_lead_it_was_offered_is_copied_from() -> None:
    rig = Rig(lead=Lead.OFFERED)
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=b"\xff" * MAP)
    assert rig.engine.core.map.owed_local.count == rig.engine.core.map.extents
    assert rig.saved.inconsistent
    assert rig.engine.effects.lead is Lead.AS_RECORDED, "the disk says it"


def test_s8_an_offer_of_the_lead_is_known_until_the_peer_is_there() -> None:
    rig = Rig(lead=Lead.OFFERED)
    rig.call(rig.engine.begin_handshake)
    rig.call(rig.engine.detach, "the peer is not there")
    assert rig.engine.effects.lead is None
    write = rig.write(0)
    rig.store_all()
    assert write.error == EIO


@pytest.mark.parametrize("lead", Lead)
def test_s6_force_makes_void_what_a_worker_left_to_be_known_of_the_lead(lead: Lead) -> None:
    """Else the worker after this one would go back to the peer's copy."""
    rig = Rig(lead=lead, force=True)
    assert rig.engine.effects.lead is Lead.AS_RECORDED
    assert not rig.saved.stale
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.store_all()
    assert request.error == 0


def test_broken_disk_and_no_peer_refuse_writes() -> None:
    rig = Rig()
    request = rig.write(0)
    rig.store(error=EIO)
    assert request.error == EIO
    again = rig.write(0)
    assert again.error == EIO
    assert rig.finished == [request, again]


def test_broken_disk_and_a_peer_lost_before_it_leads_refuse_writes() -> None:
    rig = Rig()
    rig.connect()
    request = rig.write(0)
    rig.store(error=EIO)
    rig.lose()
    assert rig.finished == [request]
    assert request.error == EIO


def test_s8_counter_that_the_peer_is_told_of_while_it_is_on_its_way_makes_nobody_ahead() -> None:
    rig, _request = failed_locally()
    standing = rig.engine.standing
    standing.ahead = Record.UNDER_WAY
    standing._ahead_job = rig.engine.core.raise_localcnt("localcnt raised")
    rig.take()
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    rig.store_all()
    assert standing.ahead is Record.ABSENT, "the next write that the peer lacks needs a counter that it does not know"


def test_s8_broken_disk_never_goes_ahead_of_a_peer_that_may_have_taken_the_lead() -> None:
    """The answer to TAKE_LEAD is lost with the link: the peer leads, and a counter raised here is a second history."""
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store_all()
    under_way = rig.write(SECTOR)
    rig.write(EXTENT)
    rig.store(error=EIO)
    assert rig.sent(TAKE_LEAD)
    rig.finish_local()
    rig.lose()
    rig.store_all()
    assert under_way.error == EIO
    assert rig.saved.localcnt == 0


def test_broken_disk_serves_through_the_peer_and_again_after_a_reconnect() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store(error=EIO)
    rig.answer_remote()
    rig.lose()
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=b"\xff" * 512))
    while rig.stores:
        rig.store(error=EIO)
    assert rig.engine.core.connected
    rig.answer_remote()
    request = rig.write(EXTENT)
    while rig.stores:
        rig.store(error=EIO)
    rig.answer_remote()
    assert request in rig.finished
    assert request.error == 0


def test_broken_disk_with_a_reference_peer_serves_through_it() -> None:
    rig = Rig()
    rig.connect(Feature.NONE)
    request = rig.write(0)
    rig.store(error=EIO)
    rig.answer_remote()
    assert rig.finished == [request]
    assert request.error == 0
    assert not rig.sent(TAKE_LEAD)


def test_broken_disk_is_told_once() -> None:
    rig = Rig()
    rig.connect()
    for extent in range(3):
        rig.write(extent * EXTENT)
    while rig.stores:
        rig.store(error=EIO)
    assert rig.event_names().count("disk-failed") == 1


# -- the arbiter (S11) ---------------------------------------------------------------------------------------


def test_s11_arbiter_is_asked_before_the_counter_moves() -> None:
    rig = Rig(settings=ARBITER)
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert rig.asked == [OUTDATE_PEER]
    assert not rig.stores
    assert not rig.finished
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    assert not rig.finished
    rig.store_all()
    assert rig.finished == [request]
    assert rig.saved.localcnt == 1


def test_s11_question_that_a_short_link_made_void_is_put_again_when_it_is_lost() -> None:
    """Seed 53000237: who passes it on drops it when the peer is back; no handshake began while it was open."""
    rig = Rig(settings=ARBITER)
    rig.call(rig.engine.begin_handshake)
    rig.engine.second_hello()
    rig.engine._joining.unhold()
    rig.tick()
    request = rig.write(0)
    rig.work()
    assert rig.asked == [OUTDATE_PEER]
    rig.call(rig.engine.attach, rig.peer())
    rig.store_all()
    assert rig.engine.core.connected
    rig.lose()
    assert rig.asked == [OUTDATE_PEER] * 2
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.work()
    assert rig.finished == [request]


def test_s11_arbiter_is_asked_once() -> None:
    rig = Rig(settings=ARBITER)
    for extent in range(3):
        rig.write(extent * EXTENT)
    rig.work()
    assert rig.asked == [OUTDATE_PEER]
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.work()
    assert len(rig.finished) == 3
    assert rig.saved.localcnt == 1


def test_s11_leave_that_comes_when_the_copies_are_equal_again_is_given_back() -> None:
    """Seed 2300013209: the record stayed, and the peer could not take over from a node that died later."""
    rig = Rig(metadata(localcnt=1), image(1), settings=ARBITER)
    rig.attach()
    rig.write(EXTENT)
    rig.engine.standing.go_ahead()
    rig.take()
    assert rig.asked == [OUTDATE_PEER]
    rig.work()
    assert rig.event_names()[-1] == "syncdone"
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    assert rig.event_names()[-1] == "in-sync"


def test_s11_leave_that_is_used_is_not_given_back() -> None:
    rig = Rig(settings=ARBITER)
    rig.connect()
    rig.events.clear()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.work()
    assert "in-sync" not in rig.event_names()


def refused() -> tuple[Rig, Request]:
    """The link is lost with a write in flight, and the arbiter says no."""
    rig = Rig(settings=ARBITER)
    rig.connect()
    request = rig.write(0, b"x" * SECTOR)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    rig.call(rig.engine.answered, OUTDATE_PEER, False)
    return rig, request


def test_s11_refusal_freezes_and_acknowledges_nothing() -> None:
    rig, request = refused()
    later, flush = rig.write(EXTENT), rig.flush()
    rig.store_all()
    assert not rig.finished
    assert not rig.local
    assert rig.saved.localcnt == 0, "a split brain would be seen where there is none"
    assert rig.engine.status()["frozen"] == NOT_ALONE
    assert "frozen" in rig.event_names()
    assert not (request.acked and later.acked and flush.acked)


def test_s11_peer_that_comes_back_in_step_gets_the_held_writes_and_they_are_answered() -> None:
    rig, request = refused()
    later = rig.write(EXTENT)
    rig.attach()
    assert rig.engine.status()["frozen"] == ""
    assert "thawed" in rig.event_names()
    rig.work()
    assert request in rig.finished
    assert later in rig.finished
    assert (request.error, later.error) == (0, 0)
    assert rig.engine.status()["peer_missing"] == 0


def test_s11_peer_that_comes_back_ahead_makes_the_held_writes_fail() -> None:
    rig, request = refused()
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(0))
    assert rig.finished == [request]
    assert request.error == EIO


def test_s11_demotion_after_a_refusal_comes_to_its_end() -> None:
    rig, request = refused()
    later = rig.write(EXTENT)
    rig.call(rig.engine.drain)
    rig.work()
    assert rig.engine.drained
    assert {request, later} <= set(rig.finished)
    assert request.error
    assert later.error


def test_s11_refusal_during_a_demotion_fails_what_waits() -> None:
    rig = Rig(settings=ARBITER)
    request = rig.write(0)
    rig.store_all()
    rig.call(rig.engine.drain)
    rig.finish_local()
    rig.call(rig.engine.answered, OUTDATE_PEER, False)
    rig.work()
    assert rig.engine.drained
    assert request.error == EIO


def test_s11_thaw_asks_the_arbiter_again() -> None:
    rig, request = refused()
    rig.call(rig.engine.thaw)
    assert rig.asked == [OUTDATE_PEER] * 2
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.work()
    assert rig.finished == [request]
    assert request.error == 0


def test_s11_answer_that_comes_when_nobody_waits_for_it_moves_no_counter() -> None:
    rig, request = refused()
    rig.attach()
    rig.work()
    assert request in rig.finished
    rig.call(rig.engine.answered, OUTDATE_PEER, True)
    rig.work()
    assert rig.saved.localcnt == 0


def test_s11_refusal_because_of_a_failing_peer_disk_ends_when_the_copies_are_in_step_again() -> None:
    rig = Rig(settings=ARBITER)
    rig.connect()
    request = rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.reply(rig.sent(WRITE)[0][1], error=EIO)
    rig.remote.clear()
    rig.call(rig.engine.answered, OUTDATE_PEER, False)
    held = rig.write(EXTENT)
    rig.tick(3)
    rig.work()
    assert {request, held} <= set(rig.finished)
    assert (request.error, held.error) == (0, 0)
    assert rig.engine.status()["frozen"] == ""


def test_s11_held_fua_write_is_flushed_on_both_copies_when_the_peer_is_back() -> None:
    rig = Rig(settings=ARBITER)
    rig.connect()
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    rig.lose()
    rig.call(rig.engine.answered, OUTDATE_PEER, False)
    rig.attach()
    rig.work()
    assert rig.finished == [request]
    assert request.error == 0
    assert rig.asked == [OUTDATE_PEER], "it is not alone any more"


def test_unknown_question_is_passed_over() -> None:
    rig = Rig(settings=ARBITER)
    rig.call(rig.engine.answered, "what is the time", False)
    assert rig.engine.status()["frozen"] == ""


def test_s8_counters_are_always_flushed() -> None:
    """Section 10.1: metadata block and counters are written without flush."""
    rig = Rig(metadata(resuid=0))
    jobs = []
    rig.write(0)
    for _ in range(6):
        jobs += rig.stores
        rig.store_all()
        rig.finish_local()
    rig.call(rig.engine.begin_handshake)
    jobs += rig.stores
    rig.store_all()
    rig.engine.second_hello()
    rig.call(rig.engine.attach, rig.peer(virgin=True, bitmap=None))
    jobs += rig.stores
    assert {"localcnt raised", "resource id"} <= {job.reason for job in jobs}
    assert all(job.flush for job in jobs if job.metadata is not None)


# -- counters (S8) ---------------------------------------------------------------------------------------------


def test_s8_counters_are_taken_over_crosswise_when_the_copies_are_in_step() -> None:
    rig = Rig(metadata(localcnt=3, remotecnt=1), image(0))
    rig.connect(localcnt=1, remotecnt=2)
    assert (rig.saved.localcnt, rig.saved.remotecnt) == (2, 1)


def test_s8_after_a_sync_the_next_outage_raises_the_counter_again() -> None:
    rig = Rig()
    rig.connect()
    for _ in range(3):
        rig.lose()
        rig.write(0)
        rig.work()
        assert rig.saved.localcnt == 1
        rig.connect()
        assert rig.saved.localcnt == 0


def test_s8_peer_that_is_given_the_lead_knows_what_a_disk_that_broke_says_of_itself() -> None:
    """Seed 9300024: this node was ahead; the disk broke at the end of the resync, and the peer raised its counter as
    well: a split brain, although one node served. The command tells the counter."""
    rig, shelf = Rig(metadata(localcnt=1), image(1)), Shelf()
    pair = Pair(rig, shelf)
    pair.attach()
    while not (rig.stores and rig.stores[0].reason == "in step"):
        assert pair.step()
    rig.store(error=EIO)
    request = rig.write(40 * EXTENT)
    pair.run()
    assert request.error == 0
    assert (shelf.saved.localcnt, shelf.saved.remotecnt) == (1, rig.saved.localcnt)
    pair.new_primary()
    pair.new_secondary()
    pair.connect()
    assert pair.rig.engine.status()["dirty"] == 0
    assert pair.rig.disk.data == shelf.disk.data


def test_s4_fua_write_that_waited_to_be_answered_alone_is_flushed_when_the_copies_are_in_step() -> None:
    """Seed 21000990: the arbiter let nobody go on alone, the peer came back with all but the flush."""
    rig = Rig(settings=Settings(arbiter=True))
    rig.connect()
    request = rig.write(0, fua=True)
    rig.store_all()
    rig.finish_local()
    for item in rig.sent(WRITE):
        rig.reply(item[1])
    rig.finish_local(*[flush for flush in rig.local if flush.op == FLUSH])
    rig.lose()
    rig.call(rig.engine.answered, "outdate-peer", False)
    assert request not in rig.finished
    rig.remote.clear()
    rig.attach()
    rig.store_all()
    for item in rig.sent(int(Command.SYNC_END)):
        rig.reply(item[1])
    rig.store_all()
    assert request not in rig.finished
    assert rig.sent(FLUSH)
    rig.work()
    assert rig.finished == [request]
    assert request.error == 0
