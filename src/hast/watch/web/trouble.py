"""What is wrong, as the page shows it: one entry a kind of trouble, with where it is and what to do. Pure.

A text here is the same for as long as the trouble is, so that the page need not draw it anew each second under the
hands of who reads it: what counts on is told as a time.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from hast.watch.catalogue import CATALOGUE, Level, kind_of
from hast.watch.picture import Picture
from hast.watch.problems import Problem
from hast.watch.web.values import mapping, text
from hast.watch.words import number

MAX_KINDS = 32
MAX_ITEMS = 32
_COMMAND = re.compile(r"(?:^|: |; )((?:hastctl|failover|carpctl|systemctl|journalctl) [^;,]+)")
_LEVELS = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)
_ORDER = {code: place for place, code in enumerate(CATALOGUE)}
TITLES = {
    "hastd-down": "hastd of this node does not answer",
    "peer-unknown": "The other node does not answer",
    "split-brain": "Split brain",
    "two-primaries": "Both nodes are primary",
    "no-primary": "No node is primary",
    "frozen": "Writes are held",
    "disk": "A disk failed",
    "provider": "A disk cannot be opened",
    "degraded": "Degraded, one copy counts",
    "synchronizing": "A copy is being made",
    "two-masters": "Both nodes hold the address",
    "no-master": "Nobody holds the address",
    "failover-failed": "The last fail-over failed",
    "address-apart": "Address and data are on different nodes",
}


_EXPLAINED = {"inconsistent": ("synchronizing",), "stale": ("synchronizing",), "degraded": ("disk", "provider")}
"""What is no news beside its cause, which is told of the same resource."""


def in_order(problems: list[Problem]) -> list[Problem]:
    """Gravest first, then in the order of the catalogue; what another one explains is left out."""
    told = {(each.code, each.resource) for each in problems}
    news = [each for each in problems if not any((by, each.resource) in told for by in _EXPLAINED.get(each.code, ()))]
    return sorted(news, key=lambda each: (_LEVELS.index(each.level), _ORDER.get(each.code, len(_ORDER))))


def grouped(problems: list[Problem], picture: Picture) -> list[dict[str, Any]]:
    """An entry for each kind, in the order of the problems."""
    kinds: dict[tuple[str, object], list[Problem]] = {}
    for each in problems:
        kinds.setdefault((each.code, each.level), []).append(each)
    return [_entry(found, picture) for found in list(kinds.values())[:MAX_KINDS]]


def _entry(found: list[Problem], picture: Picture) -> dict[str, Any]:
    code = found[0].code
    names = list(dict.fromkeys(each.resource for each in found if each.resource))
    return {
        "code": text(code),
        "level": found[0].level.name.lower(),
        "title": TITLES.get(code, text(code).replace("-", " ").capitalize()),
        "items": _items(found, picture)[:MAX_ITEMS],
        "meaning": kind_of(code).meaning,
        "steps": [_step(each, names) for each in kind_of(code).steps],
    }


def _items(found: list[Problem], picture: Picture) -> list[dict[str, Any]]:
    """Those with the same words together."""
    same: dict[tuple[str, int | None], list[Problem]] = {}
    for each in found:
        said, since_s = _words(each, picture)
        same.setdefault((said, None if since_s is None else round(since_s)), []).append(each)
    return [{"where": _where(each), "text": text(said), "since_s": since_s} for (said, since_s), each in same.items()]


def _where(found: list[Problem]) -> str:
    names = ", ".join(dict.fromkeys(each.resource for each in found if each.resource))
    nodes = " and ".join(dict.fromkeys(each.node for each in found if each.node))
    return text(f"{names} on {nodes}" if names and nodes else names or nodes)


def _words(problem: Problem, picture: Picture) -> tuple[str, float | None]:
    """Of what grows with time: since when."""
    pair = next((each for each in picture.pairs if each.name == problem.resource), None)
    if problem.code == "synchronizing":
        return "the bars below show rate and time left", None
    apart = mapping(pair.primary.get("not_connected")) if pair is not None and pair.primary is not None else {}
    if problem.code == "degraded" and apart and "on one disk alone" not in problem.text:
        return str(apart.get("reason") or "").rstrip("."), number(apart.get("since"))
    return problem.text, None


def _step(step: str, names: list[str]) -> dict[str, str]:
    """`command` can be given to a shell as it is: a name that holds anything special is quoted. What is for one
    resource at a time keeps NAME where several are meant."""
    found = _COMMAND.search(step)
    command = found.group(1).strip() if found else ""
    together = len(names) == 1 or (names and "/dev/" not in step)
    said = " ".join(shlex.quote(name) for name in names) if together else "NAME"
    return {"text": text(step.replace("NAME", said)), "command": text(command.replace("NAME", said))}
