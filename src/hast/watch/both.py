"""`hastctl status --both`: one block a resource with both sides beside each other, then what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hast.watch.picture import Node, Pair, Picture, Status
from hast.watch.problems import Problem
from hast.watch.words import clock, duration, moment, number, percent, size

UNKNOWN = "?"
NOTHING = "-"
_MARGIN = 2
_LABEL = 12
_MIN_COLUMN = 22


def lines(picture: Picture, problems: Collection[Problem], names: Collection[str] = ()) -> list[str]:
    """Of these resources, or of all; what concerns a whole node comes last."""
    found: list[str] = []
    for pair in picture.pairs:
        if not names or pair.name in names:
            found += _block(picture, pair)
            found += _problem_lines(each for each in problems if each.resource == pair.name)
    found += _nodes(picture)
    return found + _problem_lines(each for each in problems if not each.resource)


def _block(picture: Picture, pair: Pair) -> list[str]:
    heads = [f"{picture.here.name} (here)", pair.other.name if pair.other is not None else NOTHING]
    rows = [("", heads)]
    silent = pair.other is not None and pair.there is None
    for label, of_side in _ROWS:
        cells = [NOTHING if side is None else of_side(side) for side in (pair.here, pair.there)]
        if silent:
            cells[1] = UNKNOWN
        if label in _ALWAYS or any(cell not in (NOTHING, UNKNOWN) for cell in cells):
            rows.append((label, cells))
    return [f"{pair.name}: {pair.status}", *_columns(rows)]


def _columns(rows: list[tuple[str, list[str]]]) -> Iterator[str]:
    width = max([_MIN_COLUMN, *(len(cells[0]) + 2 for _label, cells in rows)])
    label_width = max([_LABEL, *(len(label) + 2 for label, _cells in rows)])
    for label, (first, second) in rows:
        yield f"{' ' * _MARGIN}{label:<{label_width}}{first:<{width}}{second}".rstrip()


def _dirty(side: Status) -> str:
    """A secondary cannot know."""
    return size(side.get("dirty") or 0) if side.get("role") == "primary" else NOTHING


def _not_connected(side: Status) -> str:
    apart = side.get("not_connected")
    if not isinstance(apart, Mapping):
        return NOTHING
    return f"since {moment(apart['since'])}" if isinstance(apart.get("since"), (int, float)) else "yes"


def _sync(side: Status) -> str:
    sync = side.get("sync")
    return sync_line(sync) if isinstance(sync, Mapping) else NOTHING


def sync_line(sync: Mapping[str, Any]) -> str:
    """`40.0% to the other, 120MB/s, 1m 20s left`."""
    where = {"to-peer": "to the other", "from-peer": "from the other"}.get(str(sync.get("direction")), "")
    rate = size(sync.get("rate_bytes_s") or 0)
    return f"{percent(sync):.1f}% {where}, {rate}/s, {duration(sync.get('left_s'))} left"


def _at_risk(side: Status) -> str:
    found = side.get("at_risk_bytes")
    return NOTHING if number(found) is None else size(found)


def _copy(side: Status) -> str:
    """What is known of the local copy as it lies on the disk."""
    marks = [word for word in ("inconsistent", "stale") if side.get(word)]
    if any(isinstance(each, Mapping) and each.get("kind") == "disk" for each in side.get("problems") or ()):
        marks.append("disk not in use")
    return ", ".join(marks) or "good"


def arbiter_line(side: Status) -> str:
    """`serve, lease 12s`."""
    found = side.get("arbiter")
    if not isinstance(found, Mapping):
        return NOTHING
    lease_s = found.get("lease_left_s")
    lease = f", lease {duration(lease_s)}" if isinstance(lease_s, (int, float)) else ""
    return f"{found.get('verdict')}{lease}{', alone' if found.get('alone') else ''}"


def _text(key: str) -> Callable[[Status], str]:
    return lambda side: str(side.get(key) or NOTHING)


_ROWS: tuple[tuple[str, Callable[[Status], str]], ...] = (
    ("role", _text("role")),
    ("status", _text("status")),
    ("changing", _text("transition")),
    ("disk", _text("localpath")),
    ("copy", _copy),
    ("device", _text("device")),
    ("dirty", _dirty),
    ("at risk", _at_risk),
    ("apart", _not_connected),
    ("resync", _sync),
    ("arbiter", arbiter_line),
)
_ALWAYS = frozenset({"role", "status", "disk", "copy"})


def _nodes(picture: Picture) -> list[str]:
    """Addresses and the last fail-over, where there is anything of the kind."""
    nodes = picture.nodes[:2]
    rows: list[tuple[str, list[str]]] = []
    for vhid in dict.fromkeys(each.get("vhid") for node in nodes for each in node.vhids):
        rows.append((f"vhid {vhid}", [address_state(node, vhid) for node in nodes]))
    if any(node.failover for node in nodes):
        rows.append(("failover", [last_failover(node) for node in nodes]))
    rows = [(label, [*cells, NOTHING][:2]) for label, cells in rows]
    if not rows:
        return []
    heads = [f"{picture.here.name} (here)", *(node.name for node in nodes[1:]), NOTHING][:2]
    return ["node:", *_columns([("", heads), *rows])]


def address_state(node: Node, vhid: object) -> str:
    """MASTER, BACKUP, INIT; `?` where the node is silent."""
    if node.error:
        return UNKNOWN
    return next((str(each.get("state")) for each in node.vhids if each.get("vhid") == vhid), NOTHING)


def last_failover(node: Node) -> str:
    """`master done at 12:03:44`."""
    if node.error:
        return UNKNOWN
    run = node.failover
    if not run:
        return NOTHING
    at_s = run.get("finished_s") or run.get("started_s")
    when = f" at {clock(at_s)}" if isinstance(at_s, (int, float)) else ""
    return f"{run.get('verb')} {run.get('phase')}{when}"


def _problem_lines(problems: Iterator[Problem]) -> list[str]:
    found = []
    for each in problems:
        found += [f"  problem: {each.code} on {each.node}: {each.text}", f"    next step: {each.next_step}"]
    return found


def as_json(reply: Mapping[str, Any], problems: Collection[Problem], names: Collection[str] = ()) -> dict[str, Any]:
    """The answer to `report`, with the problems, of these resources or of all."""
    told = [
        {
            "code": each.code,
            "level": each.level.name,
            "resource": each.resource,
            "node": each.node,
            "text": each.text,
            "next_step": each.next_step,
        }
        for each in problems
        if not names or not each.resource or each.resource in names
    ]
    node = _only(reply.get("node"), names)
    peers = [
        each | {"node": _only(each.get("node"), names)} for each in reply.get("peers") or () if isinstance(each, dict)
    ]
    return {"node": node, "peers": peers, "problems": told}


def _only(node: Any, names: Collection[str]) -> Any:
    if not names or not isinstance(node, dict):
        return node
    kept = [each for each in node.get("resources") or () if isinstance(each, dict) and each.get("name") in names]
    return node | {"resources": kept}
