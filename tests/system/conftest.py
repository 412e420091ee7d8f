"""The packages, built once, and a booted system to install them in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import booted

ROOT = Path(__file__).resolve().parents[2]
LOOPS = [f"/dev/loop{number}" for number in range(8)]


@pytest.fixture(scope="session")
def packages() -> Path:
    """dist/ with freshly built packages."""
    if reason := booted.missing():
        pytest.skip(reason)
    subprocess.run(["make", "deb"], cwd=ROOT, check=True, timeout=600, capture_output=True)
    return ROOT / "dist"


@pytest.fixture(scope="module")
def system(packages: Path, request: pytest.FixtureRequest) -> Iterator[booted.System]:
    """A bare Debian of `request.param`, /dist with the packages; the tests of a module are one story."""
    loops = [path for path in LOOPS if Path(path).exists()]
    with booted.System(request.param, "hast1", [f"{packages}:/dist", *loops]) as running:
        yield running
