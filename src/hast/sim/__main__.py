"""`python -m hast.sim`: disasters by the thousand. Failing seeds are named, repeated, and their schedules shortened."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hast.format.constants import Replication
from hast.sim.campaign import Job, Outcome, campaign, cores, timed
from hast.sim.families import Family, draw
from hast.sim.minimise import Minimiser
from hast.sim.run import execute
from hast.sim.schedule import Schedule

SEEDS = 4000


def main(arguments: list[str] | None = None) -> int:
    """0 when every run went well, 1 when one failed, 2 when the question makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m hast.sim", description="Simulated disasters on the real engine.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many runs ({SEEDS})")
    parser.add_argument("--start", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="this run alone, with its log")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="a kept schedule instead of a seed")
    parser.add_argument("--family", type=Family, choices=list(Family), help="not as the seed has it")
    parser.add_argument("--mode", type=Replication, choices=list(Replication), help="not as the seed has it")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes at once (all cores)")
    parser.add_argument("--stop-after", type=int, default=0, metavar="N", help="end at the N-th failing run")
    parser.add_argument("--minimise", action="store_true", help="shorten the schedule of --seed or --schedule")
    options = parser.parse_args(arguments)
    if options.seed is None and options.schedule is None:
        if options.minimise:
            parser.error("--minimise needs --seed or --schedule")
        return _many(options)
    if options.schedule is not None:
        try:
            schedule = Schedule.load(options.schedule)
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{options.schedule} is no schedule: {error}")
    else:
        schedule = draw(options.seed, options.family, options.mode)
    return _minimise(schedule) if options.minimise else _one(schedule)


def _many(options: argparse.Namespace) -> int:
    jobs = [Job(seed, options.family, options.mode) for seed in range(options.start, options.start + options.seeds)]
    override = "".join(
        f" --{name} {value}" for name, value in (("family", options.family), ("mode", options.mode)) if value
    )

    def tell(outcome: Outcome) -> None:
        print(f"seed {outcome.seed} ({outcome.what}): {outcome.wrong[0]}")
        print(f"  repeat: {sys.executable} -m hast.sim --seed {outcome.seed}{override}", flush=True)

    try:
        totals, seconds = timed(lambda: campaign(jobs, options.jobs, tell, options.stop_after))
    except KeyboardInterrupt:
        print("interrupted")
        return 1
    print(totals.summary(seconds))
    return 1 if totals.failed else 0


def _one(schedule: Schedule) -> int:
    result = execute(schedule)
    print("\n".join(result.log))
    print("\n".join(result.wrong) or "all is well")
    return 1 if result.wrong else 0


def _minimise(schedule: Schedule) -> int:
    def tell(shorter: Schedule, runs: int) -> None:
        print(f"{len(shorter.steps)} steps left after {runs} runs", file=sys.stderr)

    try:
        shortest = Minimiser(schedule, tell).minimise()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(execute(shortest).wrong), file=sys.stderr)
    print(shortest.to_json(), end="")
    return 1


if __name__ == "__main__":
    sys.exit(main())
