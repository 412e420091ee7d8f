"""The drill in a terminal: a line for each step as it is there, then tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hast.drill.decisions import ground
from hast.drill.decisions.outcome import Outcome, Summary, percentile
from hast.drill.decisions.result import Result, Simulated, worse
from hast.drill.decisions.site import Site
from hast.drill.decisions.steps import Step
from hast.drill.decisions.translate import Rehearsed
from hast.format.constants import Replication

WIDTH = 62
SHARES = (0.5, 0.95)


def head(site: Site, rehearsed: Rehearsed) -> list[str]:
    """Whose drill this is."""
    one, two = site.nodes
    pools = ", ".join(f"pool {pool.name}" for pool in rehearsed.pools) or "no pool"
    lines = [f"drill of {one.name} and {two.name}: {', '.join(site.resources)}; {pools}; arbiter {rehearsed.arbiter}"]
    return [*lines, *(f"not rehearsed: {note}" for note in rehearsed.notes)]


def plan(site: Site, rehearsed: Rehearsed, steps: Sequence[tuple[int, Step]], seeds: int, seconds: float) -> list[str]:
    """What `--plan` prints."""
    lines = head(site, rehearsed)
    lines.append("two hosts, network namespaces and sparse disks of their own:")
    for host, name in rehearsed.labels.items():
        disks = ", ".join(f"{resource} on {path}" for resource, path in rehearsed.disks.items())
        addresses = " and ".join(ground.HOST_ADDRESSES[net][host] for net in (ground.PUB, ground.REPL))
        lines.append(f"  {host} for {name}: {addresses}; {disks}")
    lines.append(f"  clients use {ground.FIRST_SHARED}:{ground.PORT}")
    for number, (turn, step) in enumerate(steps, 1):
        again = f" (round {turn})" if turn > 1 else ""
        lines.append(f"  {number}. {step.does}{again}: {step.wants}")
    if seeds:
        lines.append(f"  then {seeds} seeds in the simulator")
    lines.append(f"about {max(1, round(seconds / 60))} minutes; nothing of this machine is changed")
    return lines


def line(number: int, count: int, outcome: Outcome) -> list[str]:
    """One step, as it is there."""
    again = f" (round {outcome.round})" if outcome.round > 1 else ""
    title = f"{number}/{count} {outcome.step.does}{again}"
    word = "FAILED" if outcome.failed else "lost" if outcome.lost else "ok"
    lines = [f"{title:<{WIDTH}} {word:<6} {came_to(outcome)}".rstrip()]
    lines += [f"      {text}" for text in (*outcome.complaints, *outcome.remarks)]
    lines += [f"      suspected: {text}" for text in outcome.suspects]
    return lines


def came_to(outcome: Outcome) -> str:
    """The pause, who serves, what is lost."""
    words = ["no service" if outcome.pause_s is None else f"{outcome.pause_s:.2f} s"]
    if outcome.then and outcome.master and outcome.then != outcome.master:
        words.append(f"{outcome.master} -> {outcome.then}")
    if outcome.second_s >= 1.0:
        words.append(f"again {outcome.second_s:.2f} s when it was mended")
    if outcome.lost:
        words.append(f"{outcome.lost} acknowledged records gone")
    return ", ".join(words)


def summary(result: Result) -> list[str]:
    """Everything after the last step."""
    lines = ["", *_table(result.singles)]
    if result.doubles:
        lines += ["", "double failures"]
        for each in result.doubles:
            lines += [f"  {each.step.does}", *(f"      {text}" for text in verdict(each.outcomes[0]))]
    if result.left_out:
        lines += ["", "left out, because the pair did not start: " + ", ".join(s.action for s in result.left_out)]
    if result.simulated is not None:
        lines += ["", *simulator(result.simulated)]
    said = list(worse(result))
    if said:
        lines += ["", "which settings make it worse", *(f"  {text}" for text in said)]
    if result.mistakes:
        lines += ["", "mistakes", *(f"  {each.setting}: {each.text}" for each in result.mistakes)]
    return [*lines, "", ending(result)]


def ending(result: Result) -> str:
    failed = [each for each in result.outcomes if each.failed]
    if not result.failed:
        return f"all {len(result.outcomes)} steps as they should be, in {result.seconds:.0f} s"
    return (
        f"{len(failed)} of {len(result.outcomes)} steps failed, {len(result.mistakes)} mistakes; {result.seconds:.0f} s"
    )


def _table(singles: Sequence[Summary]) -> Iterator[str]:
    yield f"{'pause of clients, seconds':<{WIDTH}} {'n':>3} {'p50':>7} {'p95':>7} {'longest':>7}"
    for each in singles:
        pauses = each.pauses
        figures = [f"{percentile(pauses, share):7.2f}" for share in SHARES] + [f"{max(pauses, default=0):7.2f}"]
        shown = " ".join(figures) if pauses else "no service"
        yield f"{each.step.does:<{WIDTH}} {len(each.outcomes):>3} {shown}{'  FAILED' if each.failed else ''}"


def verdict(outcome: Outcome) -> list[str]:
    """What a double failure came to, in words."""
    words = []
    if outcome.pause_s is None:
        words.append("nobody served any more")
    else:
        words.append(f"{outcome.then or 'somebody'} serves after {outcome.pause_s:.1f} s")
    if outcome.lost:
        words.append(f"{outcome.lost} acknowledged records are LOST to clients")
    elif outcome.lost == 0:
        words.append("nothing that was acknowledged is lost")
    return [*words, *outcome.remarks, *outcome.complaints]


def simulator(found: Simulated) -> Iterator[str]:
    """The campaign and the table of costs."""
    arbiter = "with an arbiter" if found.arbiter else "without an arbiter"
    broken = f"{len(found.broken)} broke a rule" if found.broken else "no rule broken"
    yield (
        f"simulator: {found.seeds} seeds in mode {found.replication} {arbiter}, {found.operations} operations, "
        f"{found.simulated_s / 3600:.1f} h of virtual time: {broken}"
    )
    yield from (f"  {text}" for text in found.broken[:5])
    yield f"  {'flushed writes lost / acknowledged ones lost / not served':<60}" + "".join(
        f"{mode!s:>14}" for mode in Replication
    )
    for arbiter_word, flag in (("no arbiter", False), ("arbiter", True)):
        for name in dict.fromkeys(cost.double for cost in found.costs):
            row = [cost for cost in found.costs if cost.double == name and cost.arbiter is flag]
            cells = "".join(f"{cost.lossy}/{cost.doubtful}/{cost.runs - cost.served}".rjust(14) for cost in row)
            yield f"  {arbiter_word + ': ' + name:<60}{cells}"
