"""What is done about a node whose service is not as it was last asked to be. Sans-I/O: facts in, actions out.

A part that is not well at two looks is repaired: `failover` runs once more with the verb that was asked last, which
clears, mounts or starts what it finds wrong. When that fails and the other node can serve, the node is handed over.
When neither helps, a person is told, loudly, and again when what is wrong changes. Repairs are spaced and counted, so
that nothing goes round in circles: after REPAIRS of them within WINDOW_S the next trouble is handed over or told.

While hastd does not answer nothing is repaired: carpd hands the node over by itself, and hast-devd acts when hastd is
back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hast.election.failover import Verb

CONFIRM_S = 1.0
"""What is seen for the first time is looked at again after this time: a service may just be starting."""
REPAIRS = 3
WINDOW_S = 600.0
PAUSES_S = (10.0, 30.0, 60.0)
"""After the first, second … repair of a window, before the next."""
HOLD_S = 600.0
"""How long a node that was handed over says that it should not be master."""
MOVE_S = 30.0
"""Time for the other node to take over."""
REMIND_S = 3600.0


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at the node."""

    wanted: Verb | None
    """What was asked last; None when nobody has asked anything since this host started."""
    busy: bool = False
    """A run is in progress or about to begin."""
    ill: Mapping[str, str] = field(default_factory=dict)
    """Parts that are not as wanted, each with one line."""
    hastd_answers: bool = True
    can_hand_over: bool = False
    """The peer is connected and has every block, and carpd is there to move the addresses."""


class Kind(StrEnum):
    """What a person or a rule is told; also the types of the events."""

    ILL = "ILL"
    WELL = "WELL"
    HANDED_OVER = "HANDED_OVER"
    HELPLESS = "HELPLESS"


@dataclass(frozen=True, slots=True)
class Tell:
    """Log it and make it an event."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Repair:
    """Run `failover` with this verb, unless something else was asked meanwhile; then call `Health.repaired`."""

    verb: Verb


Action = Tell | Repair


class Health:
    """Remembers what was seen and done. Until `hold_until_s` carpd is to hear that this node should not be master."""

    def __init__(self) -> None:
        self.hold_until_s = float("-inf")
        self._wanted: Verb | None = None
        self._ill_since_s: float | None = None
        self._confirmed = False
        self._repairs: deque[float] = deque()
        self._next_repair_s = float("-inf")
        self._repair_failed = False
        self._told = ""
        self._told_s = float("-inf")

    def look(self, facts: Facts, now_s: float) -> list[Action]:
        """What to do after one look."""
        if facts.wanted is None or facts.busy:
            return []
        if facts.wanted is not self._wanted:
            self._wanted = facts.wanted
            self._begin_anew()
        if not facts.ill:
            return self._well()
        if self._ill_since_s is None:
            self._ill_since_s = now_s
            return []
        text = "; ".join(f"{name}: {why}" for name, why in sorted(facts.ill.items()))
        actions: list[Action] = []
        if not self._confirmed:
            self._confirmed = True
            actions.append(Tell(Kind.ILL, text))
        if facts.hastd_answers:
            actions += self._act(facts, facts.wanted, text, now_s)
        return actions

    def look_again_s(self, interval_s: float) -> float:
        """Seconds until the next look."""
        unconfirmed = self._ill_since_s is not None and not self._confirmed
        return min(interval_s, CONFIRM_S) if unconfirmed else interval_s

    def repaired(self, done: bool, now_s: float) -> None:
        """A repair has ended; `done` unless it failed."""
        self._repair_failed = not done
        self._next_repair_s = now_s + PAUSES_S[min(len(self._repairs), len(PAUSES_S)) - 1]

    def _well(self) -> list[Action]:
        told = self._confirmed
        self._begin_anew()
        return [Tell(Kind.WELL, "all is as it should be again")] if told else []

    def _begin_anew(self) -> None:
        """All but the count of repairs, and when the next may be while the trouble is the same."""
        self._ill_since_s = None
        self._confirmed = self._repair_failed = False
        self._told = ""

    def _act(self, facts: Facts, wanted: Verb, text: str, now_s: float) -> list[Action]:
        while self._repairs and self._repairs[0] <= now_s - WINDOW_S:
            self._repairs.popleft()
        moving = now_s < self.hold_until_s - HOLD_S + MOVE_S
        if moving:
            return []
        spent = len(self._repairs) >= REPAIRS
        can_move = wanted is Verb.MASTER and facts.can_hand_over and now_s >= self.hold_until_s
        if (spent or self._repair_failed) and can_move:
            self.hold_until_s = now_s + HOLD_S
            return [Tell(Kind.HANDED_OVER, f"the other node is asked to take over: {text}")]
        if not spent:
            if now_s < self._next_repair_s:
                return []
            self._repairs.append(now_s)
            return [Repair(wanted)]
        if text == self._told and now_s < self._told_s + REMIND_S:
            return []
        self._told, self._told_s = text, now_s
        return [Tell(Kind.HELPLESS, _what_to_do(wanted, text))]


def _what_to_do(wanted: Verb, text: str) -> str:
    tried = f"{REPAIRS} repairs within {WINDOW_S / 60:g} minutes did not last"
    way_out = " or move the service (carpctl state VHID backup)" if wanted is Verb.MASTER else ""
    return f"a person is needed: {text}. {tried}; see failover status, put it right, then failover {wanted}{way_out}"
