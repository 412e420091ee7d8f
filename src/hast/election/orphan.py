"""What a primary whose hastd died may do until the next one comes (safety rule S11). Sans-I/O.

hastd prolongs the lease and asks the arbiter; without it nobody does. A primary whose peer is connected needs no lease.
One that is alone holds writes when its last lease may have ended, and gives the role up when nobody came for as long as
one that hears from nobody. Without an arbiter it goes on: nobody else's leave is needed.
"""

from __future__ import annotations

from enum import Enum, auto

from hast.election.arbiter import LEASE_TTL_S, STEP_DOWN_S

REASON = "hastd is gone, and with it the arbiter's leave to go on alone"


class Conduct(Enum):
    """Of a primary without hastd."""

    SERVE = auto()
    HOLD_WRITES = auto()
    STEP_DOWN = auto()


class Orphan:
    """From `now_s` on. `arbitrated`: there is an arbiter, whose last lease was given at that time at the latest."""

    def __init__(self, arbitrated: bool, now_s: float) -> None:
        self._arbitrated = arbitrated
        self._lease_until_s = now_s + LEASE_TTL_S
        self._alone_since_s: float | None = None

    def conduct(self, connected: bool, now_s: float) -> Conduct:
        """What to do now."""
        if connected or not self._arbitrated:
            self._alone_since_s = None
            return Conduct.SERVE
        if self._alone_since_s is None:
            self._alone_since_s = now_s
        if now_s < self._lease_until_s:
            return Conduct.SERVE
        held_s = now_s - max(self._alone_since_s, self._lease_until_s)
        return Conduct.STEP_DOWN if held_s >= STEP_DOWN_S else Conduct.HOLD_WRITES
