"""Both copies are compared while clients work and other things happen; and a block that went bad is found."""

from __future__ import annotations

from hast.sim.disasters.draw import SECTORS, Draw
from hast.sim.schedule import Step


def verified_under_load(draw: Draw) -> list[Step]:
    """Nothing differs, and nothing is said to."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.004, batch=3, spread=draw.one(24, 300), reads=0.2, flushes=0.05),
        draw.step("verify", repair=draw.chance(0.3)),
        draw.later(0.3, str(draw.one("wait", "wait", "stop verify"))),
        draw.step("wait", seconds=0.5),
    ]


def verification_is_interrupted(draw: Draw) -> list[Step]:
    """A link, a worker, a write, a flush or a disk ends while places are compared, or written to the peer."""
    node = draw.node()
    blows = [
        [draw.later(0.1, "cut")],
        [draw.later(0.1, "silence")],
        [draw.later(0.1, "kill", node=node, resend=True)],
        [draw.step("fail", node=node, op=draw.one("write", "flush", "read"), count=draw.one(1, 3))],
        [draw.step("hang", node=node), draw.later(2.0, "answer", node=node)],
        [draw.later(0.1, "detach", node="primary"), draw.later(0.3, "attach", node="primary")],
        [draw.later(0.1, "power off", node=node, keep=draw.keep()), draw.later(1.0, "power on", node=node)],
        [draw.later(0.1, "switch")],
    ]
    return [
        draw.protected(),
        draw.step("rate", bytes_s=draw.one(0, 4000)),
        *([] if draw.chance(0.3) else [draw.step("work", gap_s=0.01, batch=2, spread=40)]),
        draw.step("verify", repair=draw.chance(0.5)),
        *blows[int(draw.random() * len(blows))],
        draw.step("wait", seconds=1.5),
        draw.step("verify", repair=draw.chance(0.5)),
        draw.step("wait", seconds=1.0),
    ]


def block_goes_bad(draw: Draw) -> list[Step]:
    """On the secondary, and nobody says so: a verification finds it, and one that may mends it."""
    return [
        draw.step("rest"),
        draw.step("until", what="in step", most_s=5.0),
        draw.step("wait", seconds=2.5),
        draw.step("rot", sector=int(draw.random() * SECTORS)),
        draw.step("verify", repair=draw.chance(0.7)),
        draw.step("wait", seconds=2.0),
        draw.step("verify", repair=True),
        draw.step("wait", seconds=2.0),
        draw.step("unrot"),
    ]


VERIFYING = (verified_under_load, verification_is_interrupted, block_goes_bad)
