"""`python -m hast.sim [--seeds N] [--from K] [--mode MODE|all]`: disasters by the thousand; failing seeds are named."""

from __future__ import annotations

import argparse
import sys
import time

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim.disasters import DISASTERS
from hast.sim.random_run import random_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hast.sim", description="Simulated disasters on the real engine.")
    parser.add_argument("--seeds", type=int, default=200, help="runs of each mode")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--mode", choices=[*map(str, Replication), "all"], default="all")
    parser.add_argument("--reference-peer", action="store_true", help="without our extensions to the protocol")
    parser.add_argument("--only", choices=[disaster.__name__ for disaster in DISASTERS], nargs="+")
    parser.add_argument("--log", action="store_true", help="print what happened in every run")
    options = parser.parse_args()
    features = Feature.NONE if options.reference_peer else OUR_FEATURES
    modes = list(Replication) if options.mode == "all" else [Replication(options.mode)]
    disasters = [d for d in DISASTERS if options.only is None or d.__name__ in options.only]
    failed = runs = 0
    began = time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        for mode in modes:
            wrong, run = random_run(seed, mode, features, disasters=disasters)
            runs += 1
            if options.log:
                print("\n".join(run.world.log))
            if wrong:
                failed += 1
                print(f"{mode} seed {seed}: " + "; ".join(wrong[:3]), flush=True)
    seconds = time.monotonic() - began
    print(f"{runs} runs, {failed} failed, {seconds:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
