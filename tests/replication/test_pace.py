"""Which disk is slow: p99 far above the other's, in windows with enough in them, and not back and forth."""

from __future__ import annotations

import pytest
from driver import SECTOR, Rig

from hast.replication import pace
from hast.replication.latency import LOCAL, PEER
from hast.replication.pace import LEAST, WINDOW_S, Comparison, Pace, Slow
from hast.replication.types import Request

FAST_S, SLOW_S = 0.002, 0.3


class Measured:
    """Windows at once."""

    def __init__(self, operation: str) -> None:
        self.comparison = Comparison(operation)
        self.now = 0.0

    @property
    def verdict(self) -> Slow | None:
        return self.comparison.verdict

    def window(self, local_s: float, peer_s: float, count: int = LEAST, seconds: float = WINDOW_S) -> str:
        """One full window; which copy is called slow after it."""
        comparison = self.comparison
        comparison.look(self.now)
        for _ in range(count):
            comparison.local.add(local_s)
            comparison.peer.add(peer_s)
        self.now += seconds
        comparison.look(self.now)
        return "" if comparison.verdict is None else comparison.verdict.copy


@pytest.mark.parametrize(("local_s", "peer_s", "copy"), [(SLOW_S, FAST_S, LOCAL), (FAST_S, SLOW_S, PEER)])
def test_a_disk_is_slow_after_two_windows_in_a_row(local_s: float, peer_s: float, copy: str) -> None:
    measured = Measured("write")
    assert measured.window(local_s, peer_s) == ""
    assert measured.window(local_s, peer_s) == copy
    assert measured.verdict is not None
    assert measured.verdict.p99_s >= SLOW_S
    assert measured.verdict.other_p99_s < 2 * FAST_S


def test_one_bad_window_now_and_then_makes_no_slow_disk() -> None:
    measured = Measured("write")
    for _ in range(4):
        assert measured.window(SLOW_S, FAST_S) == ""
        assert measured.window(FAST_S, FAST_S) == ""


def test_few_times_are_no_reason_and_are_not_thrown_away() -> None:
    measured = Measured("flush")
    for _ in range(3):
        assert measured.window(SLOW_S, FAST_S, count=LEAST // 2) == ""
    assert measured.window(SLOW_S, FAST_S, count=LEAST // 2) == LOCAL


def test_much_slower_and_still_quick_is_not_slow() -> None:
    measured = Measured("write")
    for _ in range(4):
        assert measured.window(0.005, 0.0001) == ""


def test_a_slow_disk_is_so_until_it_is_well_below_the_bound_for_two_windows() -> None:
    measured = Measured("write")
    for _ in range(2):
        measured.window(SLOW_S, FAST_S)
    between_s = FAST_S * (pace.FAR + pace.NOT_FAR) / 2 + pace.EXCESS_S
    assert measured.window(between_s, FAST_S) == LOCAL
    assert measured.window(between_s, FAST_S) == LOCAL
    assert measured.window(FAST_S, FAST_S) == LOCAL
    assert measured.window(FAST_S, FAST_S) == ""


def test_another_disk_begins_with_a_clean_record() -> None:
    measured = Measured("write")
    for _ in range(2):
        measured.window(SLOW_S, FAST_S)
    measured.comparison.reset()
    assert measured.verdict is None
    assert measured.window(SLOW_S, FAST_S) == ""


def test_it_is_told_once_and_again_only_after_it_was_over() -> None:
    both = Pace()
    told = []
    now = 0.0
    for slow in (True, True, True, False, False, True, True):
        both.look(now)
        for _ in range(LEAST):
            both.flushes.local.add(SLOW_S if slow else FAST_S)
            both.flushes.peer.add(FAST_S)
        now += WINDOW_S
        found = both.look(now)
        told.append(found.copy if found else "")
    assert told == ["", LOCAL, "", "", "", "", LOCAL]


def test_a_sampled_write_counts_when_both_copies_have_it() -> None:
    both, request = Pace(), Request(1, 0, 512)
    request.left = 2
    both.sample(request, 7, 100.0, compare=True)
    assert both.sample_at_s > 1e9, "one at a time"
    both.look_at_local(100.3)
    request.left = 1
    both.peer_done(100.5)
    both.look_at_local(100.7)
    assert both.writes.peer.count == 0
    request.left = 0
    both.look_at_local(101.0)
    assert (both.writes.local.count, both.writes.peer.count) == (1, 1)
    assert both.writes.local.percentile_s(99) >= 1.0
    assert both.writes.peer.percentile_s(99) < 0.7
    assert 101.0 < both.sample_at_s < 101.1


@pytest.mark.parametrize("peer_first", [True, False])
def test_the_engine_takes_the_time_of_writes_and_flushes_on_both_copies(peer_first: bool) -> None:
    rig = Rig()
    rig.connect()
    took = rig.engine.core.pace
    before = took.flushes.local.count
    rig.now += 1
    write = rig.write(0)
    rig.store_all()
    rig.write(SECTOR)  # the first waited for its mark on the disk, this one goes to both at once
    request = rig.local[-1]
    rig.finish_local(*[other for other in rig.local if other is not request])
    ends = [lambda: rig.finish_local(request), lambda: rig.answer_remote()]
    for end, later_s in zip(reversed(ends) if peer_first else ends, (0.5, 1.0), strict=True):
        rig.now += later_s
        end()
    assert write.error == 0
    assert took.writes.local.count == took.writes.peer.count == 1
    slower, quicker = (took.writes.local, took.writes.peer) if peer_first else (took.writes.peer, took.writes.local)
    assert 1.5 <= slower.percentile_s(99) < 1.9
    assert 0.5 <= quicker.percentile_s(99) < 0.65
    rig.flush()
    rig.work()
    assert took.flushes.local.count == took.flushes.peer.count == before + 1


def test_a_sampled_write_that_the_link_took_with_it_is_not_waited_for() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store_all()
    rig.now += 1
    rig.write(SECTOR)
    assert rig.engine.core.pace.sampled is not None
    rig.lose()
    assert rig.engine.core.pace.sampled is None
    assert rig.engine.core.pace.sample_at_s < rig.now


def test_what_only_one_copy_gets_is_not_compared() -> None:
    rig = Rig()
    rig.write(0)
    rig.store_all()
    rig.write(SECTOR)
    rig.finish_local()
    assert rig.engine.core.pace.sampled is None
    assert rig.engine.core.pace.writes.local.count == 0
