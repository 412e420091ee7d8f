"""What is done to a pair in one run, drawn by a seed: disasters (disasters/), each of which is a short list of steps.

    plain       one disaster after another, each repaired before the next: nothing acknowledged may be lost
    chaos       failures upon failures, none repaired before the next: losses that no pair survives are excused
    reference   either of them, without our extensions to the protocol

Every disaster comes up about as often as every other, in every mode, within any few hundred seeds in a row.
"""

from __future__ import annotations

from enum import StrEnum

from hast.config.model import SYNC_AUTO
from hast.format.constants import Replication
from hast.sim.disasters import apart, disks, hosts, network, rare, readers, service, verifying
from hast.sim.disasters.draw import Disaster, Draw
from hast.sim.schedule import Argument, Schedule, Step

STRIKES = 3
CHAOS_STRIKES = 40
BALANCED = 0.4
"""Of the runs, in which the peer serves reads, too."""
MODES = list(Replication)


class Family(StrEnum):
    """The kinds of run."""

    PLAIN = "plain"
    CHAOS = "chaos"
    REFERENCE = "reference"


FAMILIES = list(Family)

DISASTERS: tuple[Disaster, ...] = (
    network.link_flap,
    network.link_flaps_quickly,
    network.link_falls_silent,
    network.handshake_falls_silent,
    network.link_slow,
    hosts.primary_worker_killed,
    hosts.secondary_worker_killed,
    hosts.secondary_power_cut,
    hosts.primary_power_cut,
    hosts.fail_over,
    hosts.site_power_cut,
    hosts.fail_over_during_sync,
    hosts.planned_switch,
    hosts.switch_under_load,
    hosts.ordered_stop,
    hosts.hastd_killed,
    disks.write_errors,
    disks.read_errors,
    disks.flush_errors,
    disks.flush_cut_short,
    disks.sync_cut_short,
    disks.store_errors,
    disks.errors_during_sync,
    disks.write_fails_beside_a_copy,
    disks.write_fails_while_the_peer_goes,
    disks.slow_disk,
    disks.secondary_disk_replaced,
    disks.primary_disk_broken,
    disks.secondary_disk_broken,
    apart.both_serve,
    apart.outdated_promoted,
    apart.arbiter_away,
    apart.arbiter_chooses,
    apart.arbiter_forgets,
    apart.arbiter_forgets_unseen,
    apart.frozen_by_hand,
    *rare.RARE,
    *service.SERVICE,
    *readers.READERS,
    *verifying.VERIFYING,
)
FORGETFUL = frozenset({apart.arbiter_forgets, apart.arbiter_forgets_unseen})
ONLY_WITH_ARBITER = frozenset({apart.arbiter_away, apart.arbiter_chooses}) | FORGETFUL | rare.RARE_ONLY_WITH_ARBITER
NEVER_WITH_ARBITER = frozenset({apart.both_serve, apart.outdated_promoted}) | rare.RARE_NEVER_WITH_ARBITER

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
    ("kill", {"node": ("primary",), "resend": (True, False)}),
    ("kill", {"node": ("secondary",), "resend": (True, False)}),
    ("hang", {"node": ("a", "b")}),
    ("answer", {"node": ("a",), "errors": (True, False)}),
    ("answer", {"node": ("b",), "errors": (True, False)}),
    ("detach", {"node": ("a", "b")}),
    ("attach", {"node": ("a",)}),
    ("attach", {"node": ("b",)}),
    ("power off", {"node": ("secondary",), "keep": (0.0, 0.5, 0.9)}),
    ("power on", {"node": ("secondary",)}),
    ("power on", {"node": ("secondary",)}),
    ("freeze", {}),
    ("thaw", {}),
    ("thaw", {}),
    ("reach", {"node": ("a",), "up": (True, False)}),
    ("verify", {"repair": (True, False)}),
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
        rate, balanced = int(chance.one(0, 0, SYNC_AUTO)), chance.chance(BALANCED)
        return Schedule(
            seed, replication, tuple(steps), extensions, arbiter, alone, rate, balanced, strict=False, note="chaos"
        )
    arbiter = number % 3 == 1
    alone = chance.chance(0.2)
    names, steps = _plain(chance, number, arbiter, alone)
    rate = int(chance.one(0, 0, SYNC_AUTO, 2_000, 20_000))
    balanced = chance.chance(BALANCED)
    return Schedule(seed, replication, tuple(steps), extensions, arbiter, alone, rate, balanced, note=", ".join(names))


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
