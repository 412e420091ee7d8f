"""`python -m bench`: our pair against qemu-storage-daemon's quorum of a file and an NBD replica, in turns.

Both have two copies in files on this machine and are driven by the same fio jobs over a Unix socket. Within each round
every job runs once on every contestant; medians over the rounds are printed, with ours divided by theirs. Not root,
no kernel device: what is measured is the way of a write through the daemons.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from bench.contestants import (
    hast_from,
    hast_pair,
    hast_pair_with_tls,
    nbdkit_single,
    qemu_quorum,
    qemu_quorum_unix,
)
from bench.jobs import JOBS, Job
from bench.machine import describe
from bench.measure import Figures, as_json, contest
from hast.lab.processes import LabError


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="length of one job")
    parser.add_argument("--only", action="append", help="job name; may be repeated")
    parser.add_argument("--all", action="store_true", help="every job; without, those that say most")
    parser.add_argument(
        "--contestant",
        action="append",
        help="hast, hast=FOLDER (the package that lies there), hast-tls, quorum, quorum-unix, single; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there, with the machine and the commit")
    options = parser.parse_args()
    makers = {
        "hast": hast_pair,
        "hast-tls": hast_pair_with_tls,
        "quorum": qemu_quorum,
        "quorum-unix": qemu_quorum_unix,
        "single": nbdkit_single,
    }
    names = options.contestant or ["hast", "quorum"]
    if unknown := [name for name in names if name not in makers and not name.startswith("hast=")]:
        parser.error(f"no such contestant: {', '.join(unknown)}")
    jobs = [job for job in JOBS if (job.name in options.only if options.only else job.quick or options.all)]
    try:
        chosen = [hast_from(name) if name.startswith("hast=") else makers[name] for name in names]
        figures = contest(chosen, jobs, options.rounds, options.seconds)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    report(figures, names, jobs)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": describe(), "figures": as_json(figures)}, indent=1))
    return 0


def report(figures: Figures, names: list[str], jobs: list[Job]) -> None:
    """Print the medians, and of the first contestant's ratios to each other one, round by round, the median."""
    others = names[1:]
    letters = [chr(ord("A") + place) for place in range(len(names))]
    print("\n" + "\n".join(f"{letter}: {name}" for letter, name in zip(letters, names, strict=True)))
    heads = "".join(f"{'A / ' + letter:>10}" for letter in letters[1:])
    print(f"{'medians':<20}" + "".join(f"{letter:>12}" for letter in letters) + f"{'':>8}{heads}")
    for job in jobs:
        series = [figures[name][job.name] for name in names]
        ratios = "".join(f"{_ratio(series[0].value, figures[name][job.name].value):>10.2f}" for name in others)
        _row(job.name, [each.value for each in series], f"{job.unit:>8}{ratios}")
        _row("  p99", [each.p99_us for each in series], f"{'us':>8}")
        _row("  processor", [each.cpu_us for each in series], f"{'us each':>8}", places=1)


def _row(name: str, series: list[list[float]], end: str, places: int = 0) -> None:
    print(f"{name:<20}" + "".join(f"{statistics.median(each):>12.{places}f}" for each in series) + end)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Runs that followed each other are compared: the machine's speed drifts."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True) if b)


if __name__ == "__main__":
    sys.exit(main())
