"""When a new primary may let its clients in: after the peer was heard, or after it was waited for long enough.

A copy that is outdated, or a peer that is primary itself, must be known before the first read is answered. The verdict
is replication/promotion.py's; this file keeps the time. Decides once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hast.config.model import Resource
from hast.node.interfaces import Reactor, Timer
from hast.node.primary_link import Outcome
from hast.replication.promotion import PeerState, may_serve

log = logging.getLogger("hast.worker")

UNREACHABLE_WAIT_S = 3.0
"""How long clients wait for a peer that does not answer, where `wait-for-peer` does not ask for more."""


class StartGate:
    """`opened()` or `refused(reason)` is called once. `first`: nothing was heard of the peer since hastd started."""

    def __init__(
        self,
        reactor: Reactor,
        resource: Resource,
        *,
        force: bool,
        resume: bool,
        first: bool,
        opened: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._timeout_s = float(resource.timeout_s)
        self._force = force
        self._resume = resume
        self._opened = opened
        self._refused = refused
        self._state = PeerState.UNREACHABLE if resource.remotes else PeerState.NONE
        self._began_s = reactor.now()
        self._decided = False
        wait_s = min(UNREACHABLE_WAIT_S, self._timeout_s)
        if first and not force and not resume and resource.wait_for_peer_s:
            wait_s = max(wait_s, float(resource.wait_for_peer_s))
        self._patience_s = wait_s
        self._timer: Timer = reactor.call_at(self._began_s + wait_s, self._time_over)

    def attempted(self, outcome: Outcome, split_brain: bool) -> None:
        """An attempt at the peer ended."""
        if self._decided:
            return
        self._state = _state(outcome, split_brain, self._state)
        waited_s = self._reactor.now() - self._began_s
        if self._state is PeerState.UNREACHABLE and waited_s < self._patience_s:
            if self._patience_s > UNREACHABLE_WAIT_S:
                return
        elif self._state is PeerState.PRIMARY and not self._force and not self._resume and waited_s < self._timeout_s:
            self._timer.cancel()
            self._timer = self._reactor.call_at(self._began_s + self._timeout_s, self._decide)
            return
        self._decide()

    def cancel(self) -> None:
        """The worker ends; nothing is decided any more."""
        self._decided = True
        self._timer.cancel()

    def _time_over(self) -> None:
        if not self._decided:
            log.warning("The peer has not answered within %.0f s, starting without it.", self._patience_s)
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
