"""The arbiter of a run: a witness that keeps the real lease table, and each primary's dealings with it, by the real
rules of `election/arbiter.py`. A witness may be slow, or out of a node's reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hast.election.arbiter import KEEPALIVE_S, LEASE_TTL_S, TELL_S, Lease, LeaseTable, Refused, Renewal, Tenure, Verdict
from hast.sim.world import World

RESOURCE = "sim"
ASK_AGAIN_S = 2.0
DEADLINE_S = 1.0


class Witness:
    """`reach`: who can talk to it. `delay_s`: the most that an answer takes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("witness")
        self.table = LeaseTable()
        self._backup = self.table.to_json()
        self.forgetful_until_s = 0.0
        """By then whoever serves alone has told it so again, or has stopped."""
        self.reach = {"a": True, "b": True}
        self.delay_s = 0.05

    @property
    def sole(self) -> str:
        """The node whose copy alone has every write, as recorded."""
        entry = self.table.entries.get(RESOURCE)
        return entry.sole if entry is not None else ""

    def acquire(self, name: str, force: bool) -> Lease | None:
        """A lease for a node that becomes primary, if it can have one."""
        if not self.reach[name]:
            return None
        answer = self.table.acquire(RESOURCE, name, 0, LEASE_TTL_S, self.world.now, force)
        return None if isinstance(answer, Refused) else answer

    def restart(self) -> None:
        """It forgets what it was not asked to keep."""
        self._load(self.table.to_json())

    def back_up(self) -> None:
        """Somebody copies its file."""
        self._backup = self.table.to_json()

    def restore(self) -> None:
        """It starts from the copy, and knows nothing of what came after."""
        self.world.note("the arbiter is restored from a backup")
        self._load(self._backup)
        self.forgetful_until_s = self.world.now + LEASE_TTL_S

    def _load(self, state: dict[str, Any]) -> None:
        self.table = LeaseTable.from_json(state, self.world.now, int(self.world.now * 100))


class Patron(Protocol):
    """The primary, as its dealings see it."""

    name: str

    def answered(self, agreed: bool) -> None: ...
    def freeze(self, reason: str) -> None: ...
    def thaw(self) -> None: ...
    def step_down(self, reason: str) -> None: ...


class Dealings:
    """One promotion's worth; `end` when the node is primary no more."""

    def __init__(self, witness: Witness, patron: Patron, lease: Lease) -> None:
        self._witness = witness
        self._world = witness.world
        self._patron = patron
        self._tenure = Tenure(lease, self._world.now)
        self._verdict = Verdict.SERVE
        self._question = 0
        self._refused = False
        self._clear_wanted = False
        self._over = False
        self._answer_s = 0.0
        self._world.after(KEEPALIVE_S, self._keep_alive)

    @property
    def epoch(self) -> int:
        """Of the lease by which this node serves."""
        return self._tenure.lease.epoch

    def end(self) -> None:
        """Nothing is acknowledged any more."""
        self._over = True
        lease = self._tenure.lease
        if self._witness.reach[self._patron.name]:
            self._witness.table.release(RESOURCE, lease.node, lease.epoch)

    def vanish(self) -> None:
        """The node is gone without a word."""
        self._over = True

    def worker_replaced(self) -> None:
        self._question += 1
        self._refused = False
        if self._verdict is not Verdict.SERVE:
            self._patron.freeze("the lease is over")

    def event(self, name: str) -> None:
        """What the engine says about its peer."""
        if name in ("connect", "disconnect"):
            self._tenure.peer(name == "connect", self._world.now)
            if name == "connect":
                self._question += 1
                self._lift()
            self._judge()
        elif name in ("syncdone", "in-sync"):
            self._clear_wanted = True
            self._call(self._clear)

    def ask(self) -> None:
        """May the node go on without its peer?"""
        self._question += 1
        self._ask(self._question)

    def _ask(self, question: int) -> None:
        if not self._over and question == self._question:
            self._call(lambda: self._record(question))
            self._world.after(DEADLINE_S + ASK_AGAIN_S, self._ask_again, question)

    def _ask_again(self, question: int) -> None:
        if question == self._question and not self._over:
            if not self._refused:
                self._refuse()
            self._ask(question)

    def _record(self, question: int) -> None:
        answer = self._recorded(self._tenure.renewal(self._world.now))
        if isinstance(answer, Lease):
            self._tenure.recorded(sole=True)
        if question == self._question:
            if isinstance(answer, Lease):
                self._clear_wanted = False
                self._question += 1
                self._patron.answered(True)
                self._lift()
            elif not self._refused:
                self._refuse()
        self._judge()

    def _refuse(self) -> None:
        self._refused = True
        self._patron.answered(False)

    def _lift(self) -> None:
        refused, self._refused = self._refused, False
        if refused and self._verdict is Verdict.SERVE:
            self._patron.thaw()

    def _clear(self) -> None:
        if not self._clear_wanted:
            return
        self._clear_wanted = False
        lease = self._tenure.lease
        answer = self._witness.table.clear_outdated(RESOURCE, lease.node, lease.epoch, self._world.now)
        self._heard(answer, self._world.now)
        if isinstance(answer, Lease):
            self._tenure.recorded(sole=False)
        self._judge()

    def _keep_alive(self) -> None:
        if self._over:
            return
        asked_s = self._world.now

        def prolong() -> None:
            renewal = self._tenure.renewal(asked_s)
            if self._tenure.sole:
                self._recorded(renewal)
            else:
                self._heard(self._renewed(renewal), self._world.now)

        self._call(self._clear if self._clear_wanted else prolong)
        self._judge()
        self._world.after(KEEPALIVE_S, self._keep_alive)

    def _heard(self, answer: Lease | Refused, now: float) -> None:
        self._tenure.answered(answer, now)
        if isinstance(answer, Lease):
            self._world.after(max(0.0, answer.until_s - TELL_S - now), self._judge)

    def _renewed(self, renewal: Renewal) -> Lease | Refused:
        table, lease, now = self._witness.table, self._tenure.lease, self._world.now
        if renewal is Renewal.ACQUIRE:
            return table.acquire(RESOURCE, lease.node, lease.epoch, LEASE_TTL_S, now)
        return table.keepalive(RESOURCE, lease.node, lease.epoch, now)

    def _recorded(self, renewal: Renewal) -> Lease | Refused:
        """As Arbitration: with a new lease where the former is over."""
        now = self._world.now
        if renewal is Renewal.ACQUIRE:
            answer = self._renewed(renewal)
            self._heard(answer, now)
            if isinstance(answer, Refused):
                return answer
        lease = self._tenure.lease
        answer = self._witness.table.record_outdated(RESOURCE, lease.node, lease.epoch, "", now)
        self._heard(answer, now)
        return answer

    def _call(self, ask: Callable[[], None]) -> None:
        """One question and its answer, in order, if the witness can be reached."""
        now = self._world.now
        if self._witness.reach[self._patron.name]:
            self._answer_s = max(self._answer_s, now + self._witness.rng.random() * self._witness.delay_s)
            self._world.after(self._answer_s - now, self._answered, ask)
        else:
            self._tenure.unanswered(now)

    def _answered(self, ask: Callable[[], None]) -> None:
        if not self._over and self._witness.reach[self._patron.name]:
            ask()

    def _judge(self) -> None:
        before, self._verdict = self._verdict, self._tenure.verdict(self._world.now)
        if self._verdict is before or self._over:
            return
        if self._verdict is Verdict.SERVE:
            if not self._refused:
                self._patron.thaw()
        else:
            self._patron.freeze("the lease is over")
            if self._verdict is Verdict.STEP_DOWN:
                self._patron.step_down("the arbiter took the lease away")
