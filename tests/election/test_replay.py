"""election/replay.py: counters that are refused and those that are not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hast.election import replay
from hast.election.replay import ReplayGuard

LAST = (1 << 64) - 1


def heard(guard: ReplayGuard, counters: list[int], start_s: float = 0.0) -> list[bool]:
    return [guard.refusal(counter, 1.0, start_s + at) is None for at, counter in enumerate(counters)]


@settings(max_examples=50)
@given(counters=st.lists(st.integers(0, LAST), unique=True, max_size=50), data=st.data())
def test_a_counter_is_never_accepted_twice(counters: list[int], data: st.DataObject) -> None:
    guard = ReplayGuard()
    accepted = [c for c, ok in zip(counters, heard(guard, counters), strict=True) if ok]
    for counter in accepted:
        assert guard.refusal(counter, 1.0, data.draw(st.floats(0, 1e6))) is not None


def test_random_counters_are_accepted_as_long_as_they_are_new() -> None:
    assert all(heard(ReplayGuard(), [5, LAST - 3, 77, 1 << 63, 12, 1 << 62]))


def test_a_counting_master_is_not_interrupted_by_an_old_recording() -> None:
    guard = ReplayGuard()
    assert all(heard(guard, [1000, 1001, 1002]))
    assert guard.counting
    assert guard.refusal(500, 1.0, 2.5) == "its counter is not ahead of the last one"
    assert guard.refusal(1003 + replay.MAX_STEP, 1.0, 2.5) is not None
    assert guard.refusal(1003, 1.0, 3.0) is None


def test_a_counting_master_that_restarted_is_accepted_after_two_silent_intervals() -> None:
    guard = ReplayGuard()
    heard(guard, [1000, 1001, 1002])
    assert guard.refusal(7, 1.0, 3.9) is not None
    assert guard.refusal(7, 1.0, 4.0) is None
    assert guard.resyncs == 1


def test_the_two_families_of_one_interval_may_arrive_in_either_order() -> None:
    guard = ReplayGuard()
    assert all(heard(guard, [1000, 1001, 2001, 2000, 3001, 3000]))
    assert guard.refusal(3000, 1.0, 6.0) is not None


def test_counters_may_wrap_around() -> None:
    guard = ReplayGuard()
    assert all(heard(guard, [LAST - 2, LAST - 1, LAST, 0, 1]))


def test_own_advertisements_that_come_back_are_refused() -> None:
    guard = ReplayGuard()
    guard.sent(42)
    assert guard.refusal(42, 1.0, 0.0) is not None


def test_memory_is_bounded() -> None:
    guard = ReplayGuard()
    for counter in range(replay.MEMORY + 1000):
        guard.sent(counter)
    assert len(guard._known) == len(guard._order) == replay.MEMORY
