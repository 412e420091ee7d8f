"""Who may go on alone: the rules of leases and of outdated copies, sans-I/O (safety rule S11).

For every resource an arbiter knows at most one holder with a lease that ends, an epoch that only grows, and `sole`: the
one node whose copy has every acknowledged write. While `sole` is set every other node is outdated. The rules:

- A lease is given to one node at a time, never to an outdated one (only a person may override that, `force`).
- Before a primary acknowledges the first write that its peer lacks it becomes `sole`; that needs its lease.
- When the peer has every write again, the holder ends `sole`, before it counts on the peer.
- A primary whose peer is connected needs no lease: both nodes would have to agree to anything. Any other acknowledges
  no write when its lease has ended, also one that is `sole`: an arbiter that forgot that (restored from a backup, taken
  over by somebody) may have let the other serve. A fence program that confirms now that the peer is off lets it go on.
- A witness that has just started may have forgotten what came after its file was written. It lets nobody in until every
  lease that it may have forgotten is over, believes a holder that shows a greater epoch than its own until then, and
  gives out no epoch that it may have given out before.

`LeaseTable` is what a witness keeps; `Tenure` is what a primary may do. Time is passed in; the holder counts its lease
from before it asked, the witness from after, so that the holder always stops first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Protocol

LEASE_TTL_S = 3.0
KEEPALIVE_S = 1.0
TELL_S = 0.3
"""So long before its lease ends the only good copy stops: until all who write have been told."""
STEP_DOWN_S = 10.0
"""A primary that may not write and hears from neither side for this long gives up its role."""
NOT_YET = "who holds the lease is not known yet: the witness has just started"
MAX_RESOURCES = 10_000
MAX_NAME_BYTES = 255


class ArbiterError(Exception):
    """The arbiter did not answer, or not in a way that can be used; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Lease:
    """`node` may be primary of `resource` until `until_s` on the clock of whoever holds this object."""

    resource: str
    node: str
    epoch: int
    ttl_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The arbiter said no. `holder` is the node that has the lease or the only good copy, empty for nobody."""

    reason: str
    holder: str = ""
    epoch: int = 0

    @property
    def is_final(self) -> bool:
        """Not only for the few seconds in which the arbiter does not know yet."""
        return NOT_YET not in self.reason


class Arbiter(Protocol):
    """An adapter to an arbiter. Every call ends by its deadline and raises ArbiterError when it got no answer."""

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        """A lease for a node that becomes primary. `epoch` is the greatest that the node knows of."""
        ...

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        """The lease, prolonged."""
        ...

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        """Record, durably, that only the holder has every write. `peer` is for people who read the record."""
        ...

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        """Record that the peer has every write again."""
        ...

    async def is_outdated(self, resource: str, node: str) -> bool: ...

    async def release(self, lease: Lease) -> None:
        """End the lease, so that another node need not wait for its end."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Entry:
    epoch: int = 0
    holder: str = ""
    ttl_s: float = LEASE_TTL_S
    until_s: float = -inf
    sole: str = ""
    peer: str = ""
    change: int = 0
    loaded: bool = False
    """As an earlier witness left it, or unknown to it: later epochs than this one may have been given out."""


@dataclass
class LeaseTable:
    """The memory of a witness. `node` is who asks, as the caller has found out, and the holder alone may prolong,
    record, clear and release."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    changes: int = 0
    """Grows with everything that must be durable before an answer that follows from it is sent."""

    young_until_s: float = -inf
    """Until then leases may last that this witness knows nothing of."""

    floor: int = 0
    """No smaller than any epoch that was given out before the start."""

    def change_of(self, resource: str) -> int:
        """The latest of the changes that an answer for this resource may follow from."""
        entry = self.entries.get(resource)
        return entry.change if entry is not None else 0

    def rename(self, former: str, resource: str) -> None:
        """What was known of one resource is known of another from now on."""
        entry = self.entries[resource] = self.entries.pop(former)
        self._changed(entry)

    def acquire(
        self, resource: str, node: str, epoch: int, ttl_s: float, now: float, force: bool = False
    ) -> Lease | Refused:
        """Give `node` the lease with a new epoch, greater than `epoch` and every earlier one."""
        entry = self.entries.get(resource)
        if entry is None:
            if len(self.entries) >= MAX_RESOURCES:
                return Refused(f"the witness knows {MAX_RESOURCES} resources already")
            entry = self.entries[resource] = _Entry(loaded=True)
        if entry.holder not in ("", node) and now < entry.until_s:
            return Refused(f"{entry.holder} holds the lease", entry.holder, entry.epoch)
        if now < self.young_until_s and not (entry.holder == node and not entry.loaded):
            return Refused(NOT_YET, "", entry.epoch)
        if entry.sole not in ("", node):
            if not force:
                return Refused(f"this copy is outdated: {entry.sole} went on without it", entry.sole, entry.epoch)
            entry.sole = entry.peer = ""
        entry.epoch = max(entry.epoch, epoch, self.floor * entry.loaded) + 1
        entry.loaded = False
        entry.holder = node
        entry.ttl_s = ttl_s
        return self._prolong(resource, entry, now, True)

    def keepalive(self, resource: str, node: str, epoch: int, now: float) -> Lease | Refused:
        """Prolong; a lease that ended while nobody else took it is given again."""
        learnt = self._learn(resource, node, epoch, now)
        entry = self._held(resource, node, epoch)
        return entry if isinstance(entry, Refused) else self._prolong(resource, entry, now, learnt)

    def record_outdated(self, resource: str, node: str, epoch: int, peer: str, now: float) -> Lease | Refused:
        """The holder becomes `sole`."""
        return self._set_sole(resource, node, epoch, node, peer, now)

    def clear_outdated(self, resource: str, node: str, epoch: int, now: float) -> Lease | Refused:
        """The holder is not `sole` any more."""
        return self._set_sole(resource, node, epoch, "", "", now)

    def is_outdated(self, resource: str, node: str) -> bool:
        entry = self.entries.get(resource)
        return entry is not None and entry.sole not in ("", node)

    def sole(self, resource: str) -> str:
        """Who alone has every write; empty where nobody has, or nobody knows."""
        entry = self.entries.get(resource)
        return entry.sole if entry is not None else ""

    def release(self, resource: str, node: str, epoch: int) -> bool:
        """End the lease if it is still this one; `sole` stays."""
        entry = self._held(resource, node, epoch)
        if isinstance(entry, Refused):
            return False
        entry.holder = ""
        entry.until_s = -inf
        self._changed(entry)
        return True

    def to_json(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {
            name: {"epoch": e.epoch, "holder": e.holder, "ttl_s": e.ttl_s, "sole": e.sole, "peer": e.peer}
            for name, e in self.entries.items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], now: float, floor: int = 0) -> LeaseTable:
        """After a restart every lease lasts its whole time again, also one that this state is too old to have: nobody
        knows how much was left. Raises ValueError."""
        table = cls(young_until_s=now + LEASE_TTL_S, floor=floor)
        try:
            for name, each in value.items():
                ttl_s = float(each["ttl_s"])
                entry = _Entry(int(each["epoch"]), str(each["holder"]), ttl_s, now + ttl_s, str(each["sole"]))
                entry.peer, entry.loaded = str(each.get("peer", "")), True
                table.young_until_s = max(table.young_until_s, entry.until_s)
                table.entries[str(name)] = entry
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the state of a witness: {error!r}") from None
        return table

    def _learn(self, resource: str, node: str, epoch: int, now: float) -> bool:
        """Of a holder that this state is too old to have, while nobody has been let in since the start."""
        entry = self.entries.get(resource)
        if now >= self.young_until_s or entry is None or not entry.loaded or epoch <= entry.epoch:
            return False
        entry.epoch, entry.holder = epoch, node
        if entry.sole != node:
            entry.sole = entry.peer = ""
        return True

    def _held(self, resource: str, node: str, epoch: int) -> _Entry | Refused:
        entry = self.entries.get(resource)
        if entry is None or entry.holder != node or entry.epoch != epoch:
            holder = entry.holder if entry is not None else ""
            known = entry.epoch if entry is not None else 0
            who = f"{holder} holds it" if holder and holder != node else "it is not held"
            return Refused(f"the lease with epoch {epoch} is over: {who} in epoch {known}", holder, known)
        return entry

    def _set_sole(self, resource: str, node: str, epoch: int, sole: str, peer: str, now: float) -> Lease | Refused:
        learnt = self._learn(resource, node, epoch, now)
        entry = self._held(resource, node, epoch)
        if isinstance(entry, Refused):
            return entry
        if entry.sole not in ("", node):
            return Refused(f"this copy is outdated: {entry.sole} went on without it", entry.sole, entry.epoch)
        changed = learnt or (entry.sole, entry.peer) != (sole, peer)
        entry.sole, entry.peer = sole, peer
        return self._prolong(resource, entry, now, changed)

    def _prolong(self, resource: str, entry: _Entry, now: float, changed: bool) -> Lease:
        entry.until_s = now + entry.ttl_s
        if changed:
            self._changed(entry)
        return Lease(resource, entry.holder, entry.epoch, entry.ttl_s, entry.until_s)

    def _changed(self, entry: _Entry) -> None:
        self.changes += 1
        entry.change = self.changes


class Verdict(StrEnum):
    """What a primary may do now."""

    SERVE = "serve"
    FREEZE = "freeze"
    """Acknowledge no write; the lease may come back."""
    STEP_DOWN = "step down"
    """Give up the role: it was taken, or nobody was heard for STEP_DOWN_S. Not that of the only good copy: nobody else
    could serve."""


class Renewal(StrEnum):
    """What to ask the arbiter for, to go on."""

    KEEPALIVE = "keepalive"
    RECORD = "record"
    """The same, and the record again: it may have been forgotten."""
    ACQUIRE = "acquire"
    """A new lease: the former is over, and others may have had one since that the arbiter forgot."""


class Tenure:
    """The standing of a primary with its arbiter, from promotion to demotion."""

    def __init__(self, lease: Lease, now: float, by_hand: bool = False) -> None:
        self.lease = lease
        self.by_hand = by_hand
        """A person answers for it as long as the arbiter says nothing."""
        self.connected = False
        self.sole = False
        """The arbiter has recorded that only this node has every write."""
        self.lost = ""
        """Why the arbiter took the lease away; empty while it did not."""
        self._alone_since_s = now
        self._answered_s = now
        self._keepalive_at_s = now + KEEPALIVE_S
        self._fence_asked = self._fenced = False
        self._record_due = False
        """With a lease of a new epoch: whether the arbiter still knows who has every write is not sure before it has
        recorded it again."""

    @property
    def keepalive_s(self) -> float:
        """When to ask the arbiter to prolong the lease."""
        return self._keepalive_at_s

    def peer(self, connected: bool, now: float) -> None:
        """The peer's copy is connected and receives every write, or not any more."""
        if self.connected and not connected:
            self._alone_since_s = now
        self.connected = connected
        if connected:
            self._fence_asked = self._fenced = False

    def renewal(self, now: float) -> Renewal:
        """How to ask, when it is time."""
        if now >= self.lease.until_s:
            return Renewal.ACQUIRE
        return Renewal.RECORD if self.sole else Renewal.KEEPALIVE

    def answered(self, answer: Lease | Refused, now: float) -> None:
        """The arbiter's answer to a renewal, record_outdated or clear_outdated."""
        self._answered_s = now
        self._keepalive_at_s = now + KEEPALIVE_S
        if isinstance(answer, Refused):
            self.lost = answer.reason if answer.is_final else ""
        else:
            self._record_due = self.sole and answer.epoch != self.lease.epoch
            if self._record_due:
                self._keepalive_at_s = now
            self.lost = ""
            self.lease = answer
            self.by_hand = self._fence_asked = self._fenced = False

    def recorded(self, sole: bool) -> None:
        """The arbiter confirmed that this node is, or is not any more, the only one with every write."""
        self.sole = sole
        self._record_due = False

    def unanswered(self, now: float) -> None:
        """The arbiter did not answer."""
        self._keepalive_at_s = now + KEEPALIVE_S

    @property
    def ends_s(self) -> float:
        """When the verdict changes unless something is heard."""
        return self.lease.until_s - (TELL_S if self.sole else 0.0)

    def wants_fence(self, now: float) -> bool:
        """Only a peer that is known to be off lets this primary go on. Asked once while the arbiter is silent."""
        return self._has_lapsed(now) and not self._fence_asked

    def fence_asked(self) -> None:
        """The fence program is being run."""
        self._fence_asked = True

    def fence_confirmed(self) -> None:
        """It says that the peer is off. What was heard of peer or arbiter meanwhile counts more."""
        self._fenced = self._fence_asked

    def _has_lapsed(self, now: float) -> bool:
        """`sole` by a record that the arbiter may not have any more."""
        return self.sole and not (self.connected or self.lost or self.by_hand or now < self.ends_s)

    def reached(self, now: float) -> bool:
        """Whether the arbiter has answered, yes or no, within the time of a lease. Nothing depends on it."""
        return now - self._answered_s < max(LEASE_TTL_S, self.lease.ttl_s)

    def verdict(self, now: float) -> Verdict:
        """Whether to serve. A connected pair never depends on the arbiter."""
        if self.connected:
            return Verdict.SERVE
        if self.lost:
            return Verdict.STEP_DOWN
        if self.by_hand or self._fenced or (now < self.ends_s and not self._record_due):
            return Verdict.SERVE
        if self.sole:
            return Verdict.FREEZE
        unheard_s = now - max(self.lease.until_s, self._alone_since_s)
        return Verdict.STEP_DOWN if unheard_s >= STEP_DOWN_S else Verdict.FREEZE
