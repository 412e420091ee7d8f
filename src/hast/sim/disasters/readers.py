"""What befalls reads that both copies serve: writes beside them, a peer that lacks something, is late or is lost."""

from __future__ import annotations

from hast.sim.disasters.draw import Draw
from hast.sim.schedule import Step


def _readers(draw: Draw, spread: int) -> list[Step]:
    """`spread`: the sectors that they share with those who write."""
    return [
        draw.step("balance reads"),
        draw.step("work", gap_s=0.006, batch=3, reads=0.6, flushes=0.0, fua=0.0, spread=spread),
        draw.protected(),
        draw.step("wait", seconds=1.1),
    ]


def read_beside_a_slow_disk(draw: Draw) -> list[Step]:
    """The peer has carried writes out that this disk has not."""
    return [
        *_readers(draw, 12),
        draw.step("slow", node="primary", factor=draw.one(5.0, 20.0)),
        draw.step("wait", seconds=0.8),
        draw.step("slow", node="primary", factor=1.0),
    ]


def read_beside_a_peer_that_lacks_something(draw: Draw) -> list[Step]:
    """A write fails there, and nothing is copied for a second."""
    return [
        *_readers(draw, 12),
        draw.step("fail", node="secondary", op="write", count=draw.one(1, 3)),
        draw.step("wait", seconds=1.5),
    ]


def read_at_a_peer_that_is_late_or_lost(draw: Draw) -> list[Step]:
    """Reads are under way there, as ever."""
    return [
        *_readers(draw, 300),
        draw.step("slow", node="secondary", factor=draw.one(1.0, 5.0, 100.0)),
        draw.later(0.4, str(draw.one("wait", "cut", "cut"))),
        draw.step("wait", seconds=1.0),
        draw.step("slow", node="secondary", factor=1.0),
    ]


READERS = (read_beside_a_slow_disk, read_beside_a_peer_that_lacks_something, read_at_a_peer_that_is_late_or_lost)
