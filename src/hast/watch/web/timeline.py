"""What happened on both nodes, in order of time: events, changes of addresses, fail-overs. Pure; of bounded length.

Made of what each picture tells (the last events of each resource, the last fail-over, since when an address is where it
is) and of the events that hastd of this node sends, so that what a node forgets is kept while somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hast.watch.picture import Node, Picture
from hast.watch.web.values import text
from hast.watch.web.view import MAX_VHIDS
from hast.watch.words import number

MAX_ENTRIES = 250
MAX_EVENTS_EACH = 32
TOGETHER = 16
AT_ONCE_S = 2.0

Entry = dict[str, Any]
LEVELS = {"info": "ok", "warning": "warning", "error": "critical", "critical": "critical"}


class Timeline:
    """Newest first. An entry is there once, however often it is told."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Any, ...], Entry] = {}
        self.version = 0
        """Grows with each change."""

    def add_picture(self, picture: Picture) -> None:
        for node in picture.nodes:
            for entry in (*_of_resources(node), *_of_addresses(node), *_of_failover(node)):
                self._add(entry, node.is_here)

    def add_event(self, event: Mapping[str, Any], here: str) -> None:
        """One of hastd's on this node."""
        entry = _of_event(event, here)
        if entry is not None:
            self._add(entry, True)

    def entries(self) -> list[Entry]:
        told: list[Entry] = []
        for entry in sorted(self._entries.values(), key=lambda each: -each["time_s"]):
            before = next((each for each in told[-TOGETHER:] if _is_same(each, entry)), None)
            if before is None:
                told.append(dict(entry))
            else:
                names = [*before["resource"].split(", "), entry["resource"]]
                before["resource"] = text(", ".join(sorted(dict.fromkeys(names))))
        return told

    def _add(self, entry: Entry, is_here: bool) -> None:
        key = (is_here, round(entry["time_s"], 3), entry["kind"], entry["event"], entry["resource"])
        if self._entries.get(key) == entry:
            return
        self._entries[key] = entry
        self.version += 1
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[min(self._entries, key=lambda each: self._entries[each]["time_s"])]


def _is_same(one: Entry, other: Entry) -> bool:
    """What happened to several resources at once is said once."""
    alike = all(one[key] == other[key] for key in ("kind", "node", "event", "text", "level"))
    return alike and bool(one["resource"] and other["resource"]) and one["time_s"] - other["time_s"] <= AT_ONCE_S


def _entry(kind: str, node: str, time_s: float, event: object, resource: object, said: object, level: str) -> Entry:
    return {
        "kind": kind,
        "time_s": time_s,
        "node": text(node),
        "event": text(event),
        "resource": text(resource),
        "text": text(said),
        "level": level,
    }


def _of_resources(node: Node) -> Iterator[Entry]:
    for status in node.resources.values():
        history = status.get("history")
        for event in history[-MAX_EVENTS_EACH:] if isinstance(history, list) else ():
            entry = _of_event(event, node.name) if isinstance(event, Mapping) else None
            if entry is not None:
                yield entry


def _of_event(event: Mapping[str, Any], node: str) -> Entry | None:
    time_s = number(event.get("time"))
    if time_s is None or not event.get("event"):
        return None
    level = LEVELS.get(str(event.get("level")), "ok")
    return _entry("event", node, time_s, event["event"], event.get("resource"), event.get("text"), level)


def _of_addresses(node: Node) -> Iterator[Entry]:
    for vhid in node.vhids[:MAX_VHIDS]:
        since_s = number(vhid.get("since"))
        if since_s:
            name = f"vhid {vhid.get('vhid')}"
            yield _entry("address", node.name, since_s, name, "", f"{name} became {vhid.get('state')}.", "ok")


def _of_failover(node: Node) -> Iterator[Entry]:
    run = node.failover or {}
    began_s, ended_s = number(run.get("started_s")), number(run.get("finished_s"))
    if began_s is None:
        return
    phase, verb = run.get("phase"), f"failover {run.get('verb')}"
    if phase == "running":
        said, level = f"{verb} is under way.", "warning"
    elif phase == "failed":
        said, level = f"{verb} failed.", "critical"
    else:
        said, level = f"{verb}: {phase}.", "ok"
    if ended_s is not None and phase != "running":
        said = f"{said[:-1]}, after {max(0.0, ended_s - began_s):.1f} s."
    yield _entry("failover", node.name, began_s, verb, "", said, level)
