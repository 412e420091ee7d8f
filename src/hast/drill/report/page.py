"""The report: one HTML page with everything in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from importlib import resources

from hast.drill.decisions.outcome import Outcome, percentile
from hast.drill.decisions.result import Cost, Result, Simulated, worse
from hast.drill.decisions.steps import Kind
from hast.drill.report import plots, text
from hast.drill.simulated import DOUBLES
from hast.format.constants import Replication


def page(result: Result) -> str:
    """The whole document."""
    one, two = (node.name for node in result.site.nodes)
    style = (resources.files("hast.drill.report") / "page.css").read_text()
    title = f"Drill of {escape(one)} and {escape(two)}"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    meta = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f"{head}{meta}<style>{style}</style></head><body><main>{''.join(_body(result, title))}</main></body></html>\n"
    )


def _body(result: Result, title: str) -> Iterator[str]:
    word = (
        '<span class="badge bad">not as it should be</span>'
        if result.failed
        else '<span class="badge good">well</span>'
    )
    yield f"<header><h1>{title} {word}</h1><p>{escape(result.when)}, {escape(text.ending(result))}</p></header>"
    yield _tiles(result)
    yield _section("Mistakes and doubts", _findings(result))
    yield _section(
        "Pause of clients, by failure",
        plots.pauses(result.singles),
        "A dot for each round, a stroke at the median; logarithmic. A client writes a record with a flush every 20 ms.",
    )
    yield _section("Every step", _steps(result))
    yield _section(
        "What a fail-over is made of",
        plots.composition(result.outcomes),
        "From the failure to the first acknowledged write. Point at a piece for its seconds.",
    )
    yield _section("Which settings make it worse", _list(escape(line) for line in worse(result)))
    yield _section("Two failures", _doubles(result))
    if result.simulated is not None:
        yield _section("In the simulator", _simulator(result.simulated))
    end_s = max((each.ended_s for each in result.outcomes), default=0.0)
    yield _section(
        "The whole drill, as its client saw it",
        plots.timeline(result.outcomes, result.acknowledged, result.rests, end_s),
        f"Blue: writes were acknowledged. A gap: none for {plots.PAUSE_S:g} s or more. Grey: the client rested, while "
        "everything was read back or the pair was made anew. Numbers are those of the steps.",
    )
    yield _section("Not rehearsed", _list(escape(note) for note in result.rehearsed.notes))
    yield _section("What was built", "".join(_files(result)))


def _section(title: str, content: str, caption: str = "") -> str:
    if not content:
        return ""
    below = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f"<section><h2>{escape(title)}</h2>{content}{below}</section>"


def _tiles(result: Result) -> str:
    moves = [
        each.pause_s
        for each in result.outcomes
        if each.step.kind is Kind.MOVE and each.step.action != "switch" and each.pause_s is not None
    ]
    lost = sum(each.lost or 0 for each in result.outcomes if not each.step.is_double)
    costly = [each for each in result.doubles if any(one.lost for one in each.outcomes)]
    failed = sum(each.failed for each in result.outcomes)
    tiles = [
        (f"{len(result.outcomes) - failed} of {len(result.outcomes)}", "steps as they should be", bool(failed)),
        (f"{percentile(moves, 0.5):.1f} s" if moves else "-", "median pause of a fail-over", False),
        (f"{max(moves):.1f} s" if moves else "-", "longest", False),
        (str(lost), "acknowledged records lost by one failure", bool(lost)),
    ]
    if result.doubles:
        tiles.append((f"{len(costly)} of {len(result.doubles)}", "double failures lose data", bool(costly)))
    if result.mistakes:
        tiles.append((str(len(result.mistakes)), "mistakes in the configuration", True))
    shown = (
        f'<div class="tile{" bad" if bad else ""}"><b>{escape(figure)}</b><span>{escape(what)}</span></div>'
        for figure, what, bad in tiles
    )
    return f'<div class="tiles">{"".join(shown)}</div>'


def _findings(result: Result) -> str:
    found = [each for each in result.findings if each.weight != "price"]
    lines = [
        f'<span class="word {each.weight}">{each.weight}</span> <code>{escape(each.setting)}</code> {escape(each.text)}'
        for each in found
    ]
    return _list(lines) or "<p>None was found.</p>"


def _steps(result: Result) -> str:
    rows = [_row(number, each) for number, each in enumerate(result.outcomes, 1)]
    rows += [
        f'<tr class="off"><td></td><td>{escape(step.does)}</td><td colspan="4">left out</td></tr>'
        for step in result.left_out
    ]
    names = "<th>#</th><th>step</th><th class='n'>pause</th><th>serves</th><th class='n'>lost</th><th>came of it</th>"
    head = f"<tr>{names}</tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _row(number: int, each: Outcome) -> str:
    pause = "none serves" if each.pause_s is None else f"{each.pause_s:.2f} s"
    moved = each.then != each.master and each.then and each.master
    serves = f"{each.master} → {each.then}" if moved else each.then or each.master
    lost = "" if each.lost is None else str(each.lost)
    said = [*each.complaints, *each.remarks, *(f"suspected: {suspect}" for suspect in each.suspects)]
    if each.second_s >= 1.0:
        said.append(f"another {each.second_s:.2f} s when it was mended")
    told = "<br>".join(map(escape, said)) or '<span class="good">as it should be</span>'
    if each.log:
        told += (
            f"<details><summary>what the hosts logged</summary><pre>{escape(chr(10).join(each.log))}</pre></details>"
        )
    kind = "bad" if each.failed else "warn" if each.lost else ""
    again = f' <span class="round">round {each.round}</span>' if each.round > 1 else ""
    step = f"<td>{number}</td><td>{escape(each.step.does)}{again}</td>"
    cells = f"{step}<td class='n'>{pause}</td><td class='once'>{escape(serves)}</td>"
    return f'<tr class="{kind}">{cells}<td class="n">{lost}</td><td>{told}</td></tr>'


def _doubles(result: Result) -> str:
    if not result.doubles:
        return ""
    rows = []
    for each in result.doubles:
        outcome = each.outcomes[0]
        kind = "bad" if outcome.lost or outcome.pause_s is None else ""
        words = "<br>".join(map(escape, text.verdict(outcome)))
        rows.append(f'<tr class="{kind}"><td>{escape(each.step.does)}</td><td>{words}</td></tr>')
    return f'<div class="wide"><table><tr><th>failures</th><th>what clients get</th></tr>{"".join(rows)}</table></div>'


def _simulator(found: Simulated) -> str:
    arbiter = "with an arbiter" if found.arbiter else "without an arbiter"
    broken = _list(map(escape, found.broken)) or "<p>No rule was broken.</p>"
    said = (
        f"{found.seeds} seeds in mode {found.replication} {arbiter}: {found.operations} operations in "
        f"{found.simulated_s / 3600:.1f} hours of virtual time, {found.seconds:.0f} s here."
    )
    modes = "".join(f"<th>{mode}</th>" for mode in Replication)
    head = f"<tr><th>failures</th><th>arbiter</th>{modes}</tr>"
    does = {double.name: double.does for double in DOUBLES}
    rows = []
    for name in does:
        for flag in (False, True):
            cells = []
            for cost in (each for each in found.costs if each.double == name and each.arbiter is flag):
                own = " own" if cost.replication is found.replication and flag is found.arbiter else ""
                cells.append(f'<td class="{_colour(cost.lossy, cost.doubtful, cost.served)}{own}">{_cell(cost)}</td>')
            rows.append(f"<tr><td>{escape(does[name])}</td><td>{'yes' if flag else 'no'}</td>{''.join(cells)}</tr>")
    note = "Framed: this site's settings. The other node is asked to serve, never by force."
    table = f'<div class="wide"><table class="heat">{head}{"".join(rows)}</table></div>'
    return f'<p>{said}</p>{broken}<h3>What two failures cost, by setting</h3>{table}<p class="caption">{note}</p>'


def _colour(lossy: int, doubtful: int, served: int) -> str:
    return "c-lost" if lossy else "c-doubt" if doubtful else "c-wait" if not served else "c-good"


def _cell(cost: Cost) -> str:
    runs, served = cost.runs, cost.served
    if cost.lossy:
        return f"flushed writes lost in {cost.lossy} of {runs}"
    if cost.doubtful:
        return f"unflushed writes lost in {cost.doubtful} of {runs}"
    if not served:
        return "does not serve"
    return "nothing lost" if served == runs else f"nothing lost; does not serve in {runs - served} of {runs}"


def _files(result: Result) -> Iterator[str]:
    for host, files in result.rehearsed.files.items():
        for name, content in files.items():
            said = f"{escape(result.rehearsed.labels[host])}: /etc/{name}"
            yield f"<details><summary>{said}</summary><pre>{escape(content)}</pre></details>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""
