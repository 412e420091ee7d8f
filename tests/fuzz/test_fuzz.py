"""The short form of `make fuzz`: some thousand inputs a target, other ones each time the seed is changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from run import campaign

SEED = 1
INPUTS = {"nbd": 1000, "fuse": 2000, "lzf": 20_000, "tls": 1000, "nbd-before-tls": 4000}


@pytest.mark.parametrize("name", INPUTS)
def test_hostile_bytes_end_their_own_conversation_and_nothing_else(name: str, caplog: pytest.LogCaptureFixture) -> None:
    if name == "lzf":
        pytest.importorskip("lzf")
    with caplog.at_level("CRITICAL"):
        done = campaign(name, SEED, 0, INPUTS[name])
    assert (done.inputs, done.failures) == (INPUTS[name], 0)
    assert done.slowest_s < 5.0
