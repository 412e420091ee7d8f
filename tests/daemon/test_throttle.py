"""Log lines that a stranger can cause."""

from __future__ import annotations

from hast.daemon.throttle import MAX_CAUSES, Throttle


def test_a_cause_is_told_at_once_and_then_with_its_number() -> None:
    now = [0.0]
    throttle = Throttle(5.0, lambda: now[0])
    assert [throttle.count("a") for _ in range(10)] == [1, *[0] * 9]
    assert throttle.count("b") == 1
    now[0] = 5.0
    assert throttle.count("a") == 10
    assert throttle.count("a") == 0


def test_causes_that_a_stranger_makes_up_cost_no_more_than_a_limit() -> None:
    throttle = Throttle(5.0, lambda: 0.0)
    for number in range(10 * MAX_CAUSES):
        throttle.count(str(number))
    assert len(throttle._causes) == MAX_CAUSES
