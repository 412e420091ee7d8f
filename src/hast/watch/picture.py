"""Both nodes as one picture, made of an answer to `report` (docs/control.md). Pure: no I/O.

What the picture shows is what the two hastd say; what is wrong with it is found by problems.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Status = Mapping[str, Any]
"""A status object of docs/control.md."""


@dataclass(frozen=True, slots=True)
class Node:
    """One of the two hosts. `error`: why nothing is known of it, else empty."""

    name: str
    """What the host calls itself; its address where it has not answered."""
    is_here: bool
    error: str = ""
    is_asked: bool = True
    """False where the link has no keys, so that the other node is not asked."""
    time_s: float = 0.0
    """Its clock when it answered."""
    since_s: float = 0.0
    """The start of its hastd."""
    release: str = ""
    resources: Mapping[str, Status] = field(default_factory=dict)
    vhids: tuple[Mapping[str, Any], ...] = ()
    """carpd's status objects; empty where none is known."""
    failover: Mapping[str, Any] | None = None
    """The last run of failover(8) there."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Pools, services, exports as hast-devd last found them: true up, false down, null neither, text: what is wrong."""
    parts_s: float = 0.0
    """When that was, by its clock."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One resource: its status on this node and on the other, None where that is not known."""

    name: str
    here: Status | None
    there: Status | None
    other: Node | None
    """The node that has the other copy; None for a resource without one."""

    @property
    def sides(self) -> Iterator[Status]:
        """Of both those that are known."""
        return (each for each in (self.here, self.there) if each is not None)

    @property
    def primary(self) -> Status | None:
        """The side that serves."""
        return next((each for each in self.sides if each.get("role") == "primary"), None)

    @property
    def status(self) -> str:
        """In one word: `split-brain`, or what the primary says, or this node where there is none."""
        if any(each.get("split_brain") for each in self.sides):
            return "split-brain"
        told = self.primary or self.here or self.there
        return str(told.get("status") or "-") if told else "unknown"


@dataclass(frozen=True, slots=True)
class Picture:
    """This node comes first."""

    nodes: tuple[Node, ...]
    pairs: tuple[Pair, ...]

    @property
    def here(self) -> Node:
        return self.nodes[0]


def unknown(name: str, error: str) -> Picture:
    """Of a node whose hastd does not answer."""
    return Picture((Node(name, True, error),), ())


def read(reply: Mapping[str, Any]) -> Picture:
    """The picture in an answer to `report`. Whatever in it is not as it should be is left out."""
    here = _node(_object(reply.get("node")), is_here=True)
    answers = [each for each in _list(reply.get("peers")) if isinstance(each, Mapping)]
    other_of: dict[str, Node] = {}
    others: dict[str, Node] = {}
    for answer in answers:
        node = _other(answer)
        known = others.get(node.name)
        if known is not None and not node.error:
            node = _joined(known, node)
        others[node.name] = node
        for name in _list(answer.get("resources")):
            other_of[str(name)] = node
    pairs = tuple(_pair(name, status, other_of.get(name)) for name, status in here.resources.items())
    return Picture((here, *others.values()), pairs)


def _pair(name: str, here: Status, other: Node | None) -> Pair:
    return Pair(name, here, other.resources.get(name) if other is not None else None, other)


def _other(answer: Mapping[str, Any]) -> Node:
    report = answer.get("node")
    if isinstance(report, Mapping):
        return _node(report, is_here=False)
    error = str(answer.get("error") or "it has not answered")
    return Node(str(answer.get("address") or "the other node"), False, error, is_asked=answer.get("asked") is not False)


def _node(report: Mapping[str, Any], *, is_here: bool) -> Node:
    resources = {str(each["name"]): _tidy(each) for each in _list(report.get("resources")) if _is_status(each)}
    carp = _object(report.get("carp"))
    failover = report.get("failover")
    looked = _object(report.get("parts"))
    return Node(
        str(report.get("host") or "?"),
        is_here,
        time_s=_number(report.get("time")),
        since_s=_number(report.get("since")),
        release=str(report.get("release") or ""),
        resources=resources,
        vhids=tuple(_tidy(each) for each in _list(carp.get("vhids")) if _is_vhid(each)),
        failover=failover if isinstance(failover, Mapping) else None,
        parts=_object(looked.get("parts")),
        parts_s=_number(looked.get("time")),
    )


def _joined(one: Node, more: Node) -> Node:
    """A host that was asked twice, because its resources are not all known by the same keys or addresses."""
    resources = {**one.resources, **more.resources}
    return replace(more, resources=resources)


def _is_status(found: Any) -> bool:
    return isinstance(found, Mapping) and isinstance(found.get("name"), str) and not found.get("error")


def _is_vhid(found: Any) -> bool:
    return isinstance(found, Mapping) and isinstance(found.get("vhid"), int)


_LISTS = frozenset({"problems", "history", "resources", "addresses"})
_OBJECTS = frozenset({"sync", "not_connected", "split_brain", "arbiter", "missing_bytes", "statistics", "latency"})
_SIZES = frozenset({"total_bytes", "done_bytes"})


def _tidy(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what is not of its kind made empty, so that nobody who reads it has to ask."""
    kept = {
        key: ([] if key in _LISTS and not isinstance(value, list) else value)
        for key, value in found.items()
        if not (key in _SIZES and not _is_size(value))
    }
    for key in _OBJECTS & kept.keys():
        kept[key] = kept[key] if isinstance(kept[key], Mapping) else None
    return kept | {"sync": _tidy(kept["sync"])} if kept.get("sync") else kept


def _is_size(found: Any) -> bool:
    return isinstance(found, int) and 0 <= found < 1 << 63


def _object(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _number(found: Any) -> float:
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool) and abs(found) < 1e18
    return float(found) if is_number else 0.0
