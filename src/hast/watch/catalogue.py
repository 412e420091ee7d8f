"""Every kind of trouble that is reported by its code: how grave, what it means, what to do (`hastctl explain CODE`).

One table: the words of status, metrics, notifications and the manual page are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """The exit codes of a check, as Nagios and its like read them."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """`meaning` is one sentence; `steps` are what to do, in order, `NAME` being the resource."""

    code: str
    level: Level
    meaning: str
    steps: tuple[str, ...]


_KINDS = (
    Kind(
        "hastd-down",
        Level.UNKNOWN,
        "hastd of this node does not answer; its workers may serve and replicate on without it.",
        ("systemctl status hastd", "journalctl -u hastd -n 50", "systemctl start hastd"),
    ),
    Kind(
        "peer-unknown",
        Level.WARNING,
        "The other node's hastd does not answer the question how it is.",
        ("on the other node: systemctl status hastd", "check the network between both nodes"),
    ),
    Kind(
        "split-brain",
        Level.CRITICAL,
        "Both nodes have written without each other; one side's changes will have to be given up.",
        (
            "find out which node has the data to keep: hastctl status NAME, on both",
            "on the other one: hastctl resolve --discard-local NAME",
        ),
    ),
    Kind(
        "two-primaries",
        Level.CRITICAL,
        "Both nodes are primary: two groups of clients may be writing different data.",
        ("stop the clients of one node", "there: hastctl role secondary NAME"),
    ),
    Kind(
        "no-primary",
        Level.CRITICAL,
        "Neither node is primary: nobody serves the resource.",
        (
            "failover status, on both nodes",
            "on the node that is to serve: failover master, or hastctl role primary NAME",
        ),
    ),
    Kind(
        "frozen",
        Level.CRITICAL,
        "The primary holds writes until it is known that it may go on alone.",
        ("bring back the other node or the arbiter", "if this node is to go on: hastctl status NAME says how"),
    ),
    Kind(
        "arbiter-lost",
        Level.WARNING,
        "The arbiter does not answer the primary; without it, and without the other node, writes would be held.",
        ("look at the arbiter and the way to it", "docs/failures.md, The arbiter is away"),
    ),
    Kind(
        "disk",
        Level.CRITICAL,
        "The local disk failed or was taken out of service; the other node's copy is used alone.",
        (
            "look at the disk: dmesg, smartctl",
            "hastctl replace NAME /dev/NEW, or hastctl attach NAME if it is well again",
        ),
    ),
    Kind(
        "provider",
        Level.CRITICAL,
        "The local provider cannot be opened, or holds no metadata of this resource.",
        ("check `local` in hast.conf", "for a new disk: hastctl create NAME"),
    ),
    Kind(
        "worker",
        Level.CRITICAL,
        "The worker process of the resource is not running, or does not answer.",
        ("journalctl -u hastd -n 50", "hastctl status NAME"),
    ),
    Kind(
        "degraded",
        Level.WARNING,
        "There is one copy that counts: what is written now is lost with this node.",
        ("bring back the other node, its hastd, or the network", "hastctl status NAME says since when and why"),
    ),
    Kind(
        "synchronizing",
        Level.WARNING,
        "A copy is being made; until it is complete there is one copy that counts.",
        ("wait; hastctl wait synced NAME", "hastctl status NAME shows rate and time left"),
    ),
    Kind(
        "inconsistent",
        Level.WARNING,
        "The copy is in the middle of a synchronisation; it can be used alone by force only, with loss.",
        ("let the synchronisation end", "if the other node is lost for good: hastctl role --force primary NAME"),
    ),
    Kind(
        "stale",
        Level.WARNING,
        "The copy missed writes that the other node has.",
        ("connect the nodes again; what is missing is copied by itself",),
    ),
    Kind(
        "refused",
        Level.WARNING,
        "The other node refuses the connection.",
        ("do what the reason says", "compare hast.conf of both nodes: hastctl check, on both"),
    ),
    Kind(
        "configuration",
        Level.WARNING,
        "The two nodes have different configurations of the resource.",
        ("make hast.conf the same on both", "hastctl check; then systemctl reload hastd, on both"),
    ),
    Kind(
        "here-only",
        Level.WARNING,
        "Only one of the two nodes has this resource in its configuration.",
        ("make hast.conf the same on both", "systemctl reload hastd, on both"),
    ),
    Kind(
        "slow-disk",
        Level.WARNING,
        "One of the two disks is far slower than the other, and holds up both.",
        ("look at that disk: smartctl, iostat -x", "hastctl replace NAME /dev/NEW, on its node"),
    ),
    Kind(
        "copies-differ",
        Level.CRITICAL,
        "Compared block for block (hastctl verify), the two copies are not the same, or a part of one cannot be read.",
        (
            "find out which copy is right: a scrub or check of what lies on it; smartctl and memory on both nodes",
            "where this node's is: hastctl verify --repair NAME",
            "else: failover slave, and hastctl verify --repair NAME on the other node when it is primary",
            "a disk that cannot read: hastctl replace NAME /dev/NEW, on its node",
        ),
    ),
    Kind(
        "last-error",
        Level.WARNING,
        "What was last ordered or tried for the resource failed.",
        ("do what the text says, and order it again",),
    ),
    Kind(
        "address-apart",
        Level.WARNING,
        "The virtual address is on one node and the data are served by the other.",
        ("failover status, on both nodes", "on the node with the address: failover master"),
    ),
    Kind(
        "two-masters",
        Level.CRITICAL,
        "Both nodes hold the virtual address.",
        ("check that advertisements pass between both nodes (IP protocol 112)", "carpctl status, on both"),
    ),
    Kind(
        "no-master",
        Level.CRITICAL,
        "Neither node holds the virtual address: clients reach nobody.",
        ("carpctl status, on both", "carpctl state VHID auto, where it was ordered by hand"),
    ),
    Kind(
        "failover-failed",
        Level.CRITICAL,
        "The last run of failover did not do all that it should.",
        ("failover status says which part and why", "mend it, then run the same again: failover master, or slave"),
    ),
)

CATALOGUE = {kind.code: kind for kind in _KINDS}
"""By code, gravest first among those that touch the same thing."""

OTHER = Kind("other", Level.WARNING, "Something this program has no word for.", ("see the text of the problem",))


def kind_of(code: str) -> Kind:
    """What is known of a code; OTHER for one of a newer hastd."""
    return CATALOGUE.get(code, OTHER)
