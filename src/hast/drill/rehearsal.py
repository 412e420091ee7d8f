"""Carries the steps out, one after another, and measures what a client sees.

A step that fails is followed by a fresh pair, so that the next one begins well; when a fresh pair does not come up, the
rehearsal is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from hast.drill.decisions.outcome import Outcome, judge, longest_gap_s, phases
from hast.drill.decisions.review import Finding
from hast.drill.decisions.site import Site
from hast.drill.decisions.steps import START, Step, patience_s
from hast.drill.faults import ACTIONS
from hast.drill.pair import Pair
from hast.lab.host import Host
from hast.lab.processes import LabError
from hast.lab.records import Journal

STEADY_S = 1.0
"""So long must everything have been as it should be."""
EFFECT_S = 2.0
"""By then a failure has had its effect on clients."""
FLOWING = (5, 2.5, 0.6)
"""Records, within so many seconds, the last of them so many seconds ago at most: it goes on, on a busy machine too."""
SETTLE_S = 45.0
LOOK_S = 0.1
LOG_LINES = 40
TELLING = ("carpd", "failover", "hast-devd", "Role changed", "onnect", "plit", "Synchroniz")
GAVE_UP = "Disconnected from"


class Rehearsal:
    """`tell` hears of every outcome as it is there."""

    def __init__(self, site: Site, pair: Pair, findings: Sequence[Finding], tell: Callable[[Outcome], None]) -> None:
        self.site = site
        self.pair = pair
        self.cluster = pair.cluster
        self.findings = findings
        self.tell = tell
        self.outcomes: list[Outcome] = []
        self.left_out: list[Step] = []
        self.acknowledged: list[float] = []
        """Moments of all acknowledged writes, on the clock of the drill."""
        self.rests: list[float] = []
        """When the client was stopped, to read everything back or for a fresh pair; it writes again a while later."""
        self.began_s = time.monotonic()
        self._good = False

    def play(self, steps: Iterable[tuple[int, Step]]) -> None:
        """All of them; once a fresh pair does not start, the rest is left out."""
        for number, step in steps:
            if step is START:
                self._note(self._start(number))
                continue
            if not self._good and self.outcomes[-1].step is not START:
                again = self._start(number)
                if again.failed:
                    self._note(again)
            if self._good:
                self._note(self._rehearse(step, number))
            else:
                self.left_out.append(step)

    def _note(self, outcome: Outcome) -> None:
        judge(outcome, self.findings)
        self.outcomes.append(outcome)
        self.tell(outcome)

    # --- the start --------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> Outcome:
        """A fresh pair that boots."""
        self._collect()
        self.rests.append(self._now())
        outcome = Outcome(START, number, began_s=self._now())
        booted_s = time.monotonic()
        try:
            self.pair.fresh()
            booted_s = time.monotonic()
            for host in self.pair.hosts:
                self.cluster.boot(host)
            left = self._settle(patience_s(self.site, START))
        except LabError as error:
            left = [f"told: {str(error).splitlines()[0]}"]
        if left:
            outcome.complaints += left
            outcome.log = self._log(booted_s)
        else:
            outcome.then = outcome.master = self.pair.label(self.pair.masters()[0])
            self.cluster.start_writer()
            self._wait(lambda: self._flows(booted_s), 10)
            outcome.pause_s = self._first_after(booted_s) - booted_s
        self._good = not left
        outcome.ended_s = self._now()
        return outcome

    # --- one step ---------------------------------------------------------------------------------------------------

    def _rehearse(self, step: Step, number: int) -> Outcome:
        master = self.pair.masters()[0]
        slave = self.cluster.other(master)
        outcome = Outcome(step, number, began_s=self._now(), master=self.pair.label(master))
        if self.cluster.writer is None:
            self.cluster.start_writer()
        struck_s = time.monotonic()
        try:
            self._wait(lambda: self._flows(struck_s - 1), 20)
            struck_s = time.monotonic()
            with self.cluster.watching() as watch:
                self._strike(outcome, step, (master, slave))
            if watch.violations and not step.is_double:
                outcome.complaints.append("two primaries: both hosts let clients write at the same time")
        except LabError as error:
            outcome.complaints.append(f"told: {str(error).splitlines()[0]}")
        if outcome.complaints:
            outcome.log = self._log(struck_s)
        self._good = not outcome.complaints and not outcome.lost and not self.pair.symptoms()
        outcome.ended_s = self._now()
        return outcome

    def _strike(self, outcome: Outcome, step: Step, pair: tuple[Host, Host]) -> None:
        master, slave = pair
        struck_s = time.monotonic()
        mend = ACTIONS[step.action](self.pair, master, slave)
        limit_s = patience_s(self.site, step)
        if step.is_double:
            struck_s = time.monotonic()
        earliest_s = struck_s + EFFECT_S
        served = self._wait(lambda: time.monotonic() >= earliest_s and self._flows(struck_s), limit_s)
        if served:
            self._measure(outcome, struck_s)
        if step.is_double:
            self._count_lost(outcome, served)
        mended_s = time.monotonic()
        mend()
        left = self._settle(limit_s if step.is_double else limit_s + SETTLE_S)
        if step.is_double:
            self._after_double(outcome, left, served, struck_s)
            return
        outcome.complaints += left
        if not left:
            outcome.then = outcome.then or self.pair.label(self.pair.masters()[0])
            self._wait(lambda: self._flows(mended_s), 5)
            outcome.second_s = longest_gap_s(self._times(), mended_s)
            self._count_lost(outcome, True)
        self._check_fact(outcome, step, struck_s)

    def _measure(self, outcome: Outcome, struck_s: float) -> None:
        times = self._times()
        outcome.pause_s = longest_gap_s(times, struck_s)
        masters = self.pair.masters()
        if len(masters) == 1:
            outcome.then = self.pair.label(masters[0])
            served_s = next((b for a, b in pairwise(times) if b - a == outcome.pause_s), struck_s)
            log = self.pair.told(struck_s, lambda text: True)
            outcome.phases = phases(log, masters[0].name, struck_s, served_s)

    def _check_fact(self, outcome: Outcome, step: Step, struck_s: float) -> None:
        if step.fact == "still connected":
            lines = self.pair.told(struck_s, lambda text: GAVE_UP in text)
            if lines:
                outcome.complaints.append(f"gave up: the connection of the copies ended: {lines[0][1]}")

    def _count_lost(self, outcome: Outcome, served: bool) -> None:
        """Read everything back through the shared address; what is lost is not asked for again."""
        if not served:
            return
        self._collect()
        self.rests.append(self._now())
        outcome.wrote = len(self.cluster.journal().acknowledged)
        try:
            outcome.lost = len(self.cluster.missing())
        except (LabError, ValueError) as error:
            outcome.complaints.append(f"not served: reading everything back failed: {str(error).splitlines()[0]}")
            return
        if outcome.lost:
            self.cluster.acknowledged = Journal()
        self.cluster.start_writer()

    def _after_double(self, outcome: Outcome, left: list[str], served: bool, struck_s: float) -> None:
        """Everything is back."""
        if not served:
            outcome.remarks.append("nobody serves until the other is back")
            if not left and self._wait(lambda: self._flows(struck_s), SETTLE_S):
                self._measure(outcome, struck_s)
                self._count_lost(outcome, True)
        if any(text.startswith("split brain") for text in left):
            outcome.remarks.append("split brain when both are back: a person has to choose")
        elif left:
            outcome.remarks.append(f"does not come back by itself: {left[0]}")
            outcome.log = self._log(struck_s)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _settle(self, limit_s: float) -> list[str]:
        """Until all has been well for a while; what is left of it otherwise. A split brain is not waited out."""
        until_s = time.monotonic() + limit_s
        well_since_s = None
        while True:
            found = self.pair.symptoms()
            now_s = time.monotonic()
            if found:
                well_since_s = None
            elif well_since_s is None:
                well_since_s = now_s
            elif now_s - well_since_s >= STEADY_S:
                return []
            if now_s >= until_s or any(text.startswith("split brain") for text in found):
                return found or ["not equal: it does not come to rest"]
            time.sleep(LOOK_S)

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> bool:
        until_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() >= until_s:
                return False
            time.sleep(LOOK_S)
        return True

    def _flows(self, since_s: float) -> bool:
        """Clients write: several records were acknowledged just now."""
        now_s = time.monotonic()
        records, within_s, ago_s = FLOWING
        recent = [at for at in self._times()[-records:] if at >= since_s]
        return len(recent) == records and now_s - recent[0] < within_s and now_s - recent[-1] < ago_s

    def _times(self) -> list[float]:
        return [at for _, at in self.cluster.journal().acknowledged]

    def _first_after(self, moment_s: float) -> float:
        return next((at for at in self._times() if at >= moment_s), moment_s)

    def _now(self) -> float:
        return time.monotonic() - self.began_s

    def _collect(self) -> None:
        """Keep the moments, before the journal forgets them."""
        known_s = self.acknowledged[-1] if self.acknowledged else -1.0
        moments = (at - self.began_s for at in self._times())
        self.acknowledged += [at for at in moments if at > known_s]

    def finish(self) -> None:
        """The last moments."""
        self._collect()

    def _log(self, since_s: float) -> tuple[str, ...]:
        lines = self.pair.told(since_s, lambda text: any(word in text for word in TELLING))
        return tuple(f"{at - since_s:7.3f} s  {text}" for at, text in lines[:LOG_LINES])
