"""What is wrong in a picture of both nodes, gravest first. Pure: no I/O, the time is handed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hast.config.common_settings import differing
from hast.watch.catalogue import CATALOGUE, Level, kind_of
from hast.watch.picture import Node, Pair, Picture, Status
from hast.watch.words import duration, percent, size

MASTER = "MASTER"
SETTLED = frozenset({"MASTER", "BACKUP"})
TOLD_BY_HASTD = frozenset({"split-brain", "degraded"})
"""Said once for the pair, not again for what each side calls a problem."""
SYNCHRONIZING = "synchronizing"
SHOWN_AS = {"replication": "replication", "name": "provname", "tls": "tls"}
"""Settings whose value a status shows, and where."""
TOLD_BY_A_COPY = frozenset({"inconsistent", "stale"})
"""What `synchronizing` says as well."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a lasting trouble becomes a grave one. None: never."""

    degraded_critical_s: float | None = 3600.0
    at_risk_critical_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """`resource` is empty for what concerns the whole node; `node` is the name of the host it was seen on."""

    code: str
    level: Level
    resource: str
    node: str
    text: str

    @property
    def next_step(self) -> str:
        """The first thing to do about it."""
        return kind_of(self.code).steps[0].replace("NAME", self.resource or "NAME")


def level_of(found: list[Problem]) -> Level:
    """The worst; a node that cannot be asked is worse than a warning and less than what is known to be grave."""
    order = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)
    return max((each.level for each in found), key=order.index, default=Level.OK)


USUAL = Limits()


def find(picture: Picture, now_s: float, limits: Limits = USUAL) -> list[Problem]:
    """All problems, gravest first, each once."""
    found = [*_of_nodes(picture), *_of_addresses(picture)]
    for pair in picture.pairs:
        found += _of_pair(picture, pair, now_s, limits)
    order = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)
    place = {code: index for index, code in enumerate(CATALOGUE)}

    def rank(each: Problem) -> tuple[int, str, int, str]:
        return order.index(each.level), each.resource, place.get(each.code, len(place)), each.node

    return sorted(dict.fromkeys(found), key=rank)


def _problem(code: str, resource: str, node: str, text: str, level: Level | None = None) -> Problem:
    return Problem(code, kind_of(code).level if level is None else level, resource, node, text)


def _of_nodes(picture: Picture) -> Iterator[Problem]:
    for node in picture.nodes:
        if node.error and (node.is_here or node.is_asked):
            yield _problem("hastd-down" if node.is_here else "peer-unknown", "", node.name, node.error)
        run = node.failover or {}
        failures = run.get("failures")
        if run.get("phase") == "failed":
            said = "; ".join(f"{name}: {why}" for name, why in failures.items()) if isinstance(failures, dict) else ""
            text = f"failover {run.get('verb')} failed{': ' if said else ''}{said}."
            yield _problem("failover-failed", "", node.name, text)


def _of_addresses(picture: Picture) -> Iterator[Problem]:
    """What both carpd say of the same virtual address."""
    if any(node.error for node in picture.nodes) or len(picture.nodes) < 2:
        return
    seen: dict[object, list[tuple[Node, Mapping[str, Any]]]] = {}
    for node in picture.nodes:
        for vhid in node.vhids:
            seen.setdefault(vhid.get("vhid"), []).append((node, vhid))
    for number, sides in seen.items():
        states = [str(vhid.get("state")) for _node, vhid in sides]
        masters = [node for node, vhid in sides if vhid.get("state") == MASTER]
        if len(masters) > 1:
            names = " and ".join(node.name for node in masters)
            yield _problem("two-masters", "", masters[0].name, f"vhid {number} is MASTER on {names}.")
        elif not masters and len(sides) > 1 and set(states) <= SETTLED | {"INIT"}:
            yield _problem("no-master", "", sides[0][0].name, f"vhid {number} is {' and '.join(states)}.")


def _of_pair(picture: Picture, pair: Pair, now_s: float, limits: Limits) -> Iterator[Problem]:
    here = picture.here.name
    names = {id(pair.here): here, id(pair.there): pair.other.name if pair.other is not None else ""}
    yield from _of_roles(pair, here)
    yield from _of_settings(pair, names)
    is_copying = pair.primary is not None and pair.primary.get("status") == SYNCHRONIZING
    for side in pair.sides:
        yield from _of_side(side, names[id(side)], TOLD_BY_HASTD | (TOLD_BY_A_COPY if is_copying else frozenset()))
    yield from _of_copies(pair, names, now_s, limits)
    primary = pair.primary
    if primary is not None and not primary.get("transition"):
        yield from _of_its_addresses(picture, pair.name, names[id(primary)])


def _of_its_addresses(picture: Picture, resource: str, serving: str) -> Iterator[Problem]:
    """Those that carp.conf ties to the resource, and that are where its data are not."""
    held = {node.name: _held_for(node, resource) for node in picture.nodes}
    for node in picture.nodes:
        if node.name != serving:
            for number in held[node.name] - held.get(serving, set()):
                text = f"vhid {number} is MASTER on {node.name}, {serving} is primary."
                yield _problem("address-apart", resource, node.name, text)


def _held_for(node: Node, resource: str) -> set[Any]:
    """Numbers of the vhids of this resource that are MASTER there."""
    return {
        vhid.get("vhid")
        for vhid in node.vhids
        if vhid.get("state") == MASTER and resource in (vhid.get("resources") or ())
    }


def _of_roles(pair: Pair, here: str) -> Iterator[Problem]:
    sides = list(pair.sides)
    roles = [str(each.get("role")) for each in sides]
    if roles.count("primary") > 1:
        yield _problem("two-primaries", pair.name, here, "Both nodes are primary.")
    elif len(sides) == 2 and "primary" not in roles and not any(each.get("transition") for each in sides):
        yield _problem("no-primary", pair.name, here, f"The roles are {' and '.join(roles)}.")
    if pair.there is None and pair.other is not None and not pair.other.error:
        text = f"{pair.other.name} does not have it, or not with this node."
        yield _problem("here-only", pair.name, here, text)


def _of_settings(pair: Pair, names: Mapping[int, str]) -> Iterator[Problem]:
    """What hast.conf has otherwise on the other node; with the values where both statuses show them."""
    here, there = pair.here, pair.there
    if here is None or there is None:
        return
    ours, theirs = here.get("settings"), there.get("settings")
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        return
    found = []
    for setting in differing(ours, theirs):
        shown = SHOWN_AS.get(setting)
        values = [f"{each.get(shown)} on {names[id(each)]}" for each in (here, there)] if shown else []
        found.append(f"{setting} ({', '.join(values)})" if values else setting)
    if found:
        yield _problem("configuration", pair.name, names[id(here)], f"hast.conf differs in: {', '.join(found)}.")


def _of_side(side: Status, node: str, told: frozenset[str]) -> Iterator[Problem]:
    """What hastd there calls a problem, but for the kinds that are `told` otherwise."""
    name = str(side.get("name"))
    apart = side.get("split_brain")
    if apart:
        reason = apart.get("reason") if isinstance(apart, Mapping) else None
        yield _problem("split-brain", name, node, str(reason or "Both nodes have changes that the other lacks."))
    for each in side.get("problems") or ():
        if isinstance(each, Mapping) and each.get("kind") not in told:
            yield _problem(str(each.get("kind")), name, node, str(each.get("text")))


def _of_copies(pair: Pair, names: Mapping[int, str], now_s: float, limits: Limits) -> Iterator[Problem]:
    primary = pair.primary
    if primary is None or any(side.get("split_brain") for side in pair.sides):
        return
    node = names[id(primary)]
    if primary.get("status") == SYNCHRONIZING:
        yield _problem("synchronizing", pair.name, node, sync_in_words(primary))
    elif primary.get("status") == "degraded" and pair.other is not None and not _lost_its_disk_alone(primary):
        apart = primary.get("not_connected") or {}
        since_s = apart.get("since")
        lasts_s = max(0.0, now_s - since_s) if isinstance(since_s, (int, float)) else 0.0
        reason = str(apart.get("reason") or "one copy counts").rstrip(".")
        grave = limits.degraded_critical_s is not None and lasts_s >= limits.degraded_critical_s
        text = f"{reason}, for {duration(lasts_s)}." if since_s else f"{reason}."
        yield _problem("degraded", pair.name, node, text, Level.CRITICAL if grave else None)
    at_risk = primary.get("at_risk_bytes")
    limit = limits.at_risk_critical_bytes
    if limit is not None and isinstance(at_risk, int) and at_risk >= limit:
        yield _problem("degraded", pair.name, node, f"{size(at_risk)} would be lost with this node.", Level.CRITICAL)


def _lost_its_disk_alone(primary: Status) -> bool:
    """`disk` says it, and more."""
    return bool(primary.get("connected")) and any(
        isinstance(each, Mapping) and each.get("kind") == "disk" for each in primary.get("problems") or ()
    )


def sync_in_words(status: Status) -> str:
    """`40.0% of 10.0GB are copied to the other node.` and the like."""
    sync = status.get("sync")
    if not isinstance(sync, Mapping):
        return "The copies are not equal yet."
    where = {"to-peer": " to the other node", "from-peer": " from the other node"}.get(str(sync.get("direction")), "")
    return f"{percent(sync):.1f}% of {size(int(sync.get('total_bytes') or 0))} are copied{where}."
