"""A run of tests that does not end: `test_killed_run.py` starts it, and ends it with a signal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab.loopback import LoopbackPair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[LoopbackPair]:
    pair = LoopbackPair(tmp_path / "pair", size_bytes=16 << 20)
    try:
        pair.bring_up()
        yield pair
    finally:
        pair.one.stop()
        pair.two.stop()
        (tmp_path / "undone").touch()


def test_that_does_not_end(pair: LoopbackPair, tmp_path: Path) -> None:
    (tmp_path / "written").write_text(f"{pair.one.pid} {pair.two.pid}")
    (tmp_path / "written").rename(tmp_path / "pids")
    time.sleep(60)
