"""What this node makes of a peer that said that it lets go in order, when it is asked to take over. Pure.

A host that stops closes its sockets at some moment, and "connection refused" says nothing of its devices then. So:

    it answers that it is primary                           it holds the role
    it answers anything else                                it does not
    nobody answers, it said that it goes, time is left      it holds the role: it may still serve
    nobody answers, it said that it goes, time is over      it is dead: whatever it held ended by its own deadline
    nobody answers, it said that it has let go              it does not
    its host refuses, its worker is connected still         it holds the role: its hastd died or begins anew; workers go
                                                            on without one (of a dead worker the connection ends)
    nobody answers, it said nothing                         it is dead, or cut off (worker/start_gate.py waits a little)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

MAX_WITHIN_S = 600.0
"""The most that a peer is believed to need."""


class PeerAnswer(Enum):
    """To the question whether it is primary."""

    PRIMARY = auto()
    NOT_PRIMARY = auto()
    REFUSED = auto()
    """Its host is there, and no hastd on it."""
    NONE = auto()


class Departure:
    """Of the peer of one resource. Hears the events that a secondary's worker tells."""

    def __init__(self) -> None:
        self.until_s: float | None = None
        """When a peer that is letting go will have done so at the latest; None where it said nothing, or is done."""
        self._has_left = False

    def heard(self, name: str, details: Mapping[str, Any] | None, now_s: float) -> None:
        """An event of docs/control.md."""
        if name == "peer-leaves":
            within_s = (details or {}).get("within_s")
            told_s = float(within_s) if isinstance(within_s, (int, float)) else 0.0
            self.until_s = now_s + min(max(told_s, 0.0), MAX_WITHIN_S)
        elif name in ("peer-left", "connect"):
            self.until_s = None
        if name in ("peer-left", "connect"):
            self._has_left = name == "peer-left"

    def is_awaited(self, now_s: float) -> bool:
        """It said that it goes, has not let go, and its time is not over."""
        return self.until_s is not None and now_s < self.until_s

    def holds_role(self, answer: PeerAnswer, now_s: float, connected: bool) -> bool:
        """Whether it has to be waited for before this node may serve. `connected`: its worker with ours."""
        if answer in (PeerAnswer.PRIMARY, PeerAnswer.NOT_PRIMARY):
            return answer is PeerAnswer.PRIMARY
        goes_on = answer is PeerAnswer.REFUSED and connected and not self._has_left
        return goes_on or self.is_awaited(now_s)
