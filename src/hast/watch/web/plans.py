"""What an administrator can do now, with what has to be true first, the commands in order, and what clients notice.

Pure, made of a picture of both nodes; the page shows it, and hast-order(8) makes it anew before it carries one out.
A plan is there only where it makes sense. Where its first command is for this node and on the closed list of
decisions/actions.py, it says how it can be ordered, else why not. The fingerprint is that of everything it says.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hast.watch.picture import Node, Pair, Picture
from hast.watch.web.decisions.actions import (
    ATTACH,
    COMPARE,
    DETACH,
    DISCARD,
    LEAVE,
    LET_GO,
    REPAIR,
    SERVE,
    TAKE_OVER,
    can_be_ordered,
    to_type,
    words_of,
)
from hast.watch.web.values import mapping, text
from hast.watch.words import size

MAX_PLANS = 16


def plans_of(picture: Picture) -> list[dict[str, Any]]:
    """Those for trouble first."""
    found = [*_resolve(picture), *_attach(picture), *_replace(picture), *_repair(picture), *_serve(picture)]
    return [*found, *_move(picture), *_compare(picture), *_detach(picture)][:MAX_PLANS]


def fingerprint(plan: Mapping[str, Any]) -> str:
    """Of all that the plan says."""
    told = {key: value for key, value in plan.items() if key != "fingerprint"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _plan(
    title: str,
    checks: list[tuple[bool, str]],
    steps: list[tuple[str, str]],
    notice: str,
    order: dict[str, Any] | None = None,
    why_not: str = "",
) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "title": title,
        "ready": all(is_true for is_true, _said in checks),
        "checks": [{"ok": is_true, "text": said} for is_true, said in checks],
        "steps": [{"node": node, "command": command} for node, command in steps],
        "notice": notice,
        "order": order,
        "why_not": "" if order else why_not or f"Its first command is for {steps[0][0]}: see the page of that node.",
    }
    return plan | {"fingerprint": fingerprint(plan)}


def _order(picture: Picture, node: Node, action: str, *targets: str) -> dict[str, Any] | None:
    """How the command can be ordered, where it is for this node."""
    if node is not picture.here or not can_be_ordered(action, targets):
        return None
    typed = to_type(action, targets)
    return {"action": action, "targets": list(targets), "command": _command(action, *targets), "type": typed}


def _command(action: str, *targets: str) -> str:
    """For a shell."""
    return shlex.join(words_of(action, targets))


def _move(picture: Picture) -> Iterator[dict[str, Any]]:
    """The service of one node to the other one."""
    for node in picture.nodes:
        pairs = [pair for pair in picture.pairs if _status_on(pair, node).get("role") == "primary"]
        others = {pair.other.name: pair.other for pair in pairs if pair.other is not None}
        if not pairs or len(others) != 1 or node.error:
            continue
        target = picture.here if not node.is_here else next(iter(others.values()))
        if any(pair.status == "split-brain" for pair in pairs):
            continue
        yield _move_to(picture, node, target, pairs)


def _move_to(picture: Picture, node: Node, target: Node, pairs: list[Pair]) -> dict[str, Any]:
    names = [pair.name for pair in pairs]
    vhid = _standing_by(target, names) if target is picture.here else ""
    notice = f"Clients pause for about two seconds; afterwards {target.name} serves. {node.name} keeps its copy."
    if vhid:
        order = _order(picture, target, TAKE_OVER, vhid)
        steps = [(target.name, _command(TAKE_OVER, vhid)), (target.name, "failover status")]
        notice += f" {target.name} stays master against a better host until `carpctl state {vhid} auto`."
    elif node.vhids:
        order = _order(picture, node, LEAVE)
        steps = [(node.name, _command(LEAVE)), (target.name, "failover status")]
    else:
        order = _order(picture, node, LET_GO, *names)
        steps = [(node.name, _command(LET_GO, *names)), (target.name, _command(SERVE, *names))]
        notice = f"Clients lose the device on {node.name}, and have it on {target.name} after the second command."
    checks = [*_ready(target), *_whole(pairs, target)]
    return _plan(f"Move the service from {node.name} to {target.name}", checks, steps, notice, order)


def _standing_by(node: Node, names: list[str]) -> str:
    """`VHID@INTERFACE` of the one address there that all of these are tied to, if another host holds it."""
    tied = [each for each in node.vhids if each.get("resources")]
    if len(tied) != 1 or tied[0].get("state") != "BACKUP" or not set(names) <= set(tied[0]["resources"]):
        return ""
    return f"{tied[0].get('vhid')}@{tied[0]['interface']}" if tied[0].get("interface") else ""


def _ready(target: Node) -> Iterator[tuple[bool, str]]:
    yield _answers(target)
    if not target.error and target.vhids:
        down = [str(each.get("vhid")) for each in target.vhids if each.get("state") == "INIT"]
        said = f"vhid {', '.join(down)} is INIT on {target.name}" if down else f"carpd of {target.name} stands ready"
        yield not down, said


def _answers(node: Node) -> tuple[bool, str]:
    return not node.error, f"{node.name} answers" if not node.error else f"{node.name} does not answer: {node.error}"


def _whole(pairs: list[Pair], target: Node) -> Iterator[tuple[bool, str]]:
    lacking = [pair.name for pair in pairs if pair.status != "complete" and not _lacks_nothing(pair)]
    if lacking:
        yield False, f"{target.name} has no whole copy of {', '.join(lacking)}"
    else:
        yield True, f"{target.name} has a whole copy of {', '.join(pair.name for pair in pairs)}"


def _lacks_nothing(pair: Pair) -> bool:
    """The copy of the other node, whatever the primary's own one lacks."""
    return pair.primary is not None and pair.primary.get("peer_whole") is True


def _serve(picture: Picture) -> Iterator[dict[str, Any]]:
    """What nobody serves, without an address that says who should. Either node may offer it."""
    if any(node.vhids for node in picture.nodes):
        return
    for pair in picture.pairs:
        roles = [str(each.get("role")) for each in pair.sides]
        if "secondary" not in roles or "primary" in roles or pair.status == "split-brain" or pair.other is None:
            continue
        for node in (picture.here, pair.other):
            status = _status_on(pair, node)
            if status.get("role") == "secondary":
                yield _serve_on(picture, pair, node, picture.here if node is pair.other else pair.other)


def _serve_on(picture: Picture, pair: Pair, node: Node, other: Node) -> dict[str, Any]:
    status = _status_on(pair, node)
    unfit = bool(status.get("inconsistent") or status.get("stale") or status.get("problems"))
    said = f"the copy of {node.name} is not fit to be served" if unfit else f"no flaw of {node.name}'s copy is known"
    return _plan(
        f"{pair.name}: serve it on {node.name}",
        [(not unfit, said), _answers(other), (True, "nobody serves it")],
        [(node.name, _command(SERVE, pair.name))],
        f"Clients find the device on {node.name}.",
        _order(picture, node, SERVE, pair.name),
    )


def _resolve(picture: Picture) -> Iterator[dict[str, Any]]:
    """One plan for each node whose data may be kept; the resources of one pool in one plan."""
    done: set[str] = set()
    for pair in picture.pairs:
        told = next((each["split_brain"] for each in pair.sides if each.get("split_brain")), None)
        if told is None or pair.other is None or pair.name in done:
            continue
        listed = told.get("together") if isinstance(told, dict) else None
        wanted = {pair.name, *(str(each) for each in (listed if isinstance(listed, list) else ()))}
        pairs = [each for each in picture.pairs if each.name in wanted and each.other is pair.other]
        done |= {each.name for each in pairs}
        for keeps, loses in ((picture.here, pair.other), (pair.other, picture.here)):
            yield _keep(picture, pairs, keeps, loses)
        yield from _let_go(picture, pairs)


def _keep(picture: Picture, pairs: list[Pair], keeps: Node, loses: Node) -> dict[str, Any]:
    names = [pair.name for pair in pairs]
    serving = [pair.name for pair in pairs if _status_on(pair, loses).get("role") == "primary"]
    steps = [(loses.name, _command(LET_GO, *names))] if serving else []
    steps += [(loses.name, _command(DISCARD, *names)), (keeps.name, shlex.join(["hastctl", "status", *names]))]
    said = f"{loses.name} is primary for {', '.join(serving)}: it has to let go first, its clients lose the device"
    return _plan(
        f"{', '.join(names)}: keep the data of {keeps.name}",
        [(not serving, said if serving else f"{loses.name} is not primary"), _answers(loses), _answers(keeps)],
        steps,
        f"What was written on {loses.name} alone{_changed(pairs, loses)} is given up for good; "
        "a map of it is kept there.",
        _order(picture, loses, DISCARD, *names) if not serving else None,
        f"{loses.name} has to let go first." if serving and loses is picture.here else "",
    )


def _changed(pairs: list[Pair], node: Node) -> str:
    """How much, at most: more of it is another plan."""
    sides = [_status_on(pair, node).get("split_brain") for pair in pairs]
    told = [each.get("local") for each in sides if isinstance(each, Mapping)]
    found = [each.get("bytes") for each in told if isinstance(each, Mapping)]
    known = [each for each in found if isinstance(each, int) and not isinstance(each, bool)]
    return f" (at most {size(sum(known))})" if known and len(known) == len(pairs) else ""


def _let_go(picture: Picture, pairs: list[Pair]) -> Iterator[dict[str, Any]]:
    serving = [pair.name for pair in pairs if _status_on(pair, picture.here).get("role") == "primary"]
    if serving:
        here = picture.here.name
        yield _plan(
            f"{', '.join(serving)}: stop serving on {here}",
            [(True, f"{here} is primary")],
            [(here, _command(LET_GO, *serving))],
            "Clients lose the device; then the other node's data can be kept. Nothing is given up by this alone.",
            _order(picture, picture.here, LET_GO, *serving),
        )


def _attach(picture: Picture) -> Iterator[dict[str, Any]]:
    """A disk of this node that was taken out of service, or given up."""
    for pair in picture.pairs:
        why = _disk_failed(_status_on(pair, picture.here))
        if why and pair.other is not None:
            yield _plan(
                f"{pair.name}: take the disk of {picture.here.name} into service again",
                [(True, text(why))],
                [(picture.here.name, _command(ATTACH, pair.name))],
                "Clients notice nothing; the disk takes what it lacks from the other node's copy.",
                _order(picture, picture.here, ATTACH, pair.name),
            )


def _compare(picture: Picture) -> Iterator[dict[str, Any]]:
    """What is served here, in one plan."""
    pairs = [pair for pair in picture.pairs if _served_whole(pair)]
    names = [pair.name for pair in pairs]
    if names:
        yield _plan(
            f"Compare both copies of {', '.join(names)}",
            [(True, f"both copies of {', '.join(names)} are connected")],
            [(picture.here.name, _command(COMPARE, *names))],
            "It reads both copies, block for block, behind what clients do; it changes nothing.",
            _order(picture, picture.here, COMPARE, *names),
        )


def _repair(picture: Picture) -> Iterator[dict[str, Any]]:
    """Where a comparison that was made here has found a difference."""
    for pair in picture.pairs:
        last = mapping(pair.here.get("last_verify")) if pair.here is not None else {}
        if last.get("outcome") != "different" or not _served_whole(pair) or pair.other is None:
            continue
        here, there = picture.here.name, pair.other.name
        yield _plan(
            f"{pair.name}: give {there} the data of {here} where they differ",
            [(True, f"{size(last.get('differing_bytes'))} were found to differ"), _answers(pair.other)],
            [(here, _command(REPAIR, pair.name))],
            f"Only where {here} has the good data: what {there} has there is given up for good.",
            _order(picture, picture.here, REPAIR, pair.name),
        )


def _served_whole(pair: Pair) -> bool:
    """By this node, with another copy, and not compared already."""
    mine = pair.here or {}
    return mine.get("role") == "primary" and pair.status == "complete" and bool(pair.other) and not mine.get("verify")


def _detach(picture: Picture) -> Iterator[dict[str, Any]]:
    """For planned work on a disk of this node."""
    for pair in picture.pairs:
        mine = _status_on(pair, picture.here)
        if pair.other is None or pair.status != "complete" or mine.get("role") not in ("primary", "secondary"):
            continue
        there = pair.other.name
        said = f"{there} has a whole copy" if not pair.other.error else f"{there} does not answer"
        yield _plan(
            f"{pair.name}: take the disk of {picture.here.name} out of service",
            [(not pair.other.error, said)],
            [(picture.here.name, _command(DETACH, pair.name))],
            f"Clients notice nothing; until it is in service again only {there} has the data.",
            _order(picture, picture.here, DETACH, pair.name),
        )


def _replace(picture: Picture) -> Iterator[dict[str, Any]]:
    for pair in picture.pairs:
        for node in (picture.here, pair.other):
            if node is None or not _disk_failed(_status_on(pair, node)):
                continue
            other = pair.other if node.is_here else picture.here
            whole = other is not None and not _disk_failed(_status_on(pair, other)) and not other.error
            where = other.name if other is not None else "another node"
            said = f"{where} has a copy to read from" if whole else f"{where} has no copy that is known to be good"
            yield _plan(
                f"{pair.name}: replace the disk of {node.name}",
                [(whole, said)],
                [(node.name, f"hastctl replace {shlex.quote(pair.name)} /dev/NEW")],
                "Clients notice nothing; the new disk is filled from the other node's copy.",
                why_not="It needs the path of the new disk: run it as root.",
            )


def _disk_failed(status: Any) -> str:
    """Why no disk is used; empty while one is."""
    found = (each for each in status.get("problems") or () if isinstance(each, dict) and each.get("kind") == "disk")
    return next((str(each.get("text") or "the disk failed") for each in found), "")


def _status_on(pair: Pair, node: Node) -> Any:
    """Empty where it is not known."""
    return (
        pair.here if node.is_here else pair.there if pair.other is not None and pair.other.name == node.name else None
    ) or {}
