"""Which copy is newer: the nine-cell table of section 4.3, executable. No state, no I/O.

The secondary compares its own counters (SL local, SR remote) with those of message 3 (PL, PR). Only the relations of
SL to PR and of SR to PL matter, never the numbers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from hast.format.constants import SyncSource


class Relation(IntEnum):
    """How the first number stands to the second."""

    LESS = -1
    EQUAL = 0
    GREATER = 1


class Verdict(NamedTuple):
    """What message 4 says. `full`: every extent is to be copied, not only those of the secondary's map."""

    source: SyncSource
    full: bool = False
    split_brain: bool = False
    expected: bool = True
    """False for the cells that two correct nodes never reach; they are answered with a full copy and a warning."""


_FROM_PRIMARY = Verdict(SyncSource.PRIMARY)
_FROM_SECONDARY = Verdict(SyncSource.SECONDARY)
_ODD_FROM_PRIMARY = Verdict(SyncSource.PRIMARY, full=True, expected=False)
_ODD_FROM_SECONDARY = Verdict(SyncSource.SECONDARY, full=True, expected=False)
_SPLIT_BRAIN = Verdict(SyncSource.UNDEFINED, split_brain=True)

_L, _E, _G = Relation.LESS, Relation.EQUAL, Relation.GREATER

SOURCES: dict[tuple[Relation, Relation], Verdict] = {
    # (SL to PR, SR to PL)
    (_L, _L): _ODD_FROM_PRIMARY,
    (_L, _E): _ODD_FROM_PRIMARY,
    (_L, _G): _ODD_FROM_PRIMARY,
    (_E, _L): _FROM_PRIMARY,
    (_E, _E): _FROM_PRIMARY,
    (_E, _G): _ODD_FROM_PRIMARY,
    (_G, _L): _SPLIT_BRAIN,
    (_G, _E): _FROM_SECONDARY,
    (_G, _G): _ODD_FROM_SECONDARY,
}


def relation(a: int, b: int) -> Relation:
    """How `a` stands to `b`."""
    return Relation((a > b) - (a < b))


def source(secondary_local: int, secondary_remote: int, primary_local: int, primary_remote: int) -> Verdict:
    """The cell for these counters."""
    return SOURCES[relation(secondary_local, primary_remote), relation(secondary_remote, primary_local)]
