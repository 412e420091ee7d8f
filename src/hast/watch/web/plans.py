"""What an administrator can do now, with what has to be true first, the commands in order, and what clients notice.

Pure, made of a picture of both nodes. Nothing here can be ordered through the page: it is the plan that is shown, the
commands are for a shell. A plan is there only where it makes sense.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from hast.watch.picture import Node, Pair, Picture

MAX_PLANS = 12


def plans_of(picture: Picture) -> list[dict[str, Any]]:
    """Those for trouble first."""
    found = [*_resolve(picture), *_replace(picture), *_move(picture)]
    return found[:MAX_PLANS]


def _plan(title: str, checks: list[tuple[bool, str]], steps: list[tuple[str, str]], notice: str) -> dict[str, Any]:
    return {
        "title": title,
        "ready": all(is_true for is_true, _text in checks),
        "checks": [{"ok": is_true, "text": text} for is_true, text in checks],
        "steps": [{"node": node, "command": command} for node, command in steps],
        "notice": notice,
    }


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
        yield _plan(
            f"Move the service from {node.name} to {target.name}",
            [*_ready(target), *_whole(pairs, target)],
            [*_move_steps(node, target, pairs)],
            f"Clients pause for about two seconds; afterwards {target.name} serves. {node.name} keeps its copy.",
        )


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


def _move_steps(node: Node, target: Node, pairs: list[Pair]) -> Iterator[tuple[str, str]]:
    if node.vhids:
        yield node.name, "failover leave"
        yield target.name, "failover status"
        return
    names = " ".join(shlex.quote(pair.name) for pair in pairs)
    yield node.name, f"hastctl role secondary {names}"
    yield target.name, f"hastctl role primary {names}"


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
            yield _keep(pairs, keeps, loses)


def _keep(pairs: list[Pair], keeps: Node, loses: Node) -> dict[str, Any]:
    quoted = " ".join(shlex.quote(pair.name) for pair in pairs)
    serving = [pair.name for pair in pairs if _status_on(pair, loses).get("role") == "primary"]
    steps = [(loses.name, f"hastctl role secondary {quoted}")] if serving else []
    steps += [(loses.name, f"hastctl resolve --discard-local {quoted}"), (keeps.name, f"hastctl status {quoted}")]
    said = f"{loses.name} is primary for {', '.join(serving)}: it has to let go first, its clients lose the device"
    return _plan(
        f"{', '.join(pair.name for pair in pairs)}: keep the data of {keeps.name}",
        [(not serving, said if serving else f"{loses.name} is not primary"), _answers(loses), _answers(keeps)],
        steps,
        f"What was written on {loses.name} alone is given up for good; a map of it is kept there.",
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
            )


def _disk_failed(status: Any) -> bool:
    return any(isinstance(each, dict) and each.get("kind") == "disk" for each in status.get("problems") or ())


def _status_on(pair: Pair, node: Node) -> Any:
    """Empty where it is not known."""
    return (
        pair.here if node.is_here else pair.there if pair.other is not None and pair.other.name == node.name else None
    ) or {}
