"""A booted system beside packages that were built on the same release."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import booted

ROOT = Path(__file__).resolve().parents[2]
LOOPS = [f"/dev/loop{number}" for number in range(8)]


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[booted.System]:
    """A bare Debian of `request.param`, /dist with the packages; the tests of a module are one story."""
    if reason := booted.missing():
        pytest.skip(reason)
    packages = booted.packages(request.param, ROOT)
    loops = [path for path in LOOPS if Path(path).exists()]
    with booted.System(request.param, "hast1", [f"{packages}:/dist", *loops]) as running:
        yield running
