"""Workers killed, power cut, roles changed, daemons stopped in order."""

from __future__ import annotations

from hast.sim.disasters.draw import SECTORS, Draw
from hast.sim.schedule import Step


def primary_worker_killed(draw: Draw) -> list[Step]:
    """kill -9 of the primary's worker, perhaps twice; the supervisor starts another."""
    steps = [*draw.aim(), draw.step("kill", node="primary"), *draw.hush()]
    if draw.chance(0.4):
        steps += [draw.later(0.5, "operation", op="write", sector=int(draw.random() * SECTORS)), *draw.aim()]
        steps.append(draw.step("kill", node="primary"))
    return steps


def secondary_worker_killed(draw: Draw) -> list[Step]:
    """kill -9 of the secondary's worker; the next connection starts another."""
    return [*draw.aim(), draw.step("kill", node="secondary"), *draw.hush()]


def secondary_power_cut(draw: Draw) -> list[Step]:
    """The secondary loses power and comes back."""
    return [
        *draw.aim(),
        draw.step("power off", node="secondary", keep=draw.keep()),
        *draw.hush(),
        draw.later(2.0, "power on", node="secondary"),
    ]


def primary_power_cut(draw: Draw) -> list[Step]:
    """The primary loses power and is started again as primary; perhaps twice, before it has heard of its peer."""
    steps = [*draw.aim(), draw.step("power off", node="primary", keep=draw.keep()), *draw.hush()]
    if draw.chance(0.3):
        twice = [draw.step("rest"), draw.step("network", up=False)]
        again = [draw.later(0.5, "kill", node="primary"), draw.later(0.5, "network", up=True)]
        return [*steps, *twice, draw.later(2.0, "power on", node="primary"), *again]
    return [*steps, draw.later(2.0, "power on", node="primary")]


def fail_over(draw: Draw) -> list[Step]:
    """The primary loses power; the other takes over; the first returns as secondary."""
    return [
        draw.protected(),
        *draw.aim(),
        draw.step("take over", keep=draw.keep()),
        *draw.hush(),
    ]


def site_power_cut(draw: Draw) -> list[Step]:
    """Both hosts lose power, and only the secondary comes back at first: what was flushed is there."""
    return [
        draw.protected(),
        draw.step("until", what=draw.one("flushed", "flushed", "acknowledged"), most_s=1.0),
        draw.step("site power off", keep=draw.keep()),
        *draw.hush(),
    ]


def fail_over_during_sync(draw: Draw) -> list[Step]:
    """The primary is lost while it synchronises the other, whose copy then is good for nothing."""
    return [
        draw.step("network", up=False),
        draw.step("wait", seconds=1.0),
        *draw.hush(),
        draw.step("network", up=True),
        draw.step("until", what=draw.one("copying", "copied", "flushing", "closing"), most_s=3.0),
        draw.later(0.01, "take over", keep=draw.keep()),
        *draw.hush(),
    ]


def planned_switch(draw: Draw) -> list[Step]:
    """Drain the primary, swap the roles."""
    return [draw.step("settle"), draw.step("switch"), draw.habits(), *draw.aim(), draw.step("switch")]


def switch_under_load(draw: Draw) -> list[Step]:
    """Swap the roles while clients are at work."""
    return [draw.protected(), *draw.aim(), draw.step("switch"), *draw.hush()]


def ordered_stop(draw: Draw) -> list[Step]:
    """SIGTERM of hastd on one node or on both, in any order; a power cut or a lost link in the middle; the other node
    asks for the role at any moment."""
    first = str(draw.one("primary", "primary", "primary", "secondary"))
    steps = [draw.protected(), *draw.aim(), draw.step("stop", node=first)]
    if draw.chance(0.25):
        steps.append(draw.later(0.2, "stop", node="secondary" if first == "primary" else "primary"))
    if draw.chance(0.25):
        steps.append(draw.later(0.2, str(draw.one("cut", "silence"))))
    elif draw.chance(0.15):
        steps.append(draw.later(0.2, "kill", node=draw.node()))
    if draw.chance(0.4):
        steps.append(draw.later(0.3, "stop cut short", keep=draw.keep()))
    steps.append(draw.later(0.4, "succeed"))
    for node in draw.sample(["a", "b"], 2):
        steps += [draw.later(1.0, "start", node=node), draw.step("power on", node=node)]
    return [*steps, *draw.hush()]


def hastd_killed(draw: Draw) -> list[Step]:
    """hastd dies, its workers go on, and something happens before the next hastd takes over."""
    other = draw.node()
    meanwhile = [
        [],
        [draw.step("network", up=False), *draw.hush(), draw.later(4.0, "network", up=True)],
        [draw.step("network", up=False), draw.step("wait", seconds=draw.one(2.0, 5.0, 16.0))],
        [draw.step("kill", node=other)],
        [draw.step("power off", node=other, keep=draw.keep()), draw.later(3.0, "power on", node=other)],
        [draw.step("reach", node="primary", up=False), draw.step("cut"), draw.step("wait", seconds=4.0)],
        [draw.step("kill hastd", node="primary"), draw.step("kill hastd", node="secondary"), draw.step("cut")],
    ]
    chosen = meanwhile[int(draw.random() * len(meanwhile))]
    ends = [draw.later(1.5, "restart hastd"), draw.later(0.5, "reach", node="primary", up=True)]
    steps = [*draw.aim(), draw.step("kill hastd", node=draw.one("primary", "primary", "secondary")), *chosen, *ends]
    return [*steps, draw.later(1.0, "network", up=True), draw.step("wait", seconds=1.0)]
