"""What a secondary tells of synchronisation."""

from __future__ import annotations

from dataclasses import replace

from hast.replication.types import Metadata
from hast.worker.sync_watch import SyncWatch

GOOD = Metadata("disk1", 1 << 30, 2 << 20, 64, 4608, resuid=7)
MIXED = replace(GOOD, inconsistent=True)
AHEAD = replace(GOOD, ahead_since_s=1_700_000_000)


def told(watch: SyncWatch, *seen: Metadata) -> list[str]:
    events = [watch.look(metadata) for metadata in seen]
    return [event.name for event in events if event is not None]


def test_a_copy_that_receives_tells_the_beginning_and_the_end_once() -> None:
    assert told(SyncWatch(told=True), GOOD, MIXED, MIXED, GOOD, GOOD) == ["syncstart", "syncdone"]


def test_a_copy_that_is_bad_when_it_connects_tells_that_it_receives() -> None:
    assert told(SyncWatch(told=True), MIXED, MIXED, GOOD) == ["syncstart", "syncdone"]


def test_a_reference_primary_that_may_never_begin_is_told_of_only_at_the_end() -> None:
    assert told(SyncWatch(told=False), MIXED, MIXED, GOOD) == ["syncdone"]
    assert told(SyncWatch(told=False), GOOD, MIXED, GOOD) == ["syncstart", "syncdone"]


def test_a_copy_that_the_primary_takes_from_is_not_in_step_until_it_is_told_so() -> None:
    watch = SyncWatch(told=True)
    assert not watch.in_step(AHEAD)
    assert told(watch, AHEAD, GOOD) == ["syncstart", "syncdone"]
    assert SyncWatch(told=False).in_step(AHEAD)


def test_a_connection_that_ends_in_the_middle_is_an_interruption() -> None:
    watch = SyncWatch(told=True)
    assert watch.lost() is None
    watch.look(MIXED)
    event = watch.lost()
    assert event is not None
    assert (event.name, event.level) == ("syncintr", "warning")


def test_a_copy_whose_flush_failed_is_not_in_step_though_nothing_is_copied() -> None:
    watch, doubtful = SyncWatch(told=True), replace(GOOD, unflushed=True)
    assert told(watch, GOOD, doubtful, MIXED, GOOD) == ["syncstart", "syncdone"]
    assert not watch.in_step(doubtful)


def test_two_copies_in_step_have_nothing_to_tell() -> None:
    watch = SyncWatch(told=True)
    assert told(watch, GOOD, GOOD) == []
    assert watch.lost() is None
