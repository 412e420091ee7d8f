"""A primary whose hastd died: when it serves, holds writes, gives up (safety rule S11)."""

from __future__ import annotations

import pytest

from hast.election.arbiter import LEASE_TTL_S, STEP_DOWN_S
from hast.election.orphan import Conduct, Orphan

DIED_S = 100.0
LAPSED_S = DIED_S + LEASE_TTL_S


def test_without_an_arbiter_it_serves_for_ever() -> None:
    orphan = Orphan(arbitrated=False, now_s=DIED_S)
    assert {orphan.conduct(connected, DIED_S + 1e6) for connected in (True, False)} == {Conduct.SERVE}


def test_s11_alone_it_holds_writes_from_the_end_of_its_lease_and_steps_down_later() -> None:
    orphan = Orphan(arbitrated=True, now_s=DIED_S)
    times_s = (DIED_S, LAPSED_S - 0.01, LAPSED_S, LAPSED_S + STEP_DOWN_S - 0.01, LAPSED_S + STEP_DOWN_S)
    conducts = (Conduct.SERVE, Conduct.SERVE, Conduct.HOLD_WRITES, Conduct.HOLD_WRITES, Conduct.STEP_DOWN)
    assert tuple(orphan.conduct(False, now_s) for now_s in times_s) == conducts


def test_s11_with_its_peer_it_needs_no_lease_and_holds_writes_at_once_when_the_peer_goes() -> None:
    orphan = Orphan(arbitrated=True, now_s=DIED_S)
    lost_s = DIED_S + 500
    assert orphan.conduct(True, lost_s - 0.1) is Conduct.SERVE
    assert orphan.conduct(False, lost_s) is Conduct.HOLD_WRITES
    assert orphan.conduct(False, lost_s + STEP_DOWN_S - 0.01) is Conduct.HOLD_WRITES
    assert orphan.conduct(False, lost_s + STEP_DOWN_S) is Conduct.STEP_DOWN


@pytest.mark.parametrize("away_s", [0.0, 5.0])
def test_a_peer_that_comes_back_ends_the_waiting(away_s: float) -> None:
    orphan = Orphan(arbitrated=True, now_s=DIED_S)
    assert orphan.conduct(False, LAPSED_S + away_s) is Conduct.HOLD_WRITES
    assert orphan.conduct(True, LAPSED_S + away_s) is Conduct.SERVE
    assert orphan.conduct(False, LAPSED_S + 9 + away_s) is Conduct.HOLD_WRITES
