"""`make sim-defects`: each seeded defect in a copy of src/, the simulator's default runs on it, and what noticed it.

DEFECTS=id,id... takes only these (an id may be the beginning of several), SEEDS=n gives each of them n runs, SEED_START
says from which on. A run that complains of the code as it is would prove nothing: such seeds are found first and left
out. With --unit the unit tests of the engine are run instead. Exits 1 when less than 95 % are noticed of those that
can be told from the right code.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from catalogue import Defect, load

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
DEFAULT_SEEDS = 4000
ENOUGH = 0.95
LONGEST_S = 3600
UNIT_TESTS = (
    "tests/replication",
    "tests/election/test_arbiter.py",
    "tests/failover/test_witness_state.py",
    "tests/supervisor/decisions/test_departure.py",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`noticed`: by which check, in one clause, or empty. `runs`: how many it took, or how many there were."""

    defect: Defect
    runs: int
    noticed: str

    def __str__(self) -> str:
        defect = self.defect
        if self.noticed:
            verdict = f"run {self.runs:4}: {self.noticed}"
        elif defect.equivalent:
            verdict = f"equivalent: {defect.equivalent}"
        else:
            verdict = f"SURVIVED {self.runs} runs: {defect.what}"
        return f"{defect.name:52} {defect.rule:4} {verdict}"[:200]


@contextlib.contextmanager
def changed_copy(defect: Defect) -> Iterator[Path]:
    """A copy of src/ with the defect in it."""
    with tempfile.TemporaryDirectory(prefix="hast-defect-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(REPOSITORY / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        defect.apply(source / "hast")
        yield source


@dataclass(frozen=True, slots=True)
class Seeds:
    """`count` seeds from `first` on, without those in `skip`."""

    first: int
    count: int
    skip: frozenset[int] = frozenset()

    def arguments(self) -> list[str]:
        return [str(HERE / "trial.py"), str(self.first), str(self.count), "--skip", ",".join(map(str, self.skip))]


def already_wrong(seeds: Seeds, pool: ThreadPoolExecutor) -> dict[int, str]:
    """The seeds that complain of the code as it is, and of what."""
    cores = os.cpu_count() or 1

    def share(core: int) -> list[tuple[int, int, str]]:
        with changed_copy(Defect("unchanged")) as source:
            part = Seeds(seeds.first + core, seeds.count - core)
            done = _python(source, [*part.arguments(), "--all", "--every", str(cores)])
        if done.returncode:
            raise SystemExit(f"the simulator does not run on the code as it is: {_last_line(done.stderr)}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return {seed: wrong for lines in pool.map(share, range(cores)) for seed, _runs, wrong in lines if wrong}


def simulated(defect: Defect, seeds: Seeds) -> Outcome:
    """What the simulator says of it."""
    with changed_copy(defect) as source:
        done = _python(source, seeds.arguments())
    if done.returncode:
        return Outcome(defect, 1, f"does not run: {_last_line(done.stderr)}")
    seed, runs, wrong = json.loads(_last_line(done.stdout))
    return Outcome(defect, runs, f"seed {seed}: {wrong}" if wrong else "")


def unit_tested(defect: Defect) -> Outcome:
    """What the unit tests say of it."""
    with changed_copy(defect) as source:
        options = [
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--no-header",
            "-rfE",
        ]
        done = _python(source, ["-m", "pytest", *options, *UNIT_TESTS])
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return Outcome(defect, 1, (failed or [_last_line(done.stdout)])[0] if done.returncode else "")


def _python(source: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=LONGEST_S
    )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def main() -> int:
    environ = os.environ
    parser = argparse.ArgumentParser(prog="make sim-defects", description=__doc__)
    parser.add_argument("--seeds", type=int, default=int(environ.get("SEEDS") or DEFAULT_SEEDS))
    parser.add_argument("--from", type=int, default=int(environ.get("SEED_START") or 0), dest="first")
    parser.add_argument("--defects", default=environ.get("DEFECTS", ""), help="ids, or their beginnings, by commas")
    parser.add_argument("--unit", action="store_true", help="run the unit tests of the engine, not the simulator")
    options = parser.parse_args()
    chosen = tuple(filter(None, options.defects.split(",")))
    defects = [d for d in load() if (d.name.startswith(chosen) if chosen else True) and (options.unit or not d.unit)]
    seeds = Seeds(options.first, options.seeds)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if not options.unit:
            wrong = already_wrong(seeds, pool)
            for seed, text in sorted(wrong.items()):
                print(f"left out, wrong without any defect: seed {seed}: {text}", flush=True)
            seeds = Seeds(seeds.first, seeds.count, frozenset(wrong))

        def judge(defect: Defect) -> Outcome:
            outcome = unit_tested(defect) if options.unit else simulated(defect, seeds)
            print(outcome, flush=True)
            return outcome

        outcomes = list(pool.map(judge, defects))
    return _summary(outcomes)


def _summary(outcomes: list[Outcome]) -> int:
    survivors = [o for o in outcomes if not o.noticed and not o.defect.equivalent]
    equivalent = [o for o in outcomes if not o.noticed and o.defect.equivalent]
    counted = len(outcomes) - len(equivalent)
    share = 1 - len(survivors) / counted if counted else 1.0
    print(f"\n{counted - len(survivors)} of {counted} noticed ({share:.1%}); {len(equivalent)} equivalent.")
    for outcome in survivors:
        print(f"  survived: {outcome.defect.name}")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
