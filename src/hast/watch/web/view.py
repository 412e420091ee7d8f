"""What the page shows of a picture of both nodes, as one JSON document. Pure: no I/O, the time is handed in.

The browser words nothing and decides nothing: levels, sentences, shares and commands are made here. Texts of nodes are
cut to a length, lists to a number, so that no node can make the document larger than the page can bear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hast.watch.catalogue import kind_of
from hast.watch.picture import Node, Pair, Picture, Status
from hast.watch.problems import Problem, find, level_of
from hast.watch.web.plans import plans_of
from hast.watch.web.trouble import TITLES, grouped, in_order
from hast.watch.web.values import mapping, text
from hast.watch.words import number

MAX_RESOURCES = 128
MAX_VHIDS = 16


def document(picture: Picture, now_s: float, stale_since_s: float | None = None, trouble: str = "") -> dict[str, Any]:
    """With `stale_since_s` the picture is the last one that was had, and `trouble` is why there is no newer one."""
    problems = in_order(find(picture, now_s))
    if stale_since_s is not None:
        problems = [Problem("hastd-down", kind_of("hastd-down").level, "", picture.here.name, trouble), *problems]
    level = level_of(problems)
    return {
        "now_s": now_s,
        "stale_since_s": stale_since_s,
        "level": level.name.lower(),
        "headline": _headline(picture, problems, stale_since_s),
        "nodes": [_node(node, picture) for node in picture.nodes[:8]],
        "resources": [_resource(pair, picture) for pair in picture.pairs[:MAX_RESOURCES]],
        "left_out": max(0, len(picture.pairs) - MAX_RESOURCES),
        "problems": grouped(problems, picture),
        "plans": [] if stale_since_s is not None else plans_of(picture),
    }


def _headline(picture: Picture, problems: list[Problem], stale_since_s: float | None) -> str:
    if stale_since_s is not None:
        return "hastd of this node does not answer; below is what was last known"
    moving = [node for node in picture.nodes if mapping(node.failover).get("phase") == "running"]
    if moving:
        return text(f"A fail-over is under way on {' and '.join(node.name for node in moving)}")
    if problems:
        grave = problems[0]
        names = dict.fromkeys(each.resource for each in problems if each.code == grave.code and each.resource)
        return text(TITLES.get(grave.code, grave.code) + (f": {', '.join(names)}" if names else ""))
    if not picture.pairs:
        return "No resource is configured"
    if not any(pair.primary for pair in picture.pairs):
        return "No resource is in use"
    return "Both copies of every resource are equal" if _all_whole(picture) else "Nothing is wrong that is known of"


def _all_whole(picture: Picture) -> bool:
    return all(pair.status == "complete" for pair in picture.pairs)


def _node(node: Node, picture: Picture) -> dict[str, Any]:
    roles = [str(each.get("role")) for each in node.resources.values()]
    arbiters = [mapping(each.get("arbiter")) for each in node.resources.values() if each.get("arbiter")]
    return {
        "name": text(node.name),
        "here": node.is_here,
        "error": text(node.error),
        "asked": node.is_asked,
        "release": text(node.release),
        "time_s": number(node.time_s) or None,
        "roles": {role: roles.count(role) for role in ("primary", "secondary", "init") if role in roles},
        "vhids": [_vhid(each) for each in node.vhids[:MAX_VHIDS]],
        "failover": _failover(node.failover),
        "arbiter": _arbiter(arbiters),
        "services": _pool(node),
    }


def _pool(node: Node) -> dict[str, str] | None:
    """Whether what stands on the resources is up, as the last run of failover(8) left it."""
    run = node.failover or {}
    if run.get("verb") not in ("master", "slave"):
        return None
    up = run.get("verb") == "master"
    states = {
        "done": "up" if up else "down, as it should be",
        "failed": "not all up" if up else "not all down",
        "running": "coming up" if up else "going down",
        "gave way": "given up for a later order",
    }
    return {"state": states.get(str(run.get("phase")), text(run.get("phase")))}


def _vhid(vhid: Mapping[str, Any]) -> dict[str, Any]:
    addresses = vhid.get("addresses")
    return {
        "vhid": text(vhid.get("vhid")),
        "interface": text(vhid.get("interface")),
        "addresses": [text(each) for each in addresses[:8]] if isinstance(addresses, list) else [],
        "state": text(vhid.get("state")),
        "since_s": number(vhid.get("since")),
        "link": text(vhid.get("link")),
        "note": text(vhid.get("waiting_for") or vhid.get("undecided") or (vhid.get("by_hand") and "ordered by hand")),
    }


def _failover(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not run:
        return None
    failures = mapping(run.get("failures"))
    return {
        "verb": text(run.get("verb")),
        "phase": text(run.get("phase")),
        "step": text(run.get("step")),
        "started_s": number(run.get("started_s")),
        "finished_s": number(run.get("finished_s")),
        "failures": [f"{text(name)}: {text(why)}" for name, why in list(failures.items())[:16]],
    }


def _arbiter(found: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The worst of those that the primaries of this node have."""
    if not found:
        return None
    worst = max(found, key=lambda each: ("serve", "freeze", "step down").index(_verdict(each)))
    left = [left_s for each in found if (left_s := number(each.get("lease_left_s"))) is not None]
    return {
        "verdict": _verdict(worst),
        "lease_left_s": min(left, default=None),
        "alone": any(each.get("alone") is True for each in found),
    }


def _verdict(arbiter: Mapping[str, Any]) -> str:
    said = str(arbiter.get("verdict"))
    return said if said in ("serve", "freeze", "step down") else "freeze"


def _resource(pair: Pair, picture: Picture) -> dict[str, Any]:
    told = pair.primary or pair.here or pair.there or {}
    here, other = text(picture.here.name), text(pair.other.name) if pair.other is not None else ""
    return {
        "name": text(pair.name),
        "status": text(pair.status),
        "size_bytes": number(told.get("datasize")),
        "replication": text(told.get("replication")),
        "tls": text(told.get("tls")),
        "other": other,
        "here": _side(pair.here),
        "there": _side(pair.there),
        "there_error": text(pair.other.error) if pair.other is not None else "It has no second copy.",
        "at_risk_bytes": number(told.get("at_risk_bytes")),
        "sync": _sync(pair, here, other),
        "split": _split(pair, here, other),
    }


def _side(status: Status | None) -> dict[str, Any] | None:
    if status is None:
        return None
    problems = status.get("problems")
    kinds = (
        {each.get("kind") for each in problems if isinstance(each, Mapping)} if isinstance(problems, list) else set()
    )
    return {
        "role": text(status.get("role")),
        "transition": text(status.get("transition")),
        "copy": _copy(status, kinds),
        "path": text(status.get("localpath")),
    }


def _copy(status: Status, kinds: set[Any]) -> dict[str, str]:
    """The state of this copy: a word, and how grave it is."""
    if "disk" in kinds:
        return {"word": "disk failed", "level": "critical"}
    if "provider" in kinds:
        return {"word": "not opened", "level": "critical"}
    if status.get("split_brain"):
        return {"word": "changed alone", "level": "critical"}
    if status.get("inconsistent"):
        return {"word": "incomplete", "level": "warning"}
    if status.get("stale"):
        return {"word": "outdated", "level": "warning"}
    missing = number(mapping(status.get("missing_bytes")).get("local"))
    if missing:
        return {"word": "being completed", "level": "warning"}
    if status.get("role") == "init":
        return {"word": "not in use", "level": "none"}
    if status.get("status") == "complete" or status.get("role") == "primary":
        return {"word": "whole", "level": "ok"}
    return {"word": "behind" if status.get("status") == "synchronizing" else "apart", "level": "warning"}


def _sync(pair: Pair, here: str, other: str) -> dict[str, Any] | None:
    told = next((each for each in (pair.primary, pair.here, pair.there) if each and each.get("sync")), None)
    if told is None:
        return None
    sync = mapping(told.get("sync"))
    total, done = number(sync.get("total_bytes")) or 0, number(sync.get("done_bytes")) or 0
    mine, theirs = (here, other) if told is pair.here else (other, here)
    to_peer = sync.get("direction") == "to-peer"
    return {
        "share": max(0.0, min(done / total, 0.999)) if total else 0.0,
        "total_bytes": total,
        "done_bytes": done,
        "rate_bytes_s": number(sync.get("rate_bytes_s")),
        "left_s": number(sync.get("left_s")),
        "source": mine if to_peer else theirs,
        "target": theirs if to_peer else mine,
    }


def _split(pair: Pair, here: str, other: str) -> dict[str, Any] | None:
    told = next((each for each in pair.sides if each.get("split_brain")), None)
    if told is None:
        return None
    apart = mapping(told.get("split_brain"))
    mine, theirs = (here, other) if told is pair.here else (other, here)
    sides = [(mine, mapping(apart.get("local"))), (theirs, mapping(apart.get("peer")))]
    together = apart.get("together")
    return {
        "since_s": number(apart.get("since")),
        "detected_s": number(apart.get("detected")),
        "reason": text(apart.get("reason")),
        "differing_bytes": number(apart.get("differing_bytes")),
        "together": [text(each) for each in together[:32]] if isinstance(together, list) else [],
        "sides": [
            {"node": node, "bytes": number(each.get("bytes")), "since_s": number(each.get("since"))}
            for node, each in sorted(sides, key=lambda side: side[0] != here)
        ],
    }
