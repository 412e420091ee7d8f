"""`python -m hast.sim [--seeds N] [--from K] [--mode MODE]`: disasters by the thousand; failing seeds are printed."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim.scenario import random_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hast.sim", description="Simulated disasters on the real engine.")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--mode", choices=[str(mode) for mode in Replication], default="fullsync")
    parser.add_argument("--reference-peer", action="store_true", help="without our extensions to the protocol")
    parser.add_argument("--log", action="store_true", help="print what happened in every run")
    options = parser.parse_args()
    features = Feature.NONE if options.reference_peer else OUR_FEATURES
    failed = 0
    began = time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        log: list[str] = []
        try:
            wrong, run = random_run(seed, Replication(options.mode), features)
            log = run.world.log
        except AssertionError as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            wrong = [f"assertion at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {error}"]
        if options.log:
            print("\n".join(log))
        if wrong:
            failed += 1
            print(f"seed {seed}: " + "; ".join(wrong[:3]))
    seconds = time.monotonic() - began
    print(f"{options.seeds} runs, {failed} failed, {seconds:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
