"""The secondary's answer to message 3."""

from __future__ import annotations

import pytest
from driver import EIO, MAP, RESUID, Pair, Rig, Shelf, image, marked, metadata

from hast.format.constants import SPLIT_BRAIN_TEXT, Feature, SyncSource
from hast.replication.handshake import Refused

FULL = b"\xff" * MAP


def test_in_step_the_disks_map_is_sent() -> None:
    reply = Shelf(on_disk=image(1, 5)).hello()
    assert reply.errmsg is None
    assert reply.syncsrc is SyncSource.PRIMARY
    assert reply.mapsize_bytes == MAP
    assert marked(reply.bitmap) == {1, 5}
    assert not reply.virgin


def test_stale_secondary_sends_its_map() -> None:
    reply = Shelf(on_disk=image(1)).hello(localcnt=1)
    assert reply.syncsrc is SyncSource.PRIMARY
    assert marked(reply.bitmap) == {1}


def test_stale_primary_is_told_to_take_from_the_secondary() -> None:
    reply = Shelf(metadata(localcnt=1), image(7)).hello()
    assert reply.syncsrc is SyncSource.SECONDARY
    assert marked(reply.bitmap) == {7}


@pytest.mark.parametrize("numbers", [((0, 1), (0, 0)), ((0, 0), (0, 1)), ((1, 1), (0, 0))])
def test_impossible_counters_copy_everything_with_a_warning(numbers: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (local, remote), (primary_local, primary_remote) = numbers
    shelf = Shelf(metadata(localcnt=local, remotecnt=remote))
    reply = shelf.hello(primary_local, primary_remote)
    assert reply.bitmap == FULL
    assert [event.level for event in shelf.events] == ["warning"]


def test_s8_split_brain_is_detected_on_every_attempt_and_nothing_is_merged() -> None:
    for _ in range(3):
        shelf = Shelf(metadata(localcnt=1), image(7))
        reply = shelf.hello(localcnt=1)
        assert reply.errmsg == SPLIT_BRAIN_TEXT
        assert reply.syncsrc is SyncSource.UNDEFINED
        assert [event.name for event in shelf.events] == ["split-brain"]
        shelf.store_all()
        assert marked(shelf.disk.map) == {7}
        assert shelf.saved.localcnt == 1


def test_other_resource_id_is_refused_with_both_numbers() -> None:
    reply = Shelf().hello(resuid=5)
    assert reply.errmsg == f"Resource unique ID mismatch (primary=5, secondary={RESUID})."


def test_s7_inconsistent_copy_is_never_the_source() -> None:
    reply = Shelf(metadata(localcnt=1, inconsistent=True)).hello()
    assert reply.errmsg is not None
    assert "inconsistent" in reply.errmsg


def test_virgin_pair_copies_nothing_and_sends_no_map() -> None:
    shelf = Shelf(metadata(resuid=0))
    assert shelf.hello(virgin=True) is None, "promised before it is durable"
    shelf.store_all()
    reply = shelf.engine.reply
    assert reply is not None
    assert (reply.virgin, reply.syncsrc, reply.mapsize_bytes, reply.bitmap) == (True, SyncSource.PRIMARY, 0, None)
    assert shelf.saved.resuid == RESUID
    assert not shelf.saved.inconsistent


def test_fresh_secondary_of_an_old_primary_gets_everything() -> None:
    shelf = Shelf(metadata(resuid=0))
    shelf.hello()
    shelf.store_all()
    reply = shelf.engine.reply
    assert reply is not None
    assert reply.virgin
    assert reply.bitmap == FULL


def test_s3_fresh_secondary_whose_map_cannot_be_written_takes_no_id_and_is_fresh_the_next_time() -> None:
    shelf = Shelf(metadata(resuid=0))
    shelf.hello()
    shelf.store(error=EIO)
    shelf.store_all()
    assert shelf.engine.reply is not None
    assert shelf.engine.reply.errmsg == "Unable to write metadata on the secondary."
    assert shelf.saved.resuid == 0
    again = Shelf(shelf.saved, shelf.disk.map)
    again.hello()
    again.store_all()
    assert again.engine.reply is not None
    assert again.engine.reply.bitmap == FULL


def test_s7_fresh_secondary_says_that_all_is_missing_before_message_4() -> None:
    """Message 4 lost: the next handshake must not find a copy that looks in step, nor may it be promoted."""
    shelf = Shelf(metadata(resuid=0))
    shelf.hello()
    shelf.store_all()
    assert shelf.saved.inconsistent
    again = Shelf(shelf.saved, shelf.disk.map)
    assert len(marked(again.hello().bitmap)) == MAP * 8


def test_s9_replaced_disk_is_copied_whole_even_if_the_first_message_4_is_lost() -> None:
    rig, shelf = Rig(), Shelf(metadata(resuid=0))
    rig.disk.data[:] = b"old data" * (len(rig.disk.data) // 8)
    rig.call(rig.engine.begin_handshake)
    shelf.hello()
    shelf.store_all()
    rig.lose()
    pair = Pair(rig, shelf)
    pair.new_secondary()
    pair.connect()
    assert pair.shelf.disk.data == rig.disk.data
    assert not pair.shelf.saved.inconsistent


def test_resource_id_that_cannot_be_written_is_a_refusal() -> None:
    shelf = Shelf(metadata(resuid=0))
    shelf.hello(virgin=True)
    shelf.store(error=EIO)
    reply = shelf.engine.reply
    assert reply is not None
    assert reply.errmsg == "Unable to write metadata on the secondary."


def test_role_is_recorded() -> None:
    shelf = Shelf(metadata(prevrole="primary"))
    shelf.hello()
    shelf.store_all()
    assert shelf.saved.prevrole == "secondary"


def test_message_4_has_the_sizes_and_counters_of_the_disk() -> None:
    reply = Shelf(metadata(localcnt=4, remotecnt=6)).hello(6, 4)
    assert (reply.datasize_bytes, reply.extentsize_bytes) == (64 * 4096, 4096)
    assert (reply.localcnt, reply.remotecnt) == (4, 6)


def test_s8_two_nodes_that_served_apart_are_refused_until_somebody_decides() -> None:
    left, right = Rig(), Rig()
    for rig in (left, right):
        rig.write(0)
        rig.work()
    before = bytes(right.disk.data)
    pair = Pair(left, Shelf(right.saved, right.disk.map, Feature.NONE, right.disk), Feature.NONE)
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            pair.connect()
        assert caught.value.split_brain
        left.lose()
        pair.new_secondary()
    assert bytes(pair.shelf.disk.data) == before
