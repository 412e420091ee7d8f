"""What is done to a pair in one run, drawn by a seed: disasters, each of which is a short list of steps.

    plain       one disaster after another, each repaired before the next: nothing acknowledged may be lost
    chaos       failures upon failures, none repaired before the next: losses that no pair survives are excused
    reference   either of them, without our extensions to the protocol

Every disaster comes up about as often as every other, in every mode, within any few hundred seeds in a row.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from hast.format.constants import Replication
from hast.sim import families_rare as rare
from hast.sim.disk import SECTOR_BYTES
from hast.sim.schedule import Argument, Schedule, Step
from hast.sim.small import DATASIZE_BYTES

STRIKES = 3
CHAOS_STRIKES = 40
SECTORS = DATASIZE_BYTES // SECTOR_BYTES
MODES = list(Replication)


class Family(StrEnum):
    """The kinds of run."""

    PLAIN = "plain"
    CHAOS = "chaos"
    REFERENCE = "reference"


FAMILIES = list(Family)
Disaster = Callable[["Draw"], list[Step]]


class Draw(random.Random):
    """Chance, and the steps it is turned into."""

    def step(self, kind: str, **arguments: Argument) -> Step:
        """At once."""
        return Step(0.0, kind, arguments)

    def later(self, most_s: float, kind: str, **arguments: Argument) -> Step:
        """Some time within `most_s`."""
        return Step(round(self.random() * most_s, 4), kind, arguments)

    def one(self, *values: Argument) -> Argument:
        return values[int(self.random() * len(values))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def keep(self) -> float:
        """How much of a cache survives a power cut."""
        return float(self.one(0.0, 0.0, 0.5, 0.9))

    def node(self) -> str:
        return str(self.one("primary", "secondary"))

    def habits(self) -> Step:
        """Clients of another kind."""
        kind = self.random()
        if kind < 0.25:
            return self.step("work", gap_s=0.006, batch=4)
        if kind < 0.5:
            return self.step("work", gap_s=0.03)
        if kind < 0.7:
            return self.step("work", gap_s=0.1, batch=2, flushes=0.0, fua=0.0)
        if kind < 0.85:
            return self.step("work", gap_s=0.05, batch=2, flushes=0.3, fua=0.3, reads=0.1)
        return self.step("work", gap_s=0.02, spread=24, reads=0.1)

    def aim(self) -> list[Step]:
        """The moment of the failure: any, or right after something."""
        if self.chance(0.4):
            return [self.later(0.3, "wait", seconds=0.0)]
        what = self.one("acknowledged", "acknowledged", "acknowledged", "flushed", "primary stores", "secondary stores")
        return [self.step("until", what=what, most_s=0.5)]

    def hush(self) -> list[Step]:
        """Clients that fall silent at the failure heal nothing by writing on."""
        return [self.step("rest")] if self.chance(0.5) else []


# -- the network ------------------------------------------------------------------------------------------------


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


# -- hosts and processes ----------------------------------------------------------------------------------------


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
        draw.step("until", what="protected", most_s=5.0),
        *draw.aim(),
        draw.step("take over", keep=draw.keep()),
        *draw.hush(),
    ]


def site_power_cut(draw: Draw) -> list[Step]:
    """Both hosts lose power, and only the secondary comes back at first: what was flushed is there."""
    return [
        draw.step("until", what="protected", most_s=5.0),
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
    return [draw.step("until", what="protected", most_s=5.0), *draw.aim(), draw.step("switch"), *draw.hush()]


def ordered_stop(draw: Draw) -> list[Step]:
    """SIGTERM of hastd on one node or on both, in any order; a power cut or a lost link in the middle; the other node
    asks for the role at any moment."""
    first = str(draw.one("primary", "primary", "primary", "secondary"))
    steps = [draw.step("until", what="protected", most_s=5.0), *draw.aim(), draw.step("stop", node=first)]
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


# -- disks --------------------------------------------------------------------------------------------------------


def _after_failure(draw: Draw) -> list[Step]:
    """What strikes a pair that has just seen an operation fail: nothing, mostly."""
    steps = [draw.step("until", what="disk failed", most_s=2.0)]
    if draw.chance(0.25):
        steps += [draw.later(0.05, "cut")]
    elif draw.chance(0.2):
        steps += [draw.later(0.05, "kill", node=draw.node())]
    return [*steps, *draw.hush(), draw.step("wait", seconds=round(draw.random() * 3, 3))]


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
    steps = [draw.step("until", what="protected", most_s=5.0), draw.step("replace disk", node="secondary")]
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
        draw.step("until", what="protected", most_s=5.0),
        *draw.aim(),
        draw.step("break disk", node="primary"),
        *draw.hush(),
        draw.step("wait", seconds=2.0),
        draw.step("replace disk", node="primary"),
    ]


def secondary_disk_broken(draw: Draw) -> list[Step]:
    """The secondary's disk fails for good and is replaced."""
    return [
        draw.step("until", what="protected", most_s=5.0),
        *draw.aim(),
        draw.step("break disk", node="secondary"),
        *draw.hush(),
        draw.step("wait", seconds=2.0),
        draw.step("replace disk", node="secondary"),
    ]


# -- apart ----------------------------------------------------------------------------------------------------------


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
        draw.step("until", what="protected", most_s=5.0),
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


DISASTERS: tuple[Disaster, ...] = (
    link_flap,
    link_flaps_quickly,
    link_falls_silent,
    handshake_falls_silent,
    link_slow,
    primary_worker_killed,
    secondary_worker_killed,
    secondary_power_cut,
    primary_power_cut,
    fail_over,
    site_power_cut,
    fail_over_during_sync,
    planned_switch,
    switch_under_load,
    ordered_stop,
    hastd_killed,
    write_errors,
    read_errors,
    flush_errors,
    flush_cut_short,
    sync_cut_short,
    store_errors,
    errors_during_sync,
    write_fails_beside_a_copy,
    slow_disk,
    secondary_disk_replaced,
    primary_disk_broken,
    secondary_disk_broken,
    both_serve,
    outdated_promoted,
    arbiter_away,
    arbiter_chooses,
    frozen_by_hand,
    *rare.RARE,
)
ONLY_WITH_ARBITER = frozenset({arbiter_away, arbiter_chooses}) | rare.RARE_ONLY_WITH_ARBITER
NEVER_WITH_ARBITER = frozenset({both_serve, outdated_promoted}) | rare.RARE_NEVER_WITH_ARBITER

CHAOS: tuple[tuple[str, dict[str, tuple[Argument, ...]]], ...] = (
    ("cut", {}),
    ("cut", {}),
    ("kill hastd", {"node": ("a", "b")}),
    ("restart hastd", {}),
    ("network", {"up": (True, False)}),
    ("silence", {}),
    ("fail", {"node": ("a", "b"), "op": ("read",), "count": (1, 2)}),
    ("fail", {"node": ("a", "b"), "op": ("write",), "count": (1, 2)}),
    ("fail", {"node": ("a", "b"), "op": ("write",), "count": (1, 2)}),
    ("fail", {"node": ("a", "b"), "op": ("flush",), "count": (1, 2)}),
    ("fail", {"node": ("a", "b"), "op": ("flush",), "count": (1, 2)}),
    ("slow", {"node": ("a", "b"), "factor": (1.0, 1.0, 10.0)}),
    ("kill", {"node": ("primary",)}),
    ("kill", {"node": ("secondary",)}),
    ("power off", {"node": ("secondary",), "keep": (0.0, 0.5, 0.9)}),
    ("power on", {"node": ("secondary",)}),
    ("power on", {"node": ("secondary",)}),
    ("freeze", {}),
    ("thaw", {}),
    ("thaw", {}),
    ("reach", {"node": ("a",), "up": (True, False)}),
)
MOMENTS = (
    "acknowledged",
    "handshake",
    "opening",
    "copying",
    "copied",
    "flushing",
    "closing",
    "going ahead",
    "giving lead",
)


def draw(seed: int, family: Family | None = None, replication: Replication | None = None) -> Schedule:
    """The schedule of a seed; family and mode follow from it where none is given."""
    family = family or FAMILIES[seed % 3]
    replication = replication or MODES[seed // 3 % 3]
    number = seed // 9
    chance = Draw(f"schedule {seed} {family} {replication}")
    extensions = family is not Family.REFERENCE
    if family is Family.CHAOS or (family is Family.REFERENCE and number % 3 == 2):
        steps, alone, arbiter = _chaos(chance), False, chance.chance(0.3)
        return Schedule(seed, replication, tuple(steps), extensions, arbiter, alone, strict=False, note="chaos")
    arbiter = number % 3 == 1
    alone = chance.chance(0.2)
    names, steps = _plain(chance, number, arbiter, alone)
    rate = int(chance.one(0, 0, 0, 2_000, 20_000))
    return Schedule(seed, replication, tuple(steps), extensions, arbiter, alone, rate, note=", ".join(names))


def _plain(draw: Draw, number: int, arbiter: bool, alone: bool) -> tuple[list[str], list[Step]]:
    names = []
    possible = [d for d in DISASTERS if d not in (NEVER_WITH_ARBITER if arbiter else ONLY_WITH_ARBITER)]
    steps = [draw.habits(), draw.later(1.0, "wait", seconds=0.0)]
    if alone:
        steps += [draw.later(1.0, "power on", node="b"), draw.step("until", what="protected", most_s=5.0)]
    for strike in range(STRIKES):
        if strike == 0:
            disaster = possible[number % len(possible)]
        else:
            disaster = possible[int(draw.random() * len(possible))]
        names.append(disaster.__name__)
        steps += [draw.habits(), draw.later(1.0, "wait", seconds=0.0), *disaster(draw)]
        steps += [draw.later(1.0, "heal"), draw.later(0.5, "wait", seconds=0.0)]
        if draw.chance(0.6):
            steps += [draw.step("settle")]
    return names, steps


def _chaos(draw: Draw) -> list[Step]:
    steps = [draw.habits()]
    for _ in range(CHAOS_STRIKES):
        kind, choices = CHAOS[int(draw.random() * len(CHAOS))]
        if draw.chance(0.25):
            steps.append(draw.step("until", what=draw.one(*MOMENTS), most_s=0.5))
        arguments = {name: draw.one(*values) for name, values in choices.items()}
        steps.append(draw.later(0.4, kind, **arguments))
        if draw.chance(0.15):
            steps.append(draw.habits() if draw.chance(0.7) else draw.step("rest"))
    return steps


def disaster_run(disaster: Disaster, seed: int, replication: Replication, extensions: bool = True) -> Schedule:
    """One disaster alone."""
    chance = Draw(f"{disaster.__name__} {seed} {replication}")
    arbiter = disaster in ONLY_WITH_ARBITER
    steps = [chance.habits(), chance.later(1.0, "wait", seconds=0.3), *disaster(chance), chance.later(1.0, "heal")]
    return Schedule(seed, replication, tuple(steps), extensions, arbiter)
