"""The engine's constants, made small: so that a disk of a few hundred sectors has many buckets, several pieces an
extent, requests of several pieces, and a wait for everything that a real disk waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hast.replication import copy_rate, core, joining, primary, ranges, read_balance, secondary, sync, sync_pace
from hast.replication.types import Metadata
from hast.sim.disk import MAP_OFFSET_BYTES, SECTOR_BYTES

EXTENT_BYTES = 4 * SECTOR_BYTES
EXTENTS = 96
DATASIZE_BYTES = EXTENT_BYTES * EXTENTS - SECTOR_BYTES
MAP_BYTES = 2 * SECTOR_BYTES
KEEPDIRTY = 3

SMALL = (
    (ranges, "_SHIFT", EXTENT_BYTES.bit_length() - 1),
    (ranges, "_WIDE_BUCKETS", 2),
    (copy_rate, "PIECE_BYTES", 2 * SECTOR_BYTES),
    (copy_rate, "PIECES_IDLE", 6),
    (copy_rate, "PIECES_BUSY", 2),
    (sync_pace, "PIECE_BYTES", 2 * SECTOR_BYTES),
    (sync_pace, "LEAST_PIECE_BYTES", SECTOR_BYTES),
    (sync_pace, "PIECES", 6),
    (sync_pace, "FIRST_PIECES", 4),
    (sync_pace, "PIECES_BUSY", 2),
    (sync_pace, "FLOOR_BYTES_S", 2_000),
    (sync_pace, "FIRST_BYTES_S", 20_000),
    (sync_pace, "PAUSE_EVERY_S", 1.0),
    (read_balance, "PROBE_EVERY_S", 0.0),
    (read_balance, "AVOID_S", 0.05),
    (read_balance, "READ_COST_BYTES", SECTOR_BYTES),
    (sync, "WINDOW_BYTES", 6 * EXTENT_BYTES),
    (sync, "RETRY_S", 3.0),
    (sync, "FIRST_RETRY_S", 1.0),
    (core, "REFERENCE_MAX_DATA_BYTES", 4 * SECTOR_BYTES),
    (core, "MAX_DATA_BYTES", 8 * SECTOR_BYTES),
    (secondary, "MAX_DATA_BYTES", 8 * SECTOR_BYTES),
    (joining, "HOLD_S", 0.3),
    (primary, "IDLE_CLEAN_S", 1.0),
)


@contextmanager
def small_constants() -> Iterator[None]:
    """In force for one run; the rest of the process sees the true ones before and after."""
    before = [(module, name, getattr(module, name)) for module, name, _value in SMALL]
    try:
        for module, name, value in SMALL:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def fresh_metadata() -> Metadata:
    """As `hastctl create` leaves it."""
    return Metadata("sim", DATASIZE_BYTES, EXTENT_BYTES, KEEPDIRTY, MAP_OFFSET_BYTES + MAP_BYTES)
