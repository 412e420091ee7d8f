"""Fixtures shared by all rooms' tests; makes the helpers in support/ importable."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings

# A loaded machine is no reason to fail: pytest-timeout bounds every test as a whole.
settings.register_profile("hast", deadline=None)
settings.load_profile("hast")

# What a killed run leaves behind ends soon: workers wait for the next hastd no longer than this.
os.environ.setdefault("HAST_ORPHAN_LIMIT_S", "60")

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))


def pytest_configure() -> None:
    """`timeout` and the like end a run as ^C does: what fixtures made is taken down."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared material beside the checkout (HAST_SHARED overrides); skips where it is absent."""
    path = Path(os.environ.get("HAST_SHARED", REPOSITORY.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared material at {path}; set HAST_SHARED")
    return path


@pytest.fixture(scope="session")
def shared_compat(shared: Path) -> Path:
    """The folder with the compatibility specification, its vectors and recorded conversations."""
    path = shared / "compat"
    if not path.is_dir():
        pytest.skip(f"no compatibility material at {path}; set HAST_SHARED")
    return path
