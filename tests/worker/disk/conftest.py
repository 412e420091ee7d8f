"""What the tests of the local disk share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file for a disk, as large as the module's SIZE."""
    path = tmp_path / "image"
    path.write_bytes(b"\xaa" * int(request.module.SIZE))
    return path
