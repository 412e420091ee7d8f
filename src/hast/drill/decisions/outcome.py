"""What one step came to, and what of that is a failure: of which setting it is suspected. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hast.drill.decisions.review import Finding, Weight
from hast.drill.decisions.steps import Kind, Step, Wants

HINTS = {
    "two masters": "carp.conf: pass, vhid and address of both nodes; the network between them",
    "no master": "carp.conf: interface and vhid",
    "not believed": "carp.conf: pass and address of both nodes",
    "not heard": "carp.conf: vhid and interface of both nodes",
    "roles": "failover.conf: resources, pool, timeouts; devd.conf: the rules for this address",
    "no hastd": "hast.conf",
    "not connected": "hast.conf: remote, listen, tls and fingerprint of both nodes",
    "not equal": "hast.conf: sync-rate",
    "split brain": "hast.conf: arbiter, wait-for-peer",
    "not served": "failover.conf: pool, service, export and their timeouts",
    "gave up": "hast.conf: timeout",
    "lost": "hast.conf: replication, arbiter, wait-for-peer",
    "another serves": "carp.conf: advskew, preempt",
    "nobody else serves": "carp.conf and devd.conf of the other node; failover.conf",
    "two primaries": "hast.conf: arbiter; carp.conf: pass, vhid",
    "told": "failover.conf",
}
"""First word of a complaint → where to look when nothing better is known."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a fail-over: what ended it, and how long it was."""

    name: str
    seconds: float


@dataclass(slots=True)
class Outcome:
    """`pause_s`: the longest time without an acknowledged write from the failure on; None where nobody served any more.
    `second_s`: the same after everything was mended. `lost`: acknowledged records that are gone."""

    step: Step
    round: int
    began_s: float = 0.0
    """On the clock of the drill."""
    ended_s: float = 0.0
    master: str = ""
    then: str = ""
    """Who serves afterwards."""
    pause_s: float | None = None
    second_s: float = 0.0
    lost: int | None = None
    wrote: int = 0
    phases: tuple[Phase, ...] = ()
    complaints: list[str] = field(default_factory=list)
    """Each `word: detail`; the first word is one of HINTS."""
    remarks: list[str] = field(default_factory=list)
    suspects: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return bool(self.complaints)


def judge(outcome: Outcome, findings: Sequence[Finding]) -> None:
    """Complain of what was not as the step wants it, and name what is suspected."""
    step = outcome.step
    if outcome.pause_s is None and step.wants is not Wants.ANY:
        outcome.complaints.append("not served: clients got no answer any more")
    if outcome.then and step.wants is Wants.SAME and outcome.then != outcome.master:
        outcome.complaints.append(f"another serves: {outcome.then} took over, which nothing called for")
    if outcome.then and step.wants is Wants.OTHER and outcome.then == outcome.master:
        outcome.complaints.append(f"nobody else serves: {outcome.master} serves again, the other did not take over")
    if outcome.lost and not step.is_double:
        outcome.complaints.append(f"lost: {outcome.lost} acknowledged records are gone")
    if outcome.complaints:
        outcome.suspects = tuple(suspects(step.kind, outcome.complaints, findings))


def suspects(kind: Kind, complaints: Iterable[str], findings: Sequence[Finding]) -> list[str]:
    """Findings that explain such a step, the heaviest first; then where to look by what was seen."""
    named = [
        f"{each.setting}: {each.text}" for each in findings if kind in each.explains and each.weight is not Weight.PRICE
    ]
    words = dict.fromkeys(text.partition(":")[0] for text in complaints)
    return [*named, *(f"look at {HINTS[word]}" for word in words if word in HINTS and not named)]


# --- what clients saw -------------------------------------------------------------------------------------------------


def longest_gap_s(times: Sequence[float], since_s: float, until_s: float | None = None) -> float:
    """Between two acknowledged writes, of which the later came after `since_s` and the earlier before `until_s`."""
    last = float("inf") if until_s is None else until_s
    return max(
        (later - earlier for earlier, later in pairwise(times) if later >= since_s and earlier <= last), default=0.0
    )


MARKS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("missed: the other is master of the address", re.compile(r"^HOST carpd\S* .*\bMASTER \(")),
    ("ordered: failover begins", re.compile(r"^HOST failover\S* Switching to primary")),
    ("roles: devices are there", re.compile(r"^HOST failover\S* Role for HAST resources .* switched to primary")),
)
"""What the host that takes over logs, in this order."""


def phases(log: Iterable[tuple[float, str]], host: str, struck_s: float, served_s: float) -> tuple[Phase, ...]:
    """From the failure to the first acknowledged write, cut at what the new master logged; empty if it logged less."""
    lines = sorted(line for line in log if struck_s <= line[0] <= served_s)
    cuts: list[tuple[str, float]] = []
    for name, pattern in MARKS:
        known = re.compile(pattern.pattern.replace("HOST", re.escape(host)))
        at = next((at for at, text in lines if known.search(text)), None)
        if at is None:
            return ()
        cuts.append((name, at))
    edges = [struck_s, *(at for _, at in cuts), served_s]
    names = [*(name for name, _ in cuts), "served: pool, service, client"]
    return tuple(Phase(name, max(0.0, end - begin)) for name, (begin, end) in zip(names, pairwise(edges), strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """By the nearest rank; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one step."""

    step: Step
    outcomes: tuple[Outcome, ...]

    @property
    def pauses(self) -> list[float]:
        return [each.pause_s for each in self.outcomes if each.pause_s is not None]

    @property
    def failed(self) -> bool:
        return any(each.failed for each in self.outcomes)


def summaries(outcomes: Iterable[Outcome]) -> list[Summary]:
    """By step, in the order of their first round."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.step.action, []).append(outcome)
    return [Summary(group[0].step, tuple(group)) for group in found.values()]
