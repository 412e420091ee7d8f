"""`python -m hast.sim [--seeds N] [--from K] [--mode MODE|all]`: disasters by the thousand; failing seeds are named."""

from __future__ import annotations

import argparse
import sys
import time

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim.chaos import chaos_run
from hast.sim.disasters import DISASTERS
from hast.sim.random_run import random_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hast.sim", description="Simulated disasters on the real engine.")
    parser.add_argument("--seeds", type=int, default=200, help="runs of each mode")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--mode", choices=[*map(str, Replication), "all"], default="all")
    parser.add_argument("--reference-peer", action="store_true", help="without our extensions to the protocol")
    parser.add_argument("--only", choices=[disaster.__name__ for disaster in DISASTERS], nargs="+")
    parser.add_argument("--chaos", action="store_true", help="failures upon failures instead, one node serving")
    parser.add_argument("--log", action="store_true", help="print what happened in every run")
    options = parser.parse_args()
    features = Feature.NONE if options.reference_peer else OUR_FEATURES
    modes = list(Replication) if options.mode == "all" else [Replication(options.mode)]
    disasters = [d for d in DISASTERS if options.only is None or d.__name__ in options.only]
    tally = Tally()
    began = time.monotonic()
    try:
        for seed in range(options.first, options.first + options.seeds):
            for mode in modes:
                if options.chaos:
                    wrong, run = chaos_run(seed, mode, features)
                else:
                    wrong, run = random_run(seed, mode, features, disasters=disasters)
                if options.log:
                    print("\n".join(run.world.log))
                tally.count(f"{mode} seed {seed}", wrong)
    except KeyboardInterrupt:
        print(f"interrupted at seed {seed}")
    print(f"{tally.runs} runs, {tally.failed} failed, {time.monotonic() - began:.1f} s")
    return 1 if tally.failed else 0


class Tally:
    """Runs so far; those that failed are printed."""

    def __init__(self) -> None:
        self.runs = self.failed = 0

    def count(self, name: str, wrong: list[str]) -> None:
        self.runs += 1
        if wrong:
            self.failed += 1
            print(f"{name}: " + "; ".join(wrong[:3]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
