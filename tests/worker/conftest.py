"""Workers of tests know nothing of each other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_directories(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker leaves to be known of its disk lies in the run directory, under the name of the resource: tests
    that run at the same time would take it for their own. Short, since sockets lie there."""
    with tempfile.TemporaryDirectory(prefix="hast-w-", ignore_cleanup_errors=True) as directory:
        for variable in ("HAST_RUN", "HAST_STATE"):
            path = Path(directory, variable[5:].lower())
            path.mkdir(mode=0o700)
            monkeypatch.setenv(variable, str(path))
        yield
