"""What befalls a disk: errors, slowness, its end and its replacement."""

from __future__ import annotations

from hast.sim.disasters.draw import Draw
from hast.sim.schedule import Step


def _after_failure(draw: Draw) -> list[Step]:
    """What strikes a pair that has just seen an operation fail: nothing, mostly."""
    steps = [draw.step("until", what="disk failed", most_s=2.0)]
    if draw.chance(0.25):
        steps += [draw.later(0.05, "cut")]
    elif draw.chance(0.2):
        steps += [draw.later(0.05, "kill", node=draw.node())]
    return [*steps, *draw.hush(), draw.step("wait", seconds=round(draw.random() * 3, 3))]


def write_errors(draw: Draw) -> list[Step]:
    """Some writes on one node fail with EIO."""
    return [
        *draw.aim(),
        draw.step("fail", node=draw.node(), op="write", count=draw.one(1, 2, 4)),
        *_after_failure(draw),
    ]


def read_errors(draw: Draw) -> list[Step]:
    """Some reads on one node fail with EIO."""
    return [*draw.aim(), draw.step("fail", node=draw.node(), op="read", count=draw.one(1, 3, 6)), *_after_failure(draw)]


def flush_errors(draw: Draw) -> list[Step]:
    """A flush on one node fails, and what it covered will never reach the medium."""
    return [
        draw.step("work", gap_s=0.03, flushes=0.15),
        *draw.aim(),
        draw.step("fail", node=draw.node(), op="flush"),
        *_after_failure(draw),
    ]


def flush_cut_short(draw: Draw) -> list[Step]:
    """While a flush is under way that is going to fail, something ends: the worker, the link, or the host."""
    node = draw.node()
    end = str(draw.one("kill", "kill", "cut", "power off"))
    steps = [draw.step("work", gap_s=0.03, flushes=0.15), *draw.aim()]
    if draw.chance(0.3):
        steps += [draw.step("network", up=False), draw.later(0.5, "operation", op="flush")]
    elif end == "cut":
        steps += [draw.step("slow", node="primary", factor=100.0)]
    steps += [draw.step("fail", node=node, op="flush"), draw.step("until", what=f"{node} flushes", most_s=1.0)]
    if end == "cut":
        steps += [draw.later(0.004, "cut")]
    elif end == "kill":
        steps += [draw.later(0.004, "kill", node=node)]
    else:
        other = "primary" if node == "secondary" else "secondary"
        steps += [draw.later(0.02, "power off", node=other, keep=draw.keep()), draw.later(1.0, "power on", node=other)]
    return [*steps, draw.later(0.3, "network", up=True), *draw.hush(), draw.step("wait", seconds=1.5)]


def sync_cut_short(draw: Draw) -> list[Step]:
    """The copy that is made equal loses power, or its link, when a part of it is copied and not flushed."""
    steps = [
        draw.step("network", up=False),
        draw.step("work", gap_s=0.02, batch=3, spread=24),
        draw.later(1.0, "wait", seconds=0.3),
        draw.step("network", up=True),
        *draw.hush(),
    ]
    for _ in range(2):
        steps += [draw.step("until", what=draw.one("copying", "copied", "flushing"), most_s=3.0)]
        soon_s = 0.003 if draw.chance(0.5) else 0.03
        if draw.chance(0.7):
            steps += [
                draw.later(soon_s, "power off", node="secondary", keep=draw.keep()),
                draw.later(0.5, "power on", node="secondary"),
            ]
        else:
            steps += [draw.later(soon_s, "cut")]
    return steps


def store_errors(draw: Draw) -> list[Step]:
    """A write of the map or of the metadata fails on one node."""
    return [*draw.aim(), draw.step("fail", node=draw.node(), op="store"), draw.step("cut"), *_after_failure(draw)]


def write_fails_beside_a_copy(draw: Draw) -> list[Step]:
    """Clients write where it is copied, and one of the copies takes a write of theirs and the other does not."""
    busy = draw.step("work", gap_s=0.004, batch=3, spread=24, reads=0.0, flushes=0.02)
    return [
        draw.step("network", up=False),
        busy,
        draw.later(0.5, "wait", seconds=0.3),
        draw.step("network", up=True),
        draw.step("until", what=draw.one("copying", "copied"), most_s=3.0),
        draw.later(0.01, "fail", node=draw.node(), op="write", count=draw.one(1, 2, 4)),
        draw.step("wait", seconds=0.3),
        *draw.hush(),
        draw.step("wait", seconds=1.0),
    ]


def write_fails_while_the_peer_goes(draw: Draw) -> list[Step]:
    """A write fails on the primary in the moment in which its peer loses power: mostly nobody has heard of that yet."""
    fails = draw.later(0.02, "fail", node="primary", op="write", count=draw.one(1, 1, 3))
    off = draw.later(0.02, "power off", node="secondary", keep=draw.keep())
    sequence = [fails, off] if draw.chance(0.5) else [off, fails]
    return [
        draw.protected(),
        draw.step("work", gap_s=0.004, batch=3, spread=24, reads=0.0, flushes=0.0),
        draw.later(0.3, "slow", node="primary", factor=draw.one(1.0, 5.0, 20.0)),
        *sequence,
        draw.later(0.3, "slow", node="primary", factor=1.0),
        draw.later(0.5, "power on", node="secondary"),
        *draw.hush(),
        draw.step("wait", seconds=1.5),
    ]


def errors_during_sync(draw: Draw) -> list[Step]:
    """Operations fail while the copies are made equal."""
    return [
        draw.step("network", up=False),
        draw.step("wait", seconds=0.7),
        draw.step("rest"),
        draw.step("network", up=True),
        draw.step("until", what=draw.one("opening", "copying", "copied", "flushing", "closing"), most_s=3.0),
        draw.step("fail", node=draw.node(), op=draw.one("write", "flush", "read", "store"), count=draw.one(1, 2)),
        *([draw.habits()] if draw.chance(0.5) else []),
        draw.step("wait", seconds=1.0),
    ]


def slow_disk(draw: Draw) -> list[Step]:
    """One node's disk takes its time; then something happens to the link or to a worker."""
    node = draw.node()
    return [
        *draw.aim(),
        draw.step("slow", node=node, factor=draw.one(5.0, 50.0, 300.0)),
        draw.later(1.0, str(draw.one("wait", "cut", "switch"))),
        draw.step("wait", seconds=1.5),
        draw.step("slow", node=node, factor=1.0),
    ]


def secondary_disk_replaced(draw: Draw) -> list[Step]:
    """The secondary gets another disk, on which `hastctl create` is run: everything is copied."""
    steps = [draw.protected(), draw.step("replace disk", node="secondary")]
    if draw.chance(0.5):
        moment = draw.one("handshake", "connected", "opening", "copying", "copied")
        steps += [draw.step("until", what=moment, most_s=3.0)]
        if draw.chance(0.3):
            lost = draw.later(0.01, "power off", node="primary", keep=draw.keep())
            return [*steps, lost, draw.later(0.5, "power on", node="primary"), *draw.hush()]
        steps += [draw.later(0.01, str(draw.one("cut", "take over")))]
    return [*steps, *draw.hush()]


def primary_disk_broken(draw: Draw) -> list[Step]:
    """The primary's disk fails for good: the peer serves on; then the roles are swapped and the disk is replaced."""
    return [
        draw.protected(),
        *draw.aim(),
        draw.step("break disk", node="primary"),
        *draw.hush(),
        draw.step("wait", seconds=2.0),
        draw.step("replace disk", node="primary"),
    ]


def secondary_disk_broken(draw: Draw) -> list[Step]:
    """The secondary's disk fails for good and is replaced."""
    return [
        draw.protected(),
        *draw.aim(),
        draw.step("break disk", node="secondary"),
        *draw.hush(),
        draw.step("wait", seconds=2.0),
        draw.step("replace disk", node="secondary"),
    ]
