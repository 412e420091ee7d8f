"""What befalls the link between the nodes."""

from __future__ import annotations

from hast.sim.disasters.draw import SECTORS, Draw
from hast.sim.schedule import Step


def link_flap(draw: Draw) -> list[Step]:
    """The cable is pulled and plugged in again."""
    return [
        *draw.aim(),
        draw.step("network", up=False),
        *draw.hush(),
        draw.later(3.0, "network", up=True),
    ]


def link_flaps_quickly(draw: Draw) -> list[Step]:
    """The cable is loose: connections die within the handshake and within the synchronisation."""
    steps = [*draw.aim(), draw.step("cut"), *draw.hush()]
    moments = ("handshake", "connected", "opening", "copying", "copied", "flushing", "closing")
    for _ in range(2 + int(draw.random() * 4)):
        steps += [draw.step("until", what=draw.one(*moments), most_s=2.0), draw.later(0.02, "cut")]
        if draw.chance(0.3):
            steps.append(draw.step("operation", op="write", sector=int(draw.random() * SECTORS)))
    return steps


def link_falls_silent(draw: Draw) -> list[Step]:
    """Packets are lost without a word; only the engine's own patience ends the connection."""
    return [*draw.aim(), draw.step("silence"), *draw.hush(), draw.step("wait", seconds=7.0)]


def handshake_falls_silent(draw: Draw) -> list[Step]:
    """The link dies without a word in the middle of a handshake, with writes held for it."""
    return [
        *draw.aim(),
        draw.step("cut"),
        draw.step("until", what="handshake", most_s=3.0),
        draw.later(0.01, "silence"),
        draw.step("work", gap_s=0.03),
        draw.step("wait", seconds=6.0),
    ]


def link_slow(draw: Draw) -> list[Step]:
    """A route with long and uneven delays."""
    return [
        *draw.aim(),
        draw.step("latency", seconds=draw.one(0.0005, 0.02, 0.1, 0.6)),
        draw.step("wait", seconds=2.0),
        *draw.hush(),
        draw.later(2.0, "latency", seconds=0.003),
    ]
