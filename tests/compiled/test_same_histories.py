"""The compiled build decides as its sources do: the simulator writes the same log over it, line for line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "compiled"
SEEDS = (3, 14, 881036, 5000019, 1200009820)

pytestmark = pytest.mark.skipif(not (BUILT / ".stamp").exists(), reason="not built: make compiled")


def run(source: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-P", *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


def test_the_build_is_what_runs_and_says_so() -> None:
    told = "from hast.replication import writes; from hast.cli.version import line; print(writes.__file__, line('x'))"
    where, _program, version, word = run(BUILT, "-c", told).split()
    assert where.endswith(".so")
    assert (version[:1].isdigit(), word) == (True, "compiled")
    assert "compiled" not in run(ROOT / "src", "-c", "from hast.cli.version import line; print(line('x'))")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulator_writes_the_same_log_over_both(seed: int) -> None:
    argv = ("-m", "hast.sim", "--seed", str(seed))
    assert run(BUILT, *argv) == run(ROOT / "src", *argv)
