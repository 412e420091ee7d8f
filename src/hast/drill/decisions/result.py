"""Everything that a drill found, for whoever shows it; and what of a pause is the price of which setting. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hast.drill.decisions.outcome import Outcome, Summary, summaries
from hast.drill.decisions.review import Finding, Weight
from hast.drill.decisions.site import Site
from hast.drill.decisions.steps import Kind, Step
from hast.drill.decisions.translate import Rehearsed
from hast.format.constants import Replication


@dataclass(frozen=True, slots=True)
class Cost:
    """What a double failure costs in one setting, by the simulator: of so many `runs`, in how many the other `served`.
    `lossy`: in how many of those writes were gone that clients had flushed; `doubtful`: or been acknowledged."""

    double: str
    replication: Replication
    arbiter: bool
    runs: int
    served: int
    lossy: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """`broken`: rules that a run of the campaign broke, one line each; none is expected."""

    seeds: int
    operations: int
    simulated_s: float
    seconds: float
    replication: Replication
    arbiter: bool
    broken: tuple[str, ...]
    costs: tuple[Cost, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """`acknowledged`: when writes were, on the clock of the drill; `rests`: when the client was stopped."""

    site: Site
    rehearsed: Rehearsed
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...] = ()
    left_out: tuple[Step, ...] = ()
    acknowledged: tuple[float, ...] = ()
    rests: tuple[float, ...] = ()
    simulated: Simulated | None = None
    seconds: float = 0.0
    rounds: int = 1
    when: str = ""
    """Date and time of the beginning, for people."""

    @property
    def mistakes(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.weight is Weight.MISTAKE)

    @property
    def failed(self) -> bool:
        broken = self.simulated is not None and bool(self.simulated.broken)
        return broken or bool(self.mistakes) or bool(self.left_out) or any(each.failed for each in self.outcomes)

    @property
    def singles(self) -> list[Summary]:
        return [each for each in summaries(self.outcomes) if not each.step.is_double]

    @property
    def doubles(self) -> list[Summary]:
        return [each for each in summaries(self.outcomes) if each.step.is_double]


SETTINGS_OF_PHASES = (
    ("missed", "carp.conf: three times advbase, and advskew / 256 s"),
    ("ordered", "hast-devd and the start of failover"),
    ("roles", "hast.conf: timeout, wait-for-peer; failover.conf: delay"),
    ("served", "failover.conf: pools, services, exports"),
)


@dataclass(frozen=True, slots=True)
class Share:
    """Of the fail-overs that were measured: the mean of one part, and the settings that it comes from."""

    phase: str
    seconds: float
    setting: str


def shares(outcomes: Sequence[Outcome]) -> list[Share]:
    """What an unplanned fail-over is made of."""
    cut = [
        each.phases for each in outcomes if each.phases and each.step.kind is Kind.MOVE and each.step.action != "switch"
    ]
    if not cut:
        return []
    found = []
    for number, (word, setting) in enumerate(SETTINGS_OF_PHASES):
        found.append(Share(word, sum(phases[number].seconds for phases in cut) / len(cut), setting))
    return found


def worse(result: Result) -> Iterator[str]:
    """Which settings make it worse, and which would make it better, by what was measured here."""
    parts = shares(result.outcomes)
    total_s = sum(part.seconds for part in parts)
    for part in sorted(parts, key=lambda part: -part.seconds):
        if part.seconds >= 0.5:
            yield f"{part.seconds:.1f} s of {total_s:.1f} s of a fail-over: {part.phase} ({part.setting})"
    for outcome in result.outcomes:
        if outcome.step.action == "link_cable" and outcome.pause_s is not None and outcome.pause_s >= 1.0:
            yield f"{outcome.pause_s:.1f} s pause when the replication network is cut (hast.conf: timeout)"
    for finding in result.findings:
        if finding.weight is Weight.PRICE:
            yield f"{finding.setting}: {finding.text}"
    if result.simulated is not None:
        yield from _compared(result.simulated)


def _compared(simulated: Simulated) -> Iterator[str]:
    """The site's own settings beside the others, double failure by double failure."""
    cells = {(cost.double, cost.replication, cost.arbiter): cost for cost in simulated.costs}
    names = dict.fromkeys(cost.double for cost in simulated.costs)
    other = not simulated.arbiter
    changed = [
        name
        for name in names
        if cells[name, simulated.replication, simulated.arbiter].lossy
        > 0
        == cells[name, simulated.replication, other].lossy
    ]
    if changed and other:
        said = ", ".join(changed)
        yield f"hast.conf, arbiter: with one nothing flushed is lost in: {said} (the other does not serve until it may)"
    for mode in Replication:
        if mode is simulated.replication:
            continue
        for name in names:
            mine, theirs = cells[name, simulated.replication, simulated.arbiter], cells[name, mode, simulated.arbiter]
            if theirs.doubtful and not mine.doubtful:
                count = f"{theirs.doubtful} of {theirs.runs}"
                yield f"hast.conf, replication {mode}: would lose acknowledged writes in {count} runs of: {name}"
            if mine.doubtful and not theirs.doubtful:
                yield f"hast.conf, replication {simulated.replication}: loses what {mode} would not in: {name}"
