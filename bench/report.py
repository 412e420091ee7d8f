"""The record as tables and plots; `python -m bench.report` writes them into docs/.

    python -m bench.report [RECORD [DIRECTORY]]

docs/performance.md keeps its own words; what stands between the two marks is made of docs/performance/record.json.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.asked import INTERPRETERS, WISHES, Record
from bench.contestants import MEANING
from bench.machine import REPOSITORY
from bench.matrix import LARGE, NEAREST, WRITES
from bench.plots import lines
from bench.ratios import ratio

DOCS = REPOSITORY / "docs"
RECORD = DOCS / "performance" / "record.json"
BEGIN = "<!-- The record: made by `make bench-report`; do not edit. -->"
END = "<!-- End of the record. -->"
BUSY_SHARE = 0.1
"""Of the processors' time; from there on other work is told."""
UNITS = dict.fromkeys(LARGE, "MiB/s")
PLOTTED = ("debian-compiled", "debian", "compiled", "hast", "floor", "quorum", "single")
SIZES = {"4 KiB": "4k randwrite QD32", "128 KiB": LARGE[0], "1 MiB": LARGE[1]}


def text(record: Record) -> str:
    """All of it, in Markdown."""
    parts = [*_head(record), "", *_asked(record)]
    for name, words in SECTIONS.items():
        if name in record["sections"]:
            parts += ["", f"### {words}", "", *_section(record, name)]
    if record["events"]:
        parts += ["", "### Copying, joining, doing nothing", "", *_events(record)]
    if record["left_out"]:
        parts += ["", "Left out: " + "; ".join(record["left_out"]) + "."]
    return "\n".join(parts) + "\n"


SECTIONS = {
    "main": "Ours and others",
    "modes": "Modes, over a cable of 1 ms round trip",
    "slow disks": "Modes, over that cable, on disks that take 1 ms for a write",
    "disks": "Files past the page cache, as disks are used, all on the same device",
    "options": "Options, half of each block compressible",
    "three": "Three resources at once, sums",
    "size": "A small disk and a large one",
}


def _head(record: Record) -> Iterator[str]:
    machine, length = record["machine"], record["length"]
    changed = ", with changes" if machine["changed"] else ""
    yield (
        f"Commit {machine['commit'][:10]}{changed}, {machine['time'][:10]}: {machine['processors']} processors "
        f"({machine['processor']}), Linux {machine['kernel']}, Python {machine['python']}. "
        f"{length['rounds']} rounds of {length['seconds']} s in turns, {record['minutes']} minutes. "
        "Figures are medians over the rounds, ratios the medians of the rounds' ratios."
    )
    if _is_busy(record):
        yield ""
        middle, most = (100 * of(record["others"]) for of in (statistics.median, max))
        took = f"{middle:.0f} % of the processors, at most {most:.0f} %"
        yield f"**Other work took {took}: these figures, ratios among them, say little.**"
    yield ""
    yield "; ".join(f"{name.replace('_', ' ')}: {said}" for name, said in record["versions"].items() if said) + "."


def _is_busy(record: Record) -> bool:
    return any(share > BUSY_SHARE for share in record["others"])


def _asked(record: Record) -> Iterator[str]:
    rows = []
    for wish in WISHES:
        measured, verdict = wish.judge(record)
        rows.append(
            (wish.words, wish.asked, measured, "machine busy" if _is_busy(record) else verdict, wish.aside(record))
        )
    yield from table(("", "asked", "measured", "", "on the checkout's interpreter"), rows)
    yield ""
    yield f"{INTERPRETERS} Modes, options, copies and the idle pair are measured on `{record['best']}`."


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _section(record: Record, section: str) -> Iterator[str]:
    found = record["sections"][section]
    jobs = list(next(iter(found.values())))
    if section == "main":
        yield from (f"- {name}: {MEANING[name]}" for name in found)
        yield ""
    yield from _rows(
        found, jobs, lambda series: _middle(series["value"]), lambda job: f"{job}, {UNITS.get(job, 'IOPS')}"
    )
    pairs = [(ours, theirs) for ours, theirs in RATIOS[section] if ours in found and theirs in found]
    if pairs:
        yield ""
        yield from table(
            ["ratio", *(f"{ours} / {theirs}" for ours, theirs in pairs)],
            [(job, *(f"{_ratio(found, job, pair):.2f}" for pair in pairs)) for job in jobs],
        )
    yield from ("", "What the client waited for, p50 / p99 / p99.9 in µs:", "")
    yield from _rows(found, jobs, _waited)
    yield from (
        "",
        "Processor time of all processes for an operation in µs, and system calls where counted:",
        "",
    )
    yield from _rows(found, jobs, _taken)


def with_unit(job: str) -> str:
    return f"{job}, {UNITS.get(job, 'IOPS')}"


def _rows(
    found: Mapping[str, Any],
    jobs: Sequence[str],
    show: Callable[[Mapping[str, list[float]]], str],
    head: Callable[[str], str] = str,
) -> Iterator[str]:
    """A row for each job, a column for each contestant."""
    yield from table(["", *found], [(head(job), *(show(each[job]) for each in found.values())) for job in jobs])


def _ratio(found: Mapping[str, Any], job: str, pair: tuple[str, str]) -> float:
    return ratio(*(found[name][job]["value"] for name in pair))


def _waited(series: Mapping[str, list[float]]) -> str:
    return " / ".join(_middle(series[each]) for each in ("p50_us", "p99_us", "p999_us"))


MODES = (("memsync", "fullsync"), ("async", "fullsync"))
RATIOS: Mapping[str, Sequence[tuple[str, str]]] = {
    "main": [
        *((ours, other) for ours in NEAREST for other in ("floor", "single")),
        ("debian-compiled", "quorum"),
        ("debian-compiled", "debian"),
        ("compiled", "hast"),
        ("floor", "single"),
    ],
    "size": [("8 TiB", "1 GiB")],
    "modes": MODES,
    "slow disks": MODES,
    "disks": [("ours", "one copy past the cache"), ("ours", "quorum past the cache")],
    "options": [
        (name, "none of them")
        for name in ("checksum crc32", "checksum sha256", "compression none", "compression lzf", "TLS")
    ],
    "three": [(f"{ours} x3", other) for ours in NEAREST for other in (ours, "floor x3", "single x3")],
}


def _events(record: Record) -> Iterator[str]:
    rows = [
        (f"{EVENTS.get(name, name)}: {FIGURES.get(figure, figure)}", _middle(values), " ".join(map(_plain, values)))
        for name, figures in record["events"].items()
        for figure, values in figures.items()
    ]
    yield from table(("", "median", "rounds"), rows)


EVENTS = {
    "resync": "copy to a new disk",
    "resync with 1 ms": "the same with 1 ms round trip",
    "join": "8 TiB",
    "join past the cache": "8 TiB past the page cache",
}
FIGURES = {
    "sequential": "sequential writes before it, never flushed, MiB/s",
    "durable": "the same, flushed each 12 MiB as a copy is, MiB/s",
    "alone": "the copy alone, MiB/s",
    "loaded": "the copy under a client at depth 1, MiB/s",
    "idle_p99_us": "that client's p99 before it, µs",
    "loaded_p99_us": "its p99 meanwhile, µs",
    "loaded_longest_us": "its longest wait, µs",
    "covered": "share of its time that the copy lasted",
    "idle_longest_us": "longest wait of a client while nobody joins, µs",
    "longest_us": "longest wait while a new disk joins, µs",
    "worker": "wake-ups a second of the busiest worker",
    "other": "of the busiest other process",
}


def _middle(values: Sequence[float]) -> str:
    return _plain(statistics.median(values)) if values else "-"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _taken(series: Mapping[str, list[float]]) -> str:
    calls = f", {statistics.median(series['system_calls']):.2f}" if series["system_calls"] else ""
    return f"{statistics.median(series['cpu_us']):.1f}{calls}"


# --- plots ------------------------------------------------------------------------------------------------------------


def plots(record: Record) -> dict[str, str]:
    """By file name; those that the record has figures for."""
    main = record["sections"].get("main", {})
    found: dict[str, str] = {}
    for name, title, figure, logarithmic in (
        ("depth.svg", "4 KiB random writes a second, by queue depth", "value", False),
        ("latency.svg", "p99 of 4 KiB random writes in µs, by queue depth", "p99_us", True),
    ):
        drawn = {ours: _over(main[ours], WRITES, figure) for ours in PLOTTED if ours in main}
        if any(value is not None for each in drawn.values() for value in each):
            found[name] = lines(title, [job.rpartition("QD")[2] for job in WRITES], drawn, logarithmic)
    if "single" in main:
        drawn = {ours: _shares(main[ours], main["single"]) for ours in PLOTTED if ours in main and ours != "single"}
        if drawn:
            found["size.svg"] = lines("Throughput of writes by size / one copy", list(SIZES), drawn)
    return found


def _over(jobs: Mapping[str, Any], names: Sequence[str], figure: str) -> list[float | None]:
    return [statistics.median(jobs[name][figure]) if name in jobs else None for name in names]


def _shares(ours: Mapping[str, Any], single: Mapping[str, Any]) -> list[float | None]:
    return [ratio(ours[job]["value"], single[job]["value"]) if job in ours else None for job in SIZES.values()]


# --- files ------------------------------------------------------------------------------------------------------------


def put(page: str, record: Record) -> str:
    """The page with this record between its marks. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the record")
    shown = "\n".join(f"![{_title(svg)}](performance/{name})\n" for name, svg in plots(record).items())
    return f"{before}{BEGIN}\n{text(record)}\n{shown}\n{END}{after}"


def _title(svg: str) -> str:
    return svg.partition("<title>")[2].partition("</title>")[0]


def dumps(record: Record) -> str:
    """JSON with a series to a line."""
    flat: Callable[[re.Match[str]], str] = lambda found: " ".join(found[0].split())  # noqa: E731
    return re.sub(r"\[[^\[\]{}]*\]", flat, json.dumps(record, indent=1, ensure_ascii=False)) + "\n"


def main() -> int:
    """The command line."""
    record_path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD
    directory = Path(sys.argv[2]) if len(sys.argv) > 2 else DOCS
    try:
        record = json.loads(record_path.read_text())
    except (OSError, ValueError) as error:
        print(f"bench-report: {record_path}: {error}", file=sys.stderr)
        return 1
    page = directory / "performance.md"
    page.write_text(put(page.read_text(), record))
    for name, svg in plots(record).items():
        (directory / "performance" / name).write_text(svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
