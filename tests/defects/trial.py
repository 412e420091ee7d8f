"""One process, one copy of src/: the simulator's default runs until one of them fails.

`python trial.py SEEDS [FIRST]`, with PYTHONPATH at the copy; prints one line of JSON: how many runs, and what the last
one complained of ("" when all was well).
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from hast.format.constants import OUR_FEATURES, Feature, Replication
from hast.sim.chaos import chaos_run
from hast.sim.random_run import random_run

RUN_S = 120
"""The longest that one run may take: a defect may also hang."""

Trial = tuple[str, Callable[[], list[str]]]


class Hangs(Exception):
    """A run took longer than RUN_S."""


def trials(first: int, seeds: int) -> Iterator[Trial]:
    """The runs of `make sim`, in its order."""
    for seed, mode in itertools.product(range(first, first + seeds), Replication):
        yield f"plain {mode} {seed}", lambda s=seed, m=mode: random_run(s, m, OUR_FEATURES)[0]
        yield f"chaos {mode} {seed}", lambda s=seed, m=mode: chaos_run(s, m, OUR_FEATURES)[0]
        yield f"reference {mode} {seed}", lambda s=seed, m=mode: random_run(s, m, Feature.NONE)[0]


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise Hangs


def complaint(run: Callable[[], list[str]]) -> str:
    """What is wrong with a run, in one clause."""
    signal.alarm(RUN_S)
    try:
        wrong = run()
        return wrong[0] if wrong else ""
    except Hangs:
        return "hangs"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {error}"
    finally:
        signal.alarm(0)


def main() -> None:
    seeds, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    signal.signal(signal.SIGALRM, _alarm)
    runs = 0
    for name, run in trials(first, seeds):
        runs += 1
        if wrong := complaint(run):
            print(json.dumps({"runs": runs, "wrong": f"{name}: {wrong}"}))
            return
    print(json.dumps({"runs": runs, "wrong": ""}))


if __name__ == "__main__":
    main()
