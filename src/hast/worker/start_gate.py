"""When a new primary may let its clients in: after the peer was heard, or after it was waited for long enough.

A copy that is outdated, or a peer that is primary itself, must be known before the first read is answered. The verdict
is replication/promotion.py's; this file keeps the time. Decides once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hast.config.model import Resource
from hast.replication.promotion import PeerState, may_serve
from hast.worker.interfaces import Reactor, Timer
from hast.worker.link.primary_link import Outcome

log = logging.getLogger("hast.worker")

UNREACHABLE_WAIT_S = 0.7
"""How long clients wait for a peer whose host takes no connection, where `wait-for-peer` does not ask for more. A
kernel that lives answers within a round trip, however busy its programs are; every address is tried twice meanwhile."""
TALKING_WAIT_S = 3.0
"""The same for one whose host took a connection, but whose hastd does not bring the handshake to its end; and how long
a peer that was heard as primary has to be silent before it counts as dead."""


class StartGate:
    """`opened()` or `refused(reason)` is called once. `first`: nothing was heard of the peer since hastd started.

    `may_be_behind`: the peer may have the newer copy; one that has no role yet is then waited for like an absent one.

    `is_talking()`: the peer's host took a connection and the handshake goes on.
    """

    def __init__(
        self,
        reactor: Reactor,
        resource: Resource,
        *,
        force: bool,
        resume: bool,
        first: bool,
        may_be_behind: bool = False,
        opened: Callable[[], None],
        refused: Callable[[str], None],
        is_talking: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reactor = reactor
        self._is_talking = is_talking
        self._timeout_s = float(resource.timeout_s)
        self._force = force
        self._resume = resume
        self._opened = opened
        self._refused = refused
        self._state = PeerState.UNREACHABLE if resource.remotes else PeerState.NONE
        self._began_s = reactor.now()
        self._decided = False
        self._waits_for_role = False
        wait_s = min(UNREACHABLE_WAIT_S, self._timeout_s)
        if first and not force and not resume and resource.wait_for_peer_s:
            wait_s = max(wait_s, float(resource.wait_for_peer_s))
            self._waits_for_role = may_be_behind
        self._talking_wait_s = min(TALKING_WAIT_S, self._timeout_s)
        self._heard_primary_s: float | None = None
        self.hurry_s: float | None = wait_s if wait_s <= UNREACHABLE_WAIT_S else None
        """For the link, until the decision: how long all addresses of the peer may take to be found silent."""
        self._timer_s = self._began_s + wait_s
        self._timer: Timer = reactor.call_at(self._timer_s, self._time_over)

    def attempted(self, outcome: Outcome, split_brain: bool) -> None:
        """An attempt at the peer ended."""
        if self._decided:
            return
        now_s = self._reactor.now()
        state = _state(outcome, split_brain, self._state)
        if outcome.idle and self._waits_for_role:
            if state is not self._state:
                text = "The peer has no role yet and may have the newer copy: waiting for it, at most %.0f s."
                log.warning(text, self._timer_s - now_s)
            self._state = state
        elif self._force or self._resume or state not in (PeerState.PRIMARY, PeerState.UNREACHABLE):
            self._state = state
            self._decide()
        elif state is PeerState.PRIMARY:
            self._state = state
            self._heard_primary_s = now_s
            self._wait_until(self._began_s + self._timeout_s)
        elif self._heard_primary_s is not None:
            if now_s - self._heard_primary_s >= self._talking_wait_s:
                self._state = state
                self._decide()
        elif outcome.reached:
            self._wait_until(self._began_s + self._talking_wait_s)
        elif self.hurry_s is not None:
            self._decide()

    def cancel(self) -> None:
        """The worker ends; nothing is decided any more."""
        self._decided = True
        self._timer.cancel()

    def _wait_until(self, when_s: float) -> None:
        """Decide no sooner than this."""
        if when_s > self._timer_s:
            self._timer.cancel()
            self._timer_s = when_s
            self._timer = self._reactor.call_at(when_s, self._time_over)

    def _time_over(self) -> None:
        if self._is_talking():
            self._wait_until(self._began_s + self._talking_wait_s)
            if self._timer_s > self._reactor.now():
                return
        if self._state is PeerState.UNREACHABLE:
            waited_s = self._reactor.now() - self._began_s
            log.warning("The peer has not answered within %.1f s, starting without it.", waited_s)
        self._decide()

    def _decide(self) -> None:
        if self._decided:
            return
        self.cancel()
        verdict = may_serve(self._state, self._force, self._resume)
        if not verdict.allowed:
            self._refused(verdict.reason)
            return
        if self._state is PeerState.PRIMARY:
            log.warning("Remote node is still primary, starting anyway.")
        self._opened()


def _state(outcome: Outcome, split_brain: bool, before: PeerState) -> PeerState:
    if before is PeerState.NONE:
        return before
    if outcome.connected:
        return PeerState.CONNECTED
    if split_brain:
        return PeerState.SPLIT_BRAIN
    if outcome.busy:
        return PeerState.PRIMARY
    return PeerState.REFUSED if outcome.answered else PeerState.UNREACHABLE
