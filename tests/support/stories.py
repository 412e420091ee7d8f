"""Six states of a pair with three resources, as views for the live view: what an operator meets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hast.watch.picture import read
from hast.watch.problems import find
from hast.watch.rates import between
from hast.watch.top.view import Dialog, View

NOW_S = 1_700_000_000.0
GIB = 1 << 30
BOUNDS = [*((1 << bits) / 1e6 for bits in range(4, 25)), None]

Reply = dict[str, Any]


def resource(name: str, role: str) -> dict[str, Any]:
    primary = role == "primary"
    return {
        "name": name,
        "error": None,
        "role": role,
        "status": "complete",
        "connected": True,
        "not_connected": None,
        "split_brain": None,
        "transition": None,
        "localpath": f"/dev/sd{chr(ord('a') + int(name[-1]))}",
        "remoteaddr": "hast2",
        "replication": "fullsync",
        "device": f"/dev/hast/{name}" if primary else None,
        "workerpid": 100,
        "dirty": 2 << 20 if primary else 0,
        "at_risk_bytes": 0 if primary else None,
        "missing_bytes": {"local": 0, "peer": 0} if primary else None,
        "arbiter": {"verdict": "serve", "lease_left_s": 12.0, "epoch": 3, "alone": False} if primary else None,
        "sync": None,
        "problems": [],
        "statistics": {"reads": 0, "writes": 0, "read_bytes": 0, "write_bytes": 0},
        "latency": {},
    }


def node(host: str, role: str) -> dict[str, Any]:
    master = role == "primary"
    vhid = {"vhid": 1, "interface": "eth0", "state": "MASTER" if master else "BACKUP", "by_hand": None, "data": "good"}
    names = ["disk1", "disk2", "disk3"]
    return {
        "host": host,
        "time": NOW_S,
        "since": NOW_S - 277_200,
        "release": "0.1.0+abc",
        "pid": 1,
        "resources": [resource(name, role) for name in names],
        "carp": {"vhids": [vhid | {"addresses": ["10.10.10.180/24"], "resources": names}], "error": None},
        "failover": {
            "verb": "master" if master else "slave",
            "phase": "done",
            "started_s": NOW_S - 7300,
            "finished_s": NOW_S - 7297,
        },
        "parts": {"time": NOW_S - 2, "parts": {f"role {name}": master for name in names} | {"pool zhast": master}},
    }


def healthy() -> Reply:
    peer = {"resources": ["disk1", "disk2", "disk3"], "address": "hast2", "asked": True, "error": None}
    return {"error": None, "node": node("hast1", "primary"), "peers": [peer | {"node": node("hast2", "secondary")}]}


def _event(seconds_ago: float, resource_name: str, event: str, text: str) -> dict[str, Any]:
    return {"time": NOW_S - seconds_ago, "resource": resource_name, "event": event, "text": text}


EVENTS = [
    _event(7298, "disk1", "role", "secondary to primary"),
    _event(7297, "disk2", "role", "secondary to primary"),
    _event(7297, "disk3", "role", "secondary to primary"),
    _event(7290, "disk1", "connect", "connected to hast2"),
    _event(7290, "disk2", "connect", "connected to hast2"),
    _event(7290, "disk3", "connect", "connected to hast2"),
]


def _here(reply: Reply) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reply["node"]["resources"]
    return found


def _there(reply: Reply) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reply["peers"][0]["node"]["resources"]
    return found


def resync(reply: Reply) -> None:
    for index, side in enumerate(_here(reply)):
        done = (40, 41, 38)[index]
        side["status"] = "synchronizing"
        side["dirty"] = side["at_risk_bytes"] = 100 * GIB * (100 - done) // 100
        side["missing_bytes"] = {"local": 0, "peer": side["dirty"]}
        side["sync"] = {
            "direction": "to-peer",
            "total_bytes": 100 * GIB,
            "done_bytes": done * GIB,
            "rate_bytes_s": 118 << 20,
            "left_s": 535.0,
        }
    for side in _there(reply):
        side["status"], side["inconsistent"] = "synchronizing", True
        text = "The local copy is inconsistent: a synchronisation from the other node has not finished."
        side["problems"] = [{"kind": "inconsistent", "text": text}]


def degraded(reply: Reply) -> None:
    reply["peers"][0] |= {"node": None, "error": "hast2: No route to host."}
    for side in _here(reply):
        apart = {"since": NOW_S - 195, "reason": "No route to host"}
        side |= {"status": "degraded", "connected": False, "not_connected": apart, "at_risk_bytes": 300 << 20}
        side["missing_bytes"] = {"local": 0, "peer": 300 << 20}
        side["arbiter"]["alone"] = True


def split_brain(reply: Reply) -> None:
    for primary, sides in ((True, _here(reply)), (False, _there(reply))):
        for side in sides[:2]:
            apart = {"since": NOW_S - 40, "reason": "Split-brain detected."}
            side |= {"status": "degraded" if primary else "-", "connected": False, "not_connected": apart}
            side["split_brain"] = {
                "since": NOW_S - 900,
                "local": {"extents": 3, "bytes": 6 << 20},
                "peer": {"extents": 5, "bytes": 10 << 20},
                "reason": "no policy is configured (split-brain)",
            }
            side["problems"] = [{"kind": "split-brain", "text": "Split-brain detected."}]


def disk_failed(reply: Reply) -> None:
    side = _here(reply)[1]
    side |= {"status": "degraded", "missing_bytes": {"local": 12 << 20, "peer": 0}}
    side["problems"] = [
        {"kind": "disk", "text": "The local disk failed: Input/output error; reads go to the other node."}
    ]


def failing_over(reply: Reply) -> None:
    """Seen from the host that takes over."""
    reply["node"] = node("hast2", "secondary")
    reply["peers"][0] |= {"node": None, "address": "hast1", "error": "hast1 does not answer."}
    reply["node"]["carp"]["vhids"][0] |= {"state": "MASTER"}
    reply["node"]["failover"] = {"verb": "master", "phase": "running", "started_s": NOW_S - 2}
    for side, phase in zip(_here(reply), ("starting", "starting", "asking the arbiter"), strict=True):
        apart = {"since": NOW_S - 4, "reason": "Connection timed out"}
        side |= {"status": "-", "connected": False, "not_connected": apart}
        side["transition"] = f"secondary to primary, {phase}"
    side = _here(reply)[0]
    side["role"], side["status"] = "primary", "degraded"


STORIES: dict[str, Callable[[Reply], None]] = {
    "healthy": lambda _reply: None,
    "resync": resync,
    "degraded": degraded,
    "split_brain": split_brain,
    "disk_failed": disk_failed,
    "failing_over": failing_over,
}
MORE_EVENTS = {
    "resync": [
        _event(345, name, what, text)
        for name in ("disk1", "disk2", "disk3")
        for what, text in (("connect", "connected to hast2"), ("syncstart", "100.0GB to the other node"))
    ],
    "degraded": [_event(195, f"disk{number}", "disconnect", "No route to host") for number in (1, 2, 3)],
    "split_brain": [_event(8, "disk1", "split-brain", "Split-brain detected"), _event(8, "disk2", "split-brain", "")],
    "disk_failed": [_event(61, "disk2", "disk-failed", "Input/output error")],
    "failing_over": [_event(4, f"disk{number}", "disconnect", "Connection timed out") for number in (1, 2, 3)],
}


def _loaded(reply: Reply) -> Reply:
    """Two seconds later, after some work."""
    later = copy.deepcopy(reply)
    for side in (*_here(later), *([] if later["peers"][0]["node"] is None else _there(later))):
        if side["role"] == "primary" and not side["transition"]:
            side["statistics"] = {"reads": 240, "writes": 2468, "read_bytes": 3 << 20, "write_bytes": 19 << 20}
            local = [[bound, {5: 90, 6: 20, 9: 2}.get(index, 0)] for index, bound in enumerate(BOUNDS)]
            peer = [[bound, {7: 80, 8: 20, 10: 3}.get(index, 0)] for index, bound in enumerate(BOUNDS)]
            side["latency"] = {"read": {"local": {"buckets": local}}, "write": {"local": {"buckets": local}}}
            if side["connected"]:
                side["latency"]["write"]["peer"] = {"buckets": peer}
    for told in (later["node"], later["peers"][0]["node"]):
        if told is not None:
            told["time"] += 2
    return later


def view(name: str, selected: int = 0, dialog: Dialog | None = None) -> View:
    """One of STORIES."""
    reply = healthy()
    STORIES[name](reply)
    before, picture = read(reply), read(_loaded(reply))
    events = [*EVENTS, *MORE_EVENTS.get(name, [])]
    problems = find(picture, NOW_S)
    return View(picture, problems, NOW_S, between(before, picture), events, selected, 0.0, dialog)
