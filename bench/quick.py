"""`make bench-quick BASE=COMMIT`: is this tree faster or slower than that commit, beyond the noise of this machine?

Both run side by side, each job a few seconds on one and then on the other, several times. Without BASE the tree as it
lies here is compared with its last commit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.jobs import JOBS
from bench.machine import REPOSITORY, describe, git
from bench.measure import Figures, contest
from bench.pairs import Pair
from bench.verdict import compare
from hast.lab.processes import LabError

BEFORE, AFTER = "before", "after"
ROUNDS = 6
SECONDS = 2


def main() -> int:
    """Exit code 0, whatever moved: it is for people; 1 where nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="make bench-quick", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default="HEAD", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at least 6, or nothing can be told")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    options = parser.parse_args()
    commit = git("rev-parse", "--verify", "--quiet", f"{options.base}^{{commit}}")
    if not commit:
        print(f"bench-quick: no such commit: {options.base}", file=sys.stderr)
        return 1
    jobs = [job for job in JOBS if job.quick]
    with tempfile.TemporaryDirectory(prefix="hast-bench-base-") as directory:
        try:
            sources = {BEFORE: unpack(commit, Path(directory)), AFTER: REPOSITORY / "src"}
            makers = [Pair(name, source=source) for name, source in sources.items()]
            figures = contest(makers, jobs, options.rounds, options.seconds)
        except LabError as error:
            print(f"bench-quick: {error}", file=sys.stderr)
            return 1
    report(figures, commit)
    return 0


def unpack(commit: str, directory: Path) -> Path:
    """src/ of that commit. Raises LabError."""
    archive = directory / "base.tar"
    for command in (
        ["git", "archive", "-o", str(archive), commit, "src"],
        ["tar", "-xf", str(archive), "-C", str(directory)],
    ):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return directory / "src"


def report(figures: Figures, commit: str) -> None:
    """A line for each figure of each job: the ratio, and what to make of it."""
    machine = describe()
    print(f"\nthis tree ({str(machine['commit'])[:10]}{', changed' if machine['changed'] else ''}) / {commit[:10]}")
    print(f"{machine['processors']} x {machine['processor']}, load {machine['load']}, Python {machine['python']}")
    for job, old in figures[BEFORE].items():
        new = figures[AFTER][job]
        print(f"\n{job}")
        _line("throughput", old.value, new.value, more_is_better=True)
        _line("p99", old.p99_us, new.p99_us, more_is_better=False)
        _line("processor", old.cpu_us, new.cpu_us, more_is_better=False)


def _line(name: str, before: list[float], after: list[float], more_is_better: bool) -> None:
    verdict = compare(before, after)
    if not verdict.moved:
        said = "not beyond the noise"
    else:
        said = "better" if (verdict.ratio > 1) == more_is_better else "WORSE"
    print(f"  {name:<12} {verdict.ratio:>6.3f}   {said} (by chance: {100 * verdict.chance:.0f} %)")


if __name__ == "__main__":
    sys.exit(main())
