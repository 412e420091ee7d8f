"""Feeds seeded hostile inputs to the targets and says what came of it: `make fuzz`.

Every input is known by target, seed and number: `run.py nbd --seed 5 --only 1234` feeds that one again, after those
before it where what they leave behind matters (`--from`).
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from mutate import mutated
from targets import TARGETS

MAX_FAILURES = 5
WARM_UP = 2000
"""Inputs after which memory is looked at first: caches are filled by then."""


class Outcome(NamedTuple):
    inputs: int
    failures: int
    slowest_s: float
    grown_kib: int


def campaign(name: str, seed: int, first: int, count: int) -> Outcome:
    """Ends early after MAX_FAILURES."""
    target = TARGETS[name]()
    corpus = target.corpus
    fed, failures, slowest_s, before = 0, 0, 0.0, 0
    try:
        for number in range(first, first + count):
            rng = random.Random(f"{name} {seed} {number}")
            data = mutated(rng, corpus)
            fed += 1
            began = time.perf_counter()
            try:
                target.feed(data, rng)
            except Exception:
                failures += 1
                print(f"{name} --seed {seed} --from {number}: {data.hex()}\n{traceback.format_exc()}", flush=True)
                target = TARGETS[name]()
                if failures == MAX_FAILURES:
                    break
            slowest_s = max(slowest_s, time.perf_counter() - began)
            if number == first + WARM_UP:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    finally:
        target.close()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before if before else 0
    return Outcome(fed, failures, slowest_s, grown_kib)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    for name in options.targets or TARGETS:
        began = time.perf_counter()
        if name == "lzf" and importlib.util.find_spec("lzf") is None:
            print("lzf: not run, python-lzf is not installed")
            continue
        done = campaign(name, options.seed, options.first, options.inputs)
        rate = done.inputs / (time.perf_counter() - began)
        print(
            f"{name}: {done.inputs} inputs, {done.failures} failures, {rate:.0f}/s, "
            f"slowest {done.slowest_s * 1000:.1f} ms, memory +{done.grown_kib} KiB",
            flush=True,
        )
        failed += done.failures
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
