"""One process, one copy of src/: the simulator's default runs until one of them complains.

`python trial.py FIRST SEEDS [--every N] [--skip SEED,...] [--all]`, with PYTHONPATH at the copy. Prints a line of JSON
for the run that complained, [seed, runs so far, what it complained of] (with --all for each that did), and at the end
one without seed: [null, runs, ""].
"""

from __future__ import annotations

import argparse
import json
import signal
import traceback
from types import FrameType

from hast.sim.families import draw
from hast.sim.run import execute

RUN_S = 60
"""The longest that one run may take: a defect may also hang."""


class Hangs(BaseException):
    """A run took longer than RUN_S."""


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise Hangs


def complaint(seed: int) -> str:
    """What is wrong with the run of this seed, in one clause; empty when all is well."""
    signal.alarm(RUN_S)
    try:
        schedule = draw(seed)
        wrong = execute(schedule).wrong
        return wrong[0].partition(": ")[2] or wrong[0] if wrong else ""
    except Hangs:
        return "hangs"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {error}"
    finally:
        signal.alarm(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("seeds", type=int)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--skip", default="")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    skip = {int(seed) for seed in options.skip.split(",") if seed}
    signal.signal(signal.SIGALRM, _alarm)
    runs = 0
    for seed in range(options.first, options.first + options.seeds, options.every):
        if seed in skip:
            continue
        runs += 1
        if wrong := complaint(seed):
            print(json.dumps([seed, runs, wrong]), flush=True)
            if not options.all:
                return
    print(json.dumps([None, runs, ""]))


if __name__ == "__main__":
    main()
