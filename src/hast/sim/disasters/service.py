"""Disks that hang, are taken out of service and into it again, or are replaced while clients work; and workers whose
requests are sent to the next one. Something else strikes in between.
"""

from __future__ import annotations

from hast.sim.disasters.draw import SECTORS, Draw
from hast.sim.provider import DISK_TIMEOUT_S
from hast.sim.schedule import Argument, Step

GIVEN_UP_S = DISK_TIMEOUT_S + 0.6
"""By then a disk that hangs was given up."""
CLEAN_S = 6.5
"""By then the map of a primary without work is clear."""
VICTIMS: dict[str, list[tuple[str, dict[str, Argument]]]] = {
    "primary worker": [("kill", {"node": "primary", "resend": True})],
    "secondary worker": [("kill", {"node": "secondary", "resend": True})],
    "both workers": [("kill", {"node": "primary", "resend": True}), ("kill", {"node": "secondary", "resend": True})],
    "primary hastd": [("kill hastd", {"node": "primary"})],
    "secondary hastd": [("kill hastd", {"node": "secondary"})],
    "primary hastd and worker": [("kill hastd", {"node": "primary"}), ("kill", {"node": "primary"})],
    "secondary hastd and worker": [("kill hastd", {"node": "secondary"}), ("kill", {"node": "secondary"})],
}
"""Who may die, by which actions."""


def _strike(draw: Draw) -> list[Step]:
    """Something else, mostly: it passes by itself."""
    node = draw.node()
    off, on = draw.later(0.05, "power off", node=node, keep=draw.keep()), draw.later(1.0, "power on", node=node)
    hastd = draw.one("primary", "secondary")
    strikes = [
        [],
        [draw.later(0.02, "cut")],
        [draw.later(0.02, "kill", node=node, resend=True)],
        [draw.later(0.02, "kill", node=node, resend=True), draw.later(0.2, "kill", node=node, resend=True)],
        [off, on],
        [draw.later(0.1, "network", up=False), *draw.hush(), draw.later(2.0, "network", up=True)],
        [draw.later(0.1, "kill hastd", node=hastd), draw.later(0.3, "cut"), draw.later(2.0, "restart hastd")],
        [draw.later(0.1, "kill hastd", node=hastd), draw.later(0.3, "kill", node=node)],
    ]
    return strikes[int(draw.random() * len(strikes))]


def _quickly(draw: Draw) -> list[Step]:
    """Writes upon writes, now and then."""
    return [draw.step("work", gap_s=0.01, batch=3, spread=40)] if draw.chance(0.5) else []


def _under_load(draw: Draw) -> list[Step]:
    """A moment while both copies are whole, and clients work."""
    return [draw.protected(), *_quickly(draw), *draw.aim()]


def _in_sync(draw: Draw) -> Step:
    """While a copy is being made."""
    return draw.step("until", what=draw.one("opening", "copying", "copied", "flushing", "closing"), most_s=3.0)


def _stops(draw: Draw) -> Step:
    """The primary's disk answers nothing, or hardly anything."""
    if draw.chance(0.5):
        return draw.step("hang", node="primary")
    return draw.step("slow", node="primary", factor=300.0)


def disk_hangs(draw: Draw) -> list[Step]:
    """A disk does not answer for a while, shorter or longer than it is waited for."""
    node = draw.node()
    waits_s = draw.one(0.5, 2.0, GIVEN_UP_S, GIVEN_UP_S, 2 * GIVEN_UP_S)
    return [
        *_quickly(draw),
        *draw.aim(),
        draw.step("hang", node=node),
        *_strike(draw),
        *draw.hush(),
        draw.step("wait", seconds=waits_s),
        *_strike(draw),
        draw.later(0.5, "answer", node=node, errors=draw.chance(0.3)),
        draw.step("wait", seconds=1.5),
    ]


def hung_disk_is_waited_for_in_vain(draw: Draw) -> list[Step]:
    """Whatever a disk leaves unanswered, clients hear of it in bounded time, and the pair goes on without it."""
    node = draw.node()
    return [
        *_under_load(draw),
        draw.step("hang", node=node),
        *([draw.later(0.1, "cut")] if draw.chance(0.3) else []),
        draw.step("wait", seconds=GIVEN_UP_S),
        draw.step("expect answer"),
        *([draw.habits()] if draw.chance(0.5) else []),
        draw.later(1.0, "wait", seconds=0.5),
        draw.step("expect answer"),
        draw.step("answer", node=node, errors=draw.chance(0.5)),
        draw.step("attach", node=node),
        draw.step("wait", seconds=0.5),
    ]


def hung_disk_is_attached(draw: Draw) -> list[Step]:
    """A disk was given up, answers again, is taken into service again, and something strikes while it is filled."""
    node = str(draw.one("primary", "primary", "secondary"))
    return [
        *_under_load(draw),
        draw.step("hang", node=node),
        draw.step("wait", seconds=GIVEN_UP_S),
        *draw.hush(),
        *_strike(draw),
        draw.later(0.3, "answer", node=node),
        draw.later(0.1, "attach", node=node),
        _in_sync(draw),
        *_strike(draw),
        draw.later(1.0, "attach", node=node),
        draw.step("wait", seconds=1.5),
    ]


def hung_disk_is_replaced(draw: Draw) -> list[Step]:
    """A disk was given up; another takes its place, while the first comes back to what it was asked."""
    node = str(draw.one("primary", "primary", "secondary"))
    return [
        *_under_load(draw),
        draw.step("hang", node=node),
        draw.step("wait", seconds=GIVEN_UP_S),
        draw.step("replace live", node=node),
        draw.later(0.3, "answer", node=node),
        _in_sync(draw),
        *_strike(draw),
        *draw.hush(),
        draw.step("wait", seconds=1.5),
    ]


def disk_detached(draw: Draw) -> list[Step]:
    """Planned work on a disk, with everything that may strike before, meanwhile and while it is filled again."""
    node = draw.node()
    return [
        *_under_load(draw),
        draw.step("detach", node=node),
        *(_strike(draw) if draw.chance(0.3) else []),
        draw.later(0.5, "wait", seconds=0.2),
        *draw.hush(),
        *_strike(draw),
        draw.later(1.0, "attach", node=node),
        _in_sync(draw),
        *_strike(draw),
        draw.step("wait", seconds=1.0),
    ]


def detached_and_left_behind(draw: Draw) -> list[Step]:
    """Clients write while the disk of the primary is out of service; then its worker dies, or its host."""
    extents = draw.sample(range(SECTORS // 4), 5)
    end = [draw.step("kill", node="primary", resend=True)]
    if draw.chance(0.4):
        end = [draw.step("power off", node="primary", keep=draw.keep()), draw.later(0.5, "power on", node="primary")]
    return [
        draw.step("rest"),
        draw.protected(),
        draw.step("wait", seconds=0.2),
        draw.step("detach", node="primary"),
        draw.step("wait", seconds=0.3),
        *[draw.step("operation", op="write", sector=extent * 4) for extent in extents],
        draw.step("wait", seconds=0.3),
        *(end if draw.chance(0.5) else []),
        draw.later(0.3, "attach", node="primary"),
        *(end if draw.chance(0.5) else []),
        *[draw.step("operation", op="read", sector=extent * 4) for extent in extents],
        draw.step("wait", seconds=2.0),
    ]


def disk_replaced_under_load(draw: Draw) -> list[Step]:
    """Another disk while clients work; something strikes while it is filled, and perhaps it is replaced once more."""
    node = draw.node()
    again = [draw.later(0.2, "replace live", node=node), _in_sync(draw)] if draw.chance(0.3) else []
    return [
        *_under_load(draw),
        draw.step("rate", bytes_s=draw.one(0, 0, 5000)),
        draw.step("replace live", node=node),
        _in_sync(draw),
        *_strike(draw),
        *again,
        *draw.hush(),
        draw.step("wait", seconds=1.5),
        draw.step("rate", bytes_s=0),
    ]


def disk_replaced_during_sync(draw: Draw) -> list[Step]:
    """The copy that is being made is thrown away for another disk."""
    return [
        draw.step("network", up=False),
        draw.step("work", gap_s=0.02, batch=3, spread=60),
        draw.step("wait", seconds=0.5),
        *draw.hush(),
        draw.step("network", up=True),
        _in_sync(draw),
        draw.later(0.02, str(draw.one("replace live", "replace live", "detach", "hang")), node=draw.node()),
        *_strike(draw),
        draw.later(1.0, "answer", node="primary"),
        draw.later(0.1, "attach", node="primary"),
        draw.step("answer", node="secondary"),
        draw.step("attach", node="secondary"),
        draw.step("wait", seconds=1.5),
    ]


def detached_disk_is_replaced(draw: Draw) -> list[Step]:
    """Out of service, and then another one comes in; the worker or the link is lost on the way."""
    node = draw.node()
    return [
        draw.protected(),
        draw.step("detach", node=node),
        draw.later(0.5, "wait", seconds=0.2),
        *_strike(draw),
        draw.step("replace live", node=node),
        draw.later(0.1, "wait", seconds=0.0),
        *_strike(draw),
        draw.step("attach", node=node),
        draw.step("wait", seconds=1.0),
    ]


def requests_are_sent_again(draw: Draw) -> list[Step]:
    """A worker dies over a slow disk, and takes its time; the next one is asked for all that was not answered, and for
    newer writes to the same sectors."""
    spot = int(draw.random() * (SECTORS - 12))
    node = str(draw.one("primary", "primary", "primary", "secondary"))
    writes = [draw.step("operation", op="write", sector=spot + n, sectors=1 + n % 3) for n in range(4)]
    steps = [*draw.aim(), draw.step("slow", node="primary", factor=draw.one(1.0, 1.0, 5.0, 20.0))]
    for _ in range(3):
        steps += [
            *writes,
            draw.later(0.004, "kill", node=node, resend=True),
            draw.step("until", what="acknowledged", most_s=1.0),
            *writes,
            draw.later(0.05, "wait", seconds=0.0),
        ]
    return [*steps, draw.step("slow", node="primary", factor=1.0), *draw.hush(), draw.step("wait", seconds=1.0)]


def disk_hangs_while_it_is_filled(draw: Draw) -> list[Step]:
    """The copy that is being made hangs, is given up, and begins again with the mark of the pass on it, slowly."""
    extents = draw.sample(range(SECTORS // 4), 12)
    writes = [draw.step("operation", op="write", sector=extent * 4) for extent in extents]
    reads = [draw.step("operation", op="read", sector=extent * 4) for extent in extents]
    alone = draw.chance(0.5)
    return [
        draw.step("rest"),
        draw.protected(),
        draw.step("detach", node="primary"),
        draw.step("wait", seconds=0.3),
        *writes[:6],
        draw.step("rate", bytes_s=1000),
        draw.later(0.2, "attach", node="primary"),
        draw.step("until", what="copying", most_s=3.0),
        draw.step("hang", node="primary"),
        draw.step("wait", seconds=GIVEN_UP_S),
        *writes,
        draw.step("wait", seconds=0.3),
        *([draw.step("kill hastd", node="secondary")] if alone else []),
        draw.later(0.2, "kill", node="primary", resend=True),
        draw.step("slow", node="primary", factor=draw.one(1.0, 10.0, 40.0)),
        draw.later(0.2, "answer", node="primary"),
        draw.step("until", what="connected", most_s=2.5),
        *reads,
        draw.later(0.1, "wait", seconds=0.5),
        draw.step("rate", bytes_s=0),
        draw.step("restart hastd"),
    ]


def disk_fails_while_the_link_is_gone(draw: Draw) -> list[Step]:
    """What a disk left unanswered fails at last, when it was not given up yet and the link was lost and made again."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.006, batch=4, reads=0.0),
        draw.later(0.2, "wait", seconds=0.2),
        draw.step("hang", node="primary"),
        draw.later(0.02, "cut"),
        draw.later(1.0, "wait", seconds=draw.one(0.5, 1.5)),
        draw.step("answer", node="primary", errors=True),
        draw.step("wait", seconds=1.0),
    ]


def disk_hangs_after_a_failed_flush(draw: Draw) -> list[Step]:
    """Both copies owe each other something when the disk is given up; the peer loses its cache; another worker begins,
    over a disk that is slow."""
    return [
        draw.step("work", gap_s=0.006, batch=4, flushes=0.1),
        draw.later(0.3, "network", up=False),
        draw.later(0.2, "wait", seconds=0.2),
        draw.step("fail", node="primary", op="flush", count=2),
        draw.later(0.3, "wait", seconds=0.3),
        draw.step("network", up=True),
        draw.later(0.3, "wait", seconds=0.4),
        draw.step("hang", node="primary"),
        draw.step("wait", seconds=GIVEN_UP_S),
        draw.step("power off", node="secondary", keep=0.5),
        draw.step("power on", node="secondary"),
        draw.step("slow", node="primary", factor=draw.one(1.0, 10.0, 40.0)),
        draw.step("answer", node="primary"),
        draw.step("wait", seconds=0.1),
        draw.step("attach", node="primary"),
        draw.step("wait", seconds=1.5),
    ]


def killed_when_its_disk_comes_back(draw: Draw) -> list[Step]:
    """A worker dies while it records what its disk lacks, and the next one does not reach the peer."""
    extents = draw.sample(range(SECTORS // 4), 6)
    return [
        draw.step("rest"),
        draw.protected(),
        draw.step("wait", seconds=2.0),
        draw.step("hang", node="primary"),
        *[draw.step("operation", op="write", sector=extent * 4) for extent in extents],
        draw.step("wait", seconds=GIVEN_UP_S),
        *[draw.step("operation", op="write", sector=extent * 4 + 1) for extent in extents],
        draw.step("wait", seconds=0.3),
        draw.step("kill hastd", node="secondary"),
        draw.step("answer", node="primary"),
        draw.step("wait", seconds=0.1),
        draw.step("attach", node="primary"),
        draw.step("until", what="primary stores", most_s=0.5),
        draw.later(0.03, "kill", node="primary", resend=True),
        draw.step("wait", seconds=1.5),
        *[draw.step("operation", op="read", sector=extent * 4 + int(draw.one(0, 1))) for extent in extents],
        draw.step("wait", seconds=0.5),
        draw.step("restart hastd"),
        draw.step("wait", seconds=1.0),
    ]


def peer_is_lost_in_a_handshake(draw: Draw) -> list[Step]:
    """The peer is met with all that it had in its cache, and loses that before the link is live."""
    return [
        draw.protected(),
        draw.step("work", gap_s=0.006, batch=4, reads=0.0, flushes=0.0, fua=0.0),
        draw.step("wait", seconds=0.3),
        draw.step("kill", node="secondary"),
        draw.later(0.03, "wait", seconds=0.02),
        draw.step("rest"),
        _stops(draw),
        draw.step("until", what="handshake", most_s=2.0),
        draw.later(0.6, "power off", node="secondary", keep=0.0),
        draw.later(0.5, "power on", node="secondary"),
        draw.later(0.5, "answer", node="primary"),
        draw.step("slow", node="primary", factor=1.0),
        draw.step("wait", seconds=1.0),
    ]


def death_at_an_event(draw: Draw) -> list[Step]:
    """A worker, a hastd, or both die after any one thing that happens, perhaps in the middle of a synchronisation."""
    apart = [
        draw.step("network", up=False),
        draw.step("wait", seconds=0.4),
        draw.step("network", up=True),
        _in_sync(draw),
    ]
    steps = [draw.protected(), *(apart if draw.chance(0.5) else [])]
    return [*steps, *death_after(int(draw.random() * 150), str(draw.one(*VICTIMS))), draw.step("wait", seconds=1.0)]


def death_after(count: int, victim: str) -> list[Step]:
    """After so many events."""
    deaths = [Step(0.0, kind, arguments) for kind, arguments in VICTIMS[victim]]
    return [Step(0.0, "events", {"count": count}), *deaths, Step(0.5, "restart hastd")]


def write_fails_while_the_disk_leaves(draw: Draw) -> list[Step]:
    """The primary's disk is about to be let go, fails a write, and the link that the peer's lead went over is lost."""
    fails = draw.step("fail", node="primary", op="write", count=draw.one(1, 3))
    detach = draw.later(0.02, "detach", node="primary")
    return [
        draw.protected(),
        draw.step("work", gap_s=0.004, batch=3, spread=24, reads=0.0, flushes=0.0),
        draw.later(0.3, "slow", node="primary", factor=draw.one(5.0, 20.0, 50.0)),
        *([fails, detach] if draw.chance(0.3) else [detach, fails]),
        draw.later(float(draw.one(0.01, 0.1, 0.2)), "cut"),
        draw.later(0.1, "slow", node="primary", factor=1.0),
        *draw.hush(),
        draw.step("wait", seconds=1.5),
    ]


def disk_hangs_while_the_link_is_made(draw: Draw) -> list[Step]:
    """The link is lost and made over a disk that hangs, with a flush and writes in it, and whose map names little: what
    clients write when it was given up has to be named by the peer's."""
    return [
        draw.step("rest"),
        draw.protected(),
        draw.step("wait", seconds=CLEAN_S),
        draw.step("work", gap_s=0.02, spread=16, reads=0.1),
        draw.later(0.5, "wait", seconds=0.3),
        draw.step("hang", node="primary"),
        draw.later(float(draw.one(0.0, 0.05)), "cut"),
        draw.step("until", what="connected", most_s=2.8),
        draw.later(0.2, "work", gap_s=0.02, spread=60, reads=0.1),
        draw.step("wait", seconds=GIVEN_UP_S),
        *([draw.step("kill", node="secondary")] if draw.chance(0.3) else []),
        draw.later(0.5, "answer", node="primary"),
        draw.step("wait", seconds=0.1),
        draw.step("attach", node="primary"),
        *draw.hush(),
        draw.step("wait", seconds=1.5),
    ]


SERVICE = (
    disk_hangs,
    hung_disk_is_waited_for_in_vain,
    hung_disk_is_attached,
    hung_disk_is_replaced,
    disk_detached,
    write_fails_while_the_disk_leaves,
    detached_and_left_behind,
    disk_replaced_under_load,
    disk_replaced_during_sync,
    detached_disk_is_replaced,
    disk_hangs_while_it_is_filled,
    disk_hangs_while_the_link_is_made,
    disk_fails_while_the_link_is_gone,
    disk_hangs_after_a_failed_flush,
    killed_when_its_disk_comes_back,
    peer_is_lost_in_a_handshake,
    death_at_an_event,
    requests_are_sent_again,
)
