"""A booted system beside packages that were built on the same release."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import booted

ROOT = Path(__file__).resolve().parents[2]
LOOPS = 64
"""Loop devices are the whole machine's: the next free one may have any number, and its node must be inside before."""


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.System]:
    """A bare Debian of `request.param`, /dist with the packages; the tests of a module are one story."""
    if reason := booted.missing():
        pytest.skip(reason)
    packages = booted.packages(request.param, ROOT, tmp_path_factory.mktemp("packages"))
    nodes = tmp_path_factory.mktemp("nodes")
    for number in range(LOOPS):
        os.mknod(nodes / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(7, number))
    loops = [f"{node}:/dev/{node.name}" for node in sorted(nodes.iterdir())]
    with booted.System(request.param, "hast1", [f"{packages}:/dist", *loops]) as running:
        yield running


_pauses: list[tuple[str, float]] = []


@pytest.fixture
def record_pause() -> Callable[[str, float], None]:
    """Note how long a story's client was cut off; listed at the end of the run."""
    return lambda name, pause_s: _pauses.append((name, pause_s))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _pauses:
        terminalreporter.section("longest time between two acknowledged records")
        for name, pause_s in _pauses:
            terminalreporter.write_line(f"{pause_s:6.2f} s  {name}")
