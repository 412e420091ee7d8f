"""Has the engine of a primary without hastd do what `election/orphan.py` says, until the next hastd comes (S11)."""

from __future__ import annotations

from collections.abc import Callable

from hast.election.orphan import REASON, Conduct, Orphan
from hast.replication.primary import Primary
from hast.worker.interfaces import Reactor, Timer

POLL_S = 0.2


class OrphanWatch:
    """`step_down(reason)` is called when the role has to be given up."""

    def __init__(self, reactor: Reactor, step_down: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._step_down = step_down
        self._timer: Timer | None = None

    def begin(self, engine: Primary, arbitrated: bool) -> None:
        """hastd is gone."""
        self._watch(engine, Orphan(arbitrated, self._reactor.now()))

    def end(self) -> None:
        """The next hastd says from here on whether writes are held; or this worker ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, engine: Primary, orphan: Orphan) -> None:
        now = self._reactor.now()
        conduct = orphan.conduct(engine.core.connected, now)
        if conduct is Conduct.STEP_DOWN:
            self._timer = None
            self._step_down(f"Stepping down: {REASON}.")
            return
        if conduct is Conduct.HOLD_WRITES:
            engine.freeze(REASON, now)
        elif engine.writes.frozen == REASON:
            engine.thaw(now)
        self._timer = self._reactor.call_at(now + POLL_S, lambda: self._watch(engine, orphan))
