"""Back-off between restarts of a primary's worker."""

from __future__ import annotations

from hast.supervisor.primary_holder import MAX_RESTART_DELAY_S, STABLE_AFTER_S, Backoff


def test_first_restart_is_at_once_and_crashes_in_a_row_wait_ever_longer() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay_s(0.0) for _ in range(30)]
    assert delays[0] <= 0.05
    assert delays[1] <= 1.0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_S


def test_worker_that_ran_for_a_while_is_restarted_at_once_again() -> None:
    backoff = Backoff()
    for now in (0.0, 1.0, 2.0):
        backoff.next_delay_s(now)
    assert backoff.next_delay_s(2.0 + STABLE_AFTER_S + 1.0) <= 0.05
