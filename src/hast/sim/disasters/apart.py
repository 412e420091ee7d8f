"""Nodes that cannot see each other or the arbiter, or may not write: who may serve, and split brain."""

from __future__ import annotations

from hast.sim.disasters.draw import SECTORS, Draw
from hast.sim.schedule import Step


def both_serve(draw: Draw) -> list[Step]:
    """The nodes cannot see each other; the other is promoted by hand, both take writes, the first steps back. Split
    brain has to be found on every attempt to reconnect; then the changes of one are given up."""
    before = [draw.step("until", what=draw.one("acknowledged", "in step", "protected"), most_s=2.0)]
    writes = [
        draw.step("write apart", node=str(draw.one("a", "b")), sector=int(draw.random() * SECTORS))
        for _ in range(1 + int(draw.random() * 3))
    ]
    return [
        *before,
        draw.step("write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("network", up=False),
        draw.step("rest"),
        draw.later(0.2, "wait", seconds=0.0),
        draw.step("promote", node="secondary", force=draw.chance(0.5)),
        draw.later(1.0, "write apart", node="a", sector=int(draw.random() * SECTORS)),
        draw.step("write apart", node="b", sector=int(draw.random() * SECTORS)),
        *writes,
        draw.step("wait", seconds=1.0),
        *([draw.step("network", up=True), draw.step("wait", seconds=1.5)] if draw.chance(0.3) else []),
        draw.step("demote", node="secondary"),
        draw.step("network", up=True),
        draw.step("expect split brain"),
        draw.step("discard", node="secondary"),
        draw.step("forget"),
        *_during_resolution(draw),
    ]


def _during_resolution(draw: Draw) -> list[Step]:
    """What strikes while one node's changes are given up."""
    if draw.chance(0.4):
        return []
    moment = draw.one("handshake", "secondary stores", "opening", "copying", "copied", "flushing", "closing")
    steps = [draw.habits()] if draw.chance(0.5) else []
    steps += [draw.step("until", what=moment, most_s=3.0)]
    kind = draw.one("cut", "kill primary", "kill secondary", "power")
    if kind == "cut":
        return [*steps, draw.later(0.01, "cut")]
    if kind == "power":
        return [*steps, draw.step("power off", node="secondary", keep=draw.keep())]
    return [*steps, draw.later(0.01, "kill", node=str(kind).removeprefix("kill "))]


def outdated_promoted(draw: Draw) -> list[Step]:
    """The other took over and has newer data, but is away when this node is started again as primary."""
    return [
        draw.protected(),
        draw.step("take over", keep=0.5),
        draw.step("network", up=False),
        draw.step("wait", seconds=0.5),
        draw.step("rest"),
        draw.step("write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("wait", seconds=1.0),
        draw.step("demote", node="primary"),
        draw.step("promote", node="secondary"),
        draw.step("latency", seconds=draw.one(0.003, 0.5, 1.0)),
        draw.step("network", up=True),
        draw.step("until", what="handshake", most_s=3.0),
        draw.later(0.5, "write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("wait", seconds=3.0),
        draw.step("latency", seconds=0.003),
        draw.step("expect split brain"),
        draw.step("discard", node="secondary"),
        draw.step("wait", seconds=3.0),
        draw.step("forget"),
    ]


def arbiter_away(draw: Draw) -> list[Step]:
    """The peer is gone, and the arbiter answers late, or not, or no."""
    steps = [
        *draw.aim(),
        draw.step("arbiter delay", seconds=draw.one(0.05, 0.9, 2.5)),
        draw.step("reach", node="primary", up=draw.chance(0.4)),
        draw.step("network", up=False),
        *draw.hush(),
        draw.later(3.0, "reach", node="primary", up=True),
        draw.step("wait", seconds=2.0),
    ]
    if draw.chance(0.3):
        steps += [draw.step("restart arbiter"), draw.later(1.0, str(draw.one("kill", "power off")), node="primary")]
        steps += [draw.later(1.0, "power on", node="primary")]
    if draw.chance(0.5):
        steps.append(draw.step("promote", node="secondary"))
    return [*steps, draw.later(1.0, "network", up=True)]


def arbiter_chooses(draw: Draw) -> list[Step]:
    """The arbiter is out of the primary's reach and lets the other serve: the first acknowledges nothing more."""
    return [
        draw.step("until", what="in step", most_s=2.0),
        draw.step("reach", node="primary", up=False),
        draw.step("network", up=False),
        draw.step("write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("wait", seconds=4.0),
        draw.step("promote", node="secondary"),
        draw.step("write apart", node="a", sector=int(draw.random() * SECTORS)),
        draw.step("write apart", node="b", sector=int(draw.random() * SECTORS)),
        draw.step("wait", seconds=1.5),
        draw.step("demote", node="secondary"),
        draw.step("reach", node="secondary", up=True),
        draw.step("network", up=True),
        draw.step("expect split brain"),
        draw.step("forget"),
    ]


def arbiter_forgets(draw: Draw) -> list[Step]:
    """The arbiter is restored from a backup that does not have who went on alone, and learns it from who serves."""
    return [
        draw.step("until", what="in step", most_s=2.0),
        draw.step("back up arbiter"),
        draw.step("network", up=False),
        draw.step("write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.later(3.0, "restore arbiter"),
        draw.later(2.0, "promote", node="secondary"),
        draw.step("wait", seconds=3.5),
        draw.step("promote", node="secondary"),
        draw.later(1.0, "write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.later(1.0, "network", up=True),
        draw.step("until", what="in step", most_s=2.0),
        draw.step("forget"),
    ]


def arbiter_forgets_unseen(draw: Draw) -> list[Step]:
    """The same, out of the reach of who went on alone: it holds writes before another could be let in, and goes on when
    it hears that nobody was."""
    return [
        draw.step("until", what="in step", most_s=2.0),
        draw.step("back up arbiter"),
        draw.step("network", up=False),
        draw.step("write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("wait", seconds=1.0),
        draw.later(2.0, "reach", node="primary", up=False),
        draw.later(0.3, "restore arbiter"),
        draw.step("wait", seconds=4.5),
        draw.later(8.0, "write apart", node="primary", sector=int(draw.random() * SECTORS)),
        draw.step("reach", node="primary", up=True),
        draw.step("expect answer", seconds=9.0),
        draw.step("network", up=True),
        draw.step("until", what="in step", most_s=2.0),
        draw.step("forget"),
    ]


def frozen_by_hand(draw: Draw) -> list[Step]:
    """The operator holds writes and lets them go on, with something happening meanwhile."""
    meanwhile = draw.step(str(draw.one("cut", "wait", "kill")))
    if meanwhile.kind == "kill":
        meanwhile = draw.step("kill", node=draw.node())
    return [
        *draw.aim(),
        draw.step("freeze"),
        draw.later(0.5, meanwhile.kind, **meanwhile.arguments),
        draw.later(1.0, "thaw"),
    ]
