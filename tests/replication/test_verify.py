"""Verification: both copies are read and compared while clients go on."""

from __future__ import annotations

import random

import pytest
from driver import EXTENT, EXTENTS, SECTOR, Pair, Rig, Shelf, image, metadata

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.replication.core import Settings
from hast.replication.types import FLUSH, READ, WRITE
from hast.replication.verify import BLOCK_BYTES, MOST_RANGES, Findings, Outcome, differing

SIZE = EXTENT * EXTENTS


def pair(features: int = OUR_FEATURES, settings: Settings | None = None) -> Pair:
    """Two equal copies of something, in step."""
    found = Pair(Rig(settings=settings), Shelf(features=features), features)
    content = random.Random(7).randbytes(SIZE)
    for disk in (found.rig.disk, found.shelf.disk):
        disk.data[:] = content
    found.connect()
    return found


def verify(of: Pair, repair: bool = False) -> dict[str, object]:
    """A whole one; its report."""
    rig = of.rig
    assert rig.call(lambda now: rig.engine.begin_verify(repair, now)) == ""
    of.run()
    report = rig.engine.status()["verify"]
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE])
def test_equal_copies_are_said_to_be_equal_after_every_byte_was_compared(features: int) -> None:
    of = pair(features)
    report = verify(of)
    assert (report["outcome"], report["checked_bytes"], report["differing_bytes"]) == ("equal", SIZE, 0)
    assert (of.rig.events[-1].name, of.rig.events[-1].level) == ("verified", "info")


@pytest.mark.parametrize("features", [OUR_FEATURES, Feature.NONE])
def test_what_differs_is_found_and_named_and_nothing_is_changed(features: int) -> None:
    of = pair(features)
    place = 5 * EXTENT + SECTOR
    of.shelf.disk.data[place] ^= 1
    before = bytes(of.shelf.disk.data)
    report = verify(of)
    block = place // BLOCK_BYTES * BLOCK_BYTES
    assert (report["outcome"], report["differing_bytes"], report["ranges"]) == (
        "different",
        BLOCK_BYTES,
        [[block, BLOCK_BYTES]],
    )
    assert bytes(of.shelf.disk.data) == before
    assert of.rig.events[-1].level == "error"


def test_repair_gives_the_peer_what_this_copy_has_and_ends_with_a_flush() -> None:
    of = pair()
    of.shelf.disk.data[3 * EXTENT : 4 * EXTENT] = bytes(EXTENT)
    report = verify(of, repair=True)
    assert (report["outcome"], report["repaired_bytes"], report["differing_bytes"]) == ("repaired", EXTENT, EXTENT)
    of.shelf.disk.crash()
    assert bytes(of.shelf.disk.data[3 * EXTENT : 4 * EXTENT]) == bytes(of.rig.disk.data[3 * EXTENT : 4 * EXTENT])
    assert verify(of)["outcome"] == "equal"


@pytest.mark.parametrize("op", [WRITE, FLUSH])
def test_repair_that_the_peer_could_not_keep_is_not_called_repaired(op: int) -> None:
    of = pair()
    of.shelf.disk.data[0] ^= 1
    of.shelf.disk.failures[op] = 1
    report = verify(of, repair=True)
    assert (report["outcome"], report["repaired_bytes"]) == ("different", 0)


@pytest.mark.parametrize("replication", list(Replication))
def test_write_that_is_on_its_way_to_one_copy_is_waited_for(replication: Replication) -> None:
    of = pair(settings=Settings(replication=replication))
    rig = of.rig
    request = rig.write(0, EXTENT)
    rig.store_all()
    rig.finish_local(request)
    assert rig.call(lambda now: rig.engine.begin_verify(False, now)) == ""
    assert not [each for each in rig.local if each.op == READ and each.offset < EXTENT]
    of.run()
    report = rig.engine.status()["verify"]
    assert isinstance(report, dict)
    assert report["outcome"] == "equal"


def test_write_waits_for_the_piece_that_is_being_compared_and_then_goes_on() -> None:
    of = pair()
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(False, now))
    request = rig.write(0)
    assert request not in rig.local
    of.run()
    assert request in rig.finished
    assert not request.error


@pytest.mark.parametrize("side", ["here", "there"])
def test_place_that_cannot_be_read_is_told_and_not_called_different(side: str) -> None:
    of = pair()
    (of.rig if side == "here" else of.shelf).disk.failures[READ] = 1
    report = verify(of)
    assert report["unreadable_bytes"]
    assert not report["differing_bytes"]
    assert of.rig.events[-1].level == "error"
    assert int(str(report["checked_bytes"])) + int(str(report["unreadable_bytes"])) == SIZE


def test_lost_link_interrupts_it_and_counts_nothing_as_different() -> None:
    of = pair()
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(False, now))
    rig.lose()
    rig.finish_local()
    report = rig.engine.status()["verify"]
    assert isinstance(report, dict)
    assert (report["outcome"], report["differing_bytes"]) == ("interrupted", 0)
    assert rig.engine.verify.idle
    assert "not connected" in str(report["reason"])


def test_write_that_one_copy_fails_interrupts_it() -> None:
    of = pair(settings=Settings(sync_rate_bytes_s=EXTENT))
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(False, now))
    of.shelf.disk.failures[WRITE] = 1
    rig.write(SIZE - SECTOR)
    of.run()
    report = rig.engine.status()["verify"]
    assert isinstance(report, dict)
    assert (report["outcome"], report["differing_bytes"]) == ("interrupted", 0)


def test_it_is_refused_where_the_copies_are_not_equal_yet_and_where_one_runs() -> None:
    rig = Rig()
    assert "not connected" in rig.call(lambda now: rig.engine.begin_verify(False, now))
    rig = Rig(metadata(localcnt=1), image(1))
    rig.attach()
    assert "not equal" in rig.call(lambda now: rig.engine.begin_verify(False, now))
    of = pair()
    of.rig.call(lambda now: of.rig.engine.begin_verify(False, now))
    assert "under way" in of.rig.call(lambda now: of.rig.engine.begin_verify(False, now))


def test_it_ends_when_ordered_and_another_one_can_begin_when_its_pieces_are_back() -> None:
    of = pair()
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(True, now))
    rig.call(rig.engine.stop_verify)
    assert rig.engine.verify.outcome is Outcome.INTERRUPTED
    assert rig.call(lambda now: rig.engine.begin_verify(False, now)) == "a verification is under way"
    of.run()
    assert verify(of)["outcome"] == "equal"


def test_rate_limit_holds_for_it() -> None:
    of = pair(settings=Settings(sync_rate_bytes_s=EXTENT))
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(False, now))
    of.run()
    checked = rig.engine.verify.findings
    assert checked is not None
    assert checked.checked_bytes < SIZE // 4
    for _second in range(2 * EXTENTS):
        rig.tick(1.0)
        of.run()
    assert rig.engine.verify.outcome is Outcome.EQUAL


def test_demotion_ends_it_and_waits_for_what_is_on_its_way() -> None:
    of = pair()
    rig = of.rig
    rig.call(lambda now: rig.engine.begin_verify(False, now))
    rig.call(rig.engine.drain)
    assert rig.engine.verify.outcome is Outcome.INTERRUPTED
    assert not rig.engine.drained
    of.run()
    assert rig.engine.drained


def test_ranges_that_differ_are_joined_and_only_the_first_are_named() -> None:
    found = Findings(0, 0)
    for place in range(0, 4 * MOST_RANGES, 2):
        found.add(place, 1)
    found.add(4 * MOST_RANGES, 1)
    assert len(found.ranges) == MOST_RANGES
    assert found.differing_bytes == 2 * MOST_RANGES + 1
    one = bytes(4 * BLOCK_BYTES)
    other = bytearray(one)
    other[BLOCK_BYTES] = other[2 * BLOCK_BYTES] = other[-1] = 1
    assert differing(100, one, memoryview(other)) == [(100 + BLOCK_BYTES, 3 * BLOCK_BYTES)]
