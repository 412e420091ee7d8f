"""A booted system beside packages that were built on the same release."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import booted

ROOT = Path(__file__).resolve().parents[2]
LOOPS = [f"/dev/loop{number}" for number in range(8)]


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.System]:
    """A bare Debian of `request.param`, /dist with the packages; the tests of a module are one story."""
    if reason := booted.missing():
        pytest.skip(reason)
    packages = booted.packages(request.param, ROOT, tmp_path_factory.mktemp("packages"))
    loops = [path for path in LOOPS if Path(path).exists()]
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
