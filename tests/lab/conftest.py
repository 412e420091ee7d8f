"""The lab needs root and a few programs; its tests are skipped, with the reason, where these are missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

PROGRAMS = ("ip", "nft", "nsenter", "unshare", "setpriv", "losetup")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "unprivileged" not in item.keywords:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("lab") is None:
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
