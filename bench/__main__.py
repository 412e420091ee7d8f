"""`python -m bench`: our pair and others, in turns on one machine.

Without --contestant the whole matrix (bench/matrix.py), in about a quarter of an hour, or with --record all of it. With
--contestant a comparison of those: medians over the rounds, and the first one's ratios to the others.
All have their copies in files on this machine and are driven by the same fio jobs over a Unix socket. Not root, no
kernel device: what is measured is the way of a request through the daemons.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path

from bench.contestants import NAMES, maker
from bench.jobs import JOBS, Job
from bench.machine import REPOSITORY, describe
from bench.matrix import DAILY, RECORD, TRIAL
from bench.measure import Figures, as_json, contest
from bench.ratios import ratio
from bench.record import measure_all
from bench.report import dumps, text
from hast.lab.processes import LabError

OUTPUT = REPOSITORY / "build" / "bench.json"


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--record", action="store_true", help="all of the matrix, at length")
    length.add_argument("--trial", action="store_true", help="all of it once and short: does it run?")
    parser.add_argument("--contestant", action="append", help=f"{', '.join(NAMES)}, hast=FOLDER; may be repeated")
    parser.add_argument("--only", action="append", help="with --contestant: job name; may be repeated")
    parser.add_argument("--all", action="store_true", help="with --contestant: every job; else those that say most")
    parser.add_argument("--rounds", type=int, default=3, help="with --contestant")
    parser.add_argument("--seconds", type=int, default=4, help="with --contestant: length of one job")
    parser.add_argument("--json", metavar="FILE", type=Path, default=OUTPUT, help="where all figures go")
    options = parser.parse_args()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = compare(options) if options.contestant else whole(options)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _write(options.json, found)
    print(f"\nall figures: {options.json}")
    return 0


def whole(options: argparse.Namespace) -> dict[str, object]:
    """The matrix. Raises LabError."""
    length = RECORD if options.record else TRIAL if options.trial else DAILY
    record = measure_all(length, partial(print, flush=True), lambda record: _write(options.json, record))
    print("\n" + text(record))
    return record


def _write(path: Path, found: dict[str, object]) -> None:
    path.write_text(dumps(found))


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Those that were named. Raises LabError."""
    jobs = [job for job in JOBS if (job.name in options.only if options.only else job.quick or options.all)]
    figures = contest([maker(name) for name in options.contestant], jobs, options.rounds, options.seconds)
    print_comparison(figures, options.contestant, jobs)
    return {"machine": describe(), "figures": as_json(figures)}


def print_comparison(figures: Figures, names: list[str], jobs: list[Job]) -> None:
    """Print the medians, and of the first contestant's ratios to each other one, round by round, the median."""
    others = names[1:]
    letters = [chr(ord("A") + place) for place in range(len(names))]
    print("\n" + "\n".join(f"{letter}: {name}" for letter, name in zip(letters, names, strict=True)))
    heads = "".join(f"{'A / ' + letter:>10}" for letter in letters[1:])
    print(f"{'medians':<24}" + "".join(f"{letter:>12}" for letter in letters) + f"{'':>8}{heads}")
    for job in jobs:
        series = [figures[name][job.name] for name in names]
        ratios = "".join(f"{ratio(series[0].value, figures[name][job.name].value):>10.2f}" for name in others)
        _row(job.name, [each.value for each in series], f"{job.unit:>8}{ratios}")
        _row("  p99", [each.p99_us for each in series], f"{'us':>8}")
        _row("  processor", [each.cpu_us for each in series], f"{'us each':>8}", places=1)


def _row(name: str, series: list[list[float]], end: str, places: int = 0) -> None:
    print(f"{name:<24}" + "".join(f"{statistics.median(each):>12.{places}f}" for each in series) + end)


if __name__ == "__main__":
    sys.exit(main())
