"""What a rehearsal consists of: its steps in order, what each does, and what has to come of it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hast.config.model import ArbiterKind
from hast.drill.decisions.site import Site

HICCUP_S = 1.2
"""TCP has sent a lost segment a third time by then."""
TAKE_OVER_S = 40.0
"""By then somebody serves, or nobody will; waits of the configuration are added."""


class Kind(StrEnum):
    """What a step is about; findings say which kinds they explain."""

    START = "start"
    MOVE = "move"
    LINK = "link"
    HICCUP = "hiccup"
    PROCESS = "process"
    ARBITER = "arbiter"
    DOUBLE = "double"


class Wants(StrEnum):
    """Who has to serve afterwards."""

    OTHER = "the other host serves"
    SAME = "the same host serves on"
    EITHER = "either host serves"
    ANY = "what comes of it is told"


@dataclass(frozen=True, slots=True)
class Step:
    """`action` names a function of faults.py; `does` is for people, MASTER and SLAVE stand for who is it then."""

    action: str
    kind: Kind
    does: str
    wants: Wants
    fact: str = ""
    """What else has to be so: a word of rehearsal.py."""

    @property
    def is_double(self) -> bool:
        return self.kind is Kind.DOUBLE


START = Step("start", Kind.START, "both hosts boot", Wants.ANY)

SINGLE: tuple[Step, ...] = (
    Step("switch", Kind.MOVE, "planned switch: carpctl state backup on the master", Wants.OTHER),
    Step("client_cable", Kind.MOVE, "cable of the client network pulled from the master", Wants.OTHER),
    Step("master_power", Kind.MOVE, "power cut of the master", Wants.OTHER),
    Step("both_cables", Kind.MOVE, "all cables pulled from the master, back when it has let go", Wants.OTHER),
    Step("link_cable", Kind.LINK, "replication cable pulled from the master", Wants.SAME),
    Step("hiccup", Kind.HICCUP, f"replication silent for {HICCUP_S:g} s", Wants.SAME, "still connected"),
    Step("slave_client_cable", Kind.LINK, "cable of the client network pulled from the slave", Wants.SAME),
    Step("slave_power", Kind.LINK, "power cut of the slave", Wants.SAME),
    Step("worker_killed", Kind.PROCESS, "a worker of the master killed", Wants.SAME),
    Step("hastd_killed", Kind.PROCESS, "hastd of the master killed, started again", Wants.SAME),
    Step(
        "hastd_and_workers_killed", Kind.PROCESS, "hastd and workers of the master killed, started again", Wants.EITHER
    ),
    Step("carpd_killed", Kind.PROCESS, "carpd of the master killed, started again", Wants.EITHER),
    Step("devd_killed", Kind.PROCESS, "hast-devd of the master killed, started again", Wants.SAME),
    Step("slave_hastd_killed", Kind.PROCESS, "hastd and workers of the slave killed, started again", Wants.SAME),
    Step("slave_carpd_killed", Kind.PROCESS, "carpd of the slave killed, started again", Wants.SAME),
)
SERVICE = Step("service_killed", Kind.PROCESS, "what clients use is killed on the master", Wants.SAME)
ARBITER = Step("arbiter_lost", Kind.ARBITER, "power cut of the arbiter", Wants.SAME)
DOUBLE: tuple[Step, ...] = (
    Step(
        "link_then_master",
        Kind.DOUBLE,
        "replication cable pulled; clients write on; power cut of the master",
        Wants.ANY,
    ),
    Step(
        "slave_then_master",
        Kind.DOUBLE,
        "power cut of the slave; clients write on; power cut of the master; the slave boots alone",
        Wants.ANY,
    ),
    Step(
        "cables_out_and_in",
        Kind.DOUBLE,
        "all cables pulled from the master, and put back as soon as the slave serves",
        Wants.ANY,
    ),
    Step("both_power", Kind.DOUBLE, "power cut of both at once; both boot", Wants.ANY),
    Step("both_power_one_boots", Kind.DOUBLE, "power cut of both at once; the slave boots alone", Wants.ANY),
)
DOUBLE_ARBITER = Step(
    "arbiter_then_master", Kind.DOUBLE, "power cut of the arbiter; power cut of the master", Wants.ANY
)
REPEATED = ("client_cable", "master_power", "both_cables")
"""What is done again in every further round."""
SHORT = ("client_cable", "master_power", "hiccup")
"""What `--short` leaves of the single failures; of double ones nothing."""


def steps_of(site: Site, rounds: int, short: bool, has_pool: bool) -> Iterator[tuple[int, Step]]:
    """(round, step) in order; the start comes first and counts to the first round."""
    yield 1, START
    singles = [step for step in SINGLE if not short or step.action in SHORT]
    arbitrated = site.arbiter.kind in (ArbiterKind.WITNESS, ArbiterKind.ETCD)
    if has_pool and not short:
        singles.append(SERVICE)
    if arbitrated and not short:
        singles.append(ARBITER)
    yield from ((1, step) for step in singles)
    for number in range(2, rounds + 1):
        yield from ((number, step) for step in singles if step.action in REPEATED)
    if not short:
        yield from ((1, step) for step in (*DOUBLE, *([DOUBLE_ARBITER] if arbitrated else [])))


def patience_s(site: Site, step: Step) -> float:
    """How long to wait until somebody serves again."""
    resources = [resource for node in site.nodes for resource in node.hast.resources.values()]
    link_s = max((resource.timeout_s for resource in resources), default=0)
    alone_s = max((resource.wait_for_peer_s for resource in resources), default=0) if step.is_double else 0
    delay_s = max(node.failover.delay_s for node in site.nodes)
    carp_s = max((group.advbase_s * 4 for node in site.nodes for group in node.carp.groups), default=0)
    return TAKE_OVER_S + min(link_s, 60) + min(alone_s, 60) + min(delay_s, 60) + min(carp_s, 60)


def estimate_s(site: Site, steps: list[tuple[int, Step]]) -> float:
    """About how long the steps take, from runs on a small machine."""
    link_s = min(max((each.timeout_s for each in site.nodes[0].hast.resources.values()), default=0), 60)
    known = {"slave_then_master": 60.0, "both_power_one_boots": 60.0, "link_cable": 8.0 + link_s, "slave_power": 12.0}
    return sum(known.get(step.action, 30.0 if step.is_double else 9.0) for _, step in steps) + 10.0
