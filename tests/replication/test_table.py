"""The nine cells of section 4.3."""

from __future__ import annotations

import pytest

from hast.format.constants import SyncSource
from hast.replication.table import SOURCES, source

P, S, NONE = SyncSource.PRIMARY, SyncSource.SECONDARY, SyncSource.UNDEFINED
CELLS = [
    # SL - PR, SR - PL, source, full, split brain
    (-1, -1, P, True, False),
    (-1, 0, P, True, False),
    (-1, 1, P, True, False),
    (0, -1, P, False, False),
    (0, 0, P, False, False),
    (0, 1, P, True, False),
    (1, -1, NONE, False, True),
    (1, 0, S, False, False),
    (1, 1, S, True, False),
]


@pytest.mark.parametrize(("local", "remote", "expected", "full", "split"), CELLS)
@pytest.mark.parametrize("scale", [1, 5, 1 << 62])
def test_cell(local: int, remote: int, expected: SyncSource, full: bool, split: bool, scale: int) -> None:
    """Only the relations matter, never the numbers."""
    verdict = source(scale + local * scale, scale + remote * scale, scale, scale)
    assert (verdict.source, verdict.full, verdict.split_brain) == (expected, full, split)


def test_every_cell_is_there_and_only_those_of_correct_nodes_are_expected() -> None:
    assert len(SOURCES) == 9
    assert sum(verdict.expected for verdict in SOURCES.values()) == 4
    assert all(verdict.full != verdict.expected for verdict in SOURCES.values())
