"""Pictures of a pair of nodes as somebody sees them who looks at six different moments; every figure is made up.

The counters grow as those of a pair under load do, so that a history can be made of several moments of one sight.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from hast.watch.picture import Picture, read

GIB = 1 << 30
DISK_BYTES = 1000 * GIB
DISKS = ("disk1", "disk2", "disk3")
NODES = ("hasta", "hastb")
LOST = "The connection was lost: no answer for 5 s."
ADDRESS = "192.168.100.105/24"
BUCKETS_S = [(1 << bits) / 1e6 for bits in range(4, 25)]

Report = dict[str, Any]


class Sight:
    """What is seen at `now_s` and in the ten minutes before; `change` alters the report of a moment."""

    def __init__(self, now_s: float, change: Callable[[Sight, Report, float], None] | None = None) -> None:
        self.now_s = now_s
        self._change = change

    def at(self, time_s: float) -> Picture:
        return read(self.report(time_s))

    def report(self, time_s: float) -> Report:
        nodes = [self._node(time_s, number) for number in (0, 1)]
        entry = {"resources": list(DISKS), "address": "tcp4://10.0.0.2", "asked": True, "error": None, "node": nodes[1]}
        report: Report = {"error": None, "node": nodes[0], "peers": [entry]}
        if self._change is not None:
            self._change(self, report, time_s)
        return report

    def _node(self, time_s: float, number: int) -> Report:
        first = number == 0
        since_s = self.now_s - 9 * 3600
        vhid = {
            "name": "carp0",
            "vhid": 1,
            "interface": "eth0",
            "addresses": [ADDRESS],
            "state": "MASTER" if first else "BACKUP",
            "since": since_s + (0 if first else 2.0),
            "link": "up",
            "resources": list(DISKS),
        }
        verb = "master" if first else "slave"
        run = {"verb": verb, "phase": "done", "started_s": since_s, "finished_s": since_s + 1.7, "failures": {}}
        return {
            "host": NODES[number],
            "time": time_s,
            "since": since_s - 60,
            "release": "0.1.0+4f2a91c",
            "pid": 812 + number,
            "resources": [self._status(time_s, name, first=first) for name in DISKS],
            "carp": {"vhids": [vhid], "error": None},
            "failover": run,
        }

    def _status(self, time_s: float, name: str, *, first: bool) -> Report:
        since_s = self.now_s - 9 * 3600
        events = [
            event(since_s - 50, "role", name, "The role is secondary now."),
            event(since_s - 40, "connect", name, "Connected to the other node."),
            event(since_s + 0.4, "role", name, f"The role is {'primary' if first else 'secondary'} now."),
        ]
        status: Report = {
            "name": name,
            "error": None,
            "role": "primary" if first else "secondary",
            "status": "complete",
            "connected": True,
            "not_connected": None,
            "split_brain": None,
            "transition": None,
            "tls": "on",
            "replication": "fullsync",
            "localpath": f"/dev/disk/by-id/ata-{name}",
            "datasize": DISK_BYTES,
            "dirty": 0,
            "at_risk_bytes": 0 if first else None,
            "missing_bytes": {"local": 0, "peer": 0} if first else None,
            "sync": None,
            "problems": [],
            "workerpid": 900,
            "history": events if name == "disk1" else [],
        }
        return status | _figures(time_s - self.now_s + 3600, DISKS.index(name))


def event(time_s: float, word: str, resource: str, text: str, level: str = "info") -> Report:
    return {"seq": 1, "time": time_s, "event": word, "resource": resource, "text": text, "level": level}


def _figures(elapsed_s: float, phase: int) -> Report:
    """Counters that grow by a load which rises and falls."""
    sway = sum(math.sin(elapsed_s / period + phase) * period for period in (47.0, 13.0, 5.0))
    writes = 420.0 * (elapsed_s + 0.28 * sway)
    reads = 260.0 * (elapsed_s + 0.33 * sway)
    busy = writes * 0.02 + 60 * (elapsed_s // 83) + 25 * (elapsed_s // 31)
    counted = {"reads": int(reads), "writes": int(writes), "deletes": 0, "flushes": int(writes / 40)}
    counted |= {"read_bytes": int(reads * 48e3), "write_bytes": int(writes * 36e3), "delete_bytes": 0}
    latency = {
        "read": {"local": _times((reads, 0.00008), (busy / 4, 0.0006))},
        "write": {"local": _times((writes, 0.00012), (busy / 3, 0.0008))},
    }
    latency["write"]["peer"] = _times((writes, 0.0004), (busy, 0.0019))
    return {"statistics": counted, "latency": latency, "queues": {}}


def _times(*groups: tuple[float, float]) -> Report:
    """How many around which time: a bell on the scale of the buckets each."""
    counts = [0] * len(BUCKETS_S)
    for count, middle_s in groups:
        weights = [math.exp(-((math.log2(upper / middle_s)) ** 2) / 1.1) for upper in BUCKETS_S]
        for place, weight in enumerate(weights):
            counts[place] += int(count * weight / sum(weights))
    return {"buckets": [*([upper, count] for upper, count in zip(BUCKETS_S, counts, strict=True)), [None, 0]]}


def _pairs(report: Report) -> list[tuple[Report, Report | None]]:
    other = report["peers"][0]["node"]
    theirs = other["resources"] if other else [None] * len(DISKS)
    return list(zip(report["node"]["resources"], theirs, strict=True))


def resync(sight: Sight, report: Report, time_s: float) -> None:
    """hastb was away for a minute; 40 % of what it lacks is copied on disk2."""
    began_s = sight.now_s - 212
    if time_s < began_s - 63:
        return
    for (mine, theirs), share, lacks in zip(_pairs(report), (1.0, 0.4, 0.71), (0, 41, 41), strict=True):
        assert theirs is not None
        name = mine["name"]
        gone = [event(began_s - 63, "disconnect", name, LOST, "warning")]
        gone += [event(began_s, "connect", name, "Connected to the other node.")]
        total = lacks * GIB
        gone += [event(began_s + 0.2, "syncstart", name, f"Synchronisation to the peer: {lacks or 18} GiB.")]
        if time_s < began_s:
            mine |= {"status": "degraded", "connected": False, "at_risk_bytes": 3 * GIB}
            theirs |= {"status": "degraded", "connected": False}
            continue
        if not lacks:
            gone += [event(began_s + 131, "syncdone", name, "Synchronisation is complete.")]
            for each in (mine, theirs):
                each["history"] = [*each["history"], *gone]
            continue
        done = int(total * share * (time_s - began_s) / 212)
        rate = int(total * share / 212 * (1 + 0.08 * math.sin(time_s / 9 + lacks)))
        sync = {"total_bytes": total, "done_bytes": done, "rate_bytes_s": rate, "left_s": (total - done) / rate}
        mine |= {"status": "synchronizing", "sync": sync | {"direction": "to-peer"}, "at_risk_bytes": total - done}
        mine["missing_bytes"] = {"local": 0, "peer": total - done}
        theirs |= {"status": "synchronizing", "sync": sync | {"direction": "from-peer"}, "inconsistent": True}
        text = "This copy is in the middle of a synchronisation."
        theirs["problems"] = [{"kind": "inconsistent", "text": text}]
        mine["history"] = [*mine["history"], *gone]


def degraded(sight: Sight, report: Report, time_s: float) -> None:
    """The cable between both nodes is pulled; hastb is not heard."""
    since_s = sight.now_s - 384
    if time_s < since_s:
        return
    for mine, _theirs in _pairs(report):
        reason = "10.0.0.2 does not answer"
        mine |= {"status": "degraded", "connected": False, "not_connected": {"since": since_s, "reason": reason}}
        mine["at_risk_bytes"] = int((time_s - since_s) * 6.1e6)
        del mine["latency"]["write"]["peer"]
        mine["history"] = [*mine["history"], event(since_s, "disconnect", mine["name"], LOST, "warning")]
    report["peers"][0] |= {"error": "tcp4://10.0.0.2 does not answer.", "node": None}


def split_brain(sight: Sight, report: Report, time_s: float) -> None:
    """Both were primary while the line was cut."""
    since_s = sight.now_s - 1450
    for (mine, theirs), mib in zip(_pairs(report), (96, 96, 94), strict=True):
        assert theirs is not None
        sides = {"bytes": mib << 20, "since": since_s}, {"bytes": 6 << 20, "since": since_s + 41}
        apart = {"since": since_s, "detected": since_s + 700, "differing_bytes": (mib + 4) << 20}
        apart |= {"reason": "No policy is set that says whose changes are kept.", "together": []}
        apart["together"] = [name for name in DISKS if name != mine["name"]]
        mine |= {"status": "degraded", "connected": False, "split_brain": apart | {"local": sides[0], "peer": sides[1]}}
        theirs |= {"status": "-", "connected": False, "workerpid": 0}
        theirs["split_brain"] = apart | {"local": sides[1], "peer": sides[0]}
        mine["at_risk_bytes"] = mib << 20
        text = "Both nodes have changes that the other lacks."
        happened = [event(since_s + 700, "split-brain", mine["name"], text, "error")]
        mine["history"] = [*mine["history"], event(since_s, "disconnect", mine["name"], "", "warning"), *happened]


def disk_failed(sight: Sight, report: Report, time_s: float) -> None:
    since_s = sight.now_s - 143
    if time_s < since_s:
        return
    mine, _theirs = _pairs(report)[1]
    text = "The local disk failed a write: Input/output error. The other node's copy is used alone."
    mine |= {"status": "degraded", "problems": [{"kind": "disk", "text": text}], "stale": True}
    mine |= {"missing_bytes": {"local": 12 * GIB, "peer": 0}, "at_risk_bytes": 0, "peer_whole": True}
    mine["history"] = [*mine["history"], event(since_s, "disk-failed", "disk2", text, "error")]


def failing_over(sight: Sight, report: Report, time_s: float) -> None:
    """hasta, where somebody looks, is about to serve; hastb lost its power."""
    began_s = sight.now_s - 3
    if time_s < began_s:
        for mine, theirs in _pairs(report):
            assert theirs is not None
            mine["role"], theirs["role"] = "secondary", "primary"
        report["node"]["carp"], report["peers"][0]["node"]["carp"] = (
            report["peers"][0]["node"]["carp"],
            report["node"]["carp"],
        )
        return
    for number, (mine, _theirs) in enumerate(_pairs(report)):
        lost = event(
            began_s - 1.2, "disconnect", mine["name"], "The connection was lost: no answer for 5 s.", "warning"
        )
        mine |= {"status": "degraded", "connected": False, "missing_bytes": None, "at_risk_bytes": 0}
        mine["not_connected"] = {"since": began_s - 1.2, "reason": "10.0.0.2 does not answer"}
        mine |= {"role": "primary"} if number < 2 else {"role": "secondary", "transition": "primary"}
        now_primary = [event(began_s + 0.8, "role", mine["name"], "The role is primary now.")] if number < 2 else []
        mine["history"] = [*mine["history"], lost, *now_primary]
    report["node"]["carp"]["vhids"][0]["since"] = began_s
    step = "resource disk3 → primary"
    report["node"]["failover"] = {"verb": "master", "phase": "running", "started_s": began_s, "step": step}
    report["peers"][0] |= {"error": "tcp4://10.0.0.2 does not answer.", "node": None}


SIGHTS: dict[str, Callable[[Sight, Report, float], None] | None] = {
    "healthy": None,
    "resync": resync,
    "degraded": degraded,
    "split-brain": split_brain,
    "disk-failed": disk_failed,
    "failover": failing_over,
}


class SightSource:
    """In the place of watch/source.py: answers with a sight at the moment that `clock` says."""

    def __init__(self, sight: Sight, clock: Callable[[], float]) -> None:
        self.sight = sight
        self._clock = clock

    async def picture(self) -> Picture:
        return self.sight.at(self._clock())

    async def events(self, since: int | None = None) -> AsyncIterator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}
