"""A frame of the live view: a View and a size in, lines out. Pure: no terminal, no clock.

Everything that colour says, words say too: a frame without colour is as complete.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.text import Text

from hast.watch.both import address_state, arbiter_line, last_failover
from hast.watch.catalogue import Level, kind_of
from hast.watch.picture import Node
from hast.watch.problems import Problem, level_of
from hast.watch.top.resources import detail_lines, resource_lines
from hast.watch.top.style import GOOD, HEAD, KEY, QUIET, STYLES, state_style
from hast.watch.top.view import Dialog, View
from hast.watch.words import clock, duration

STALE_S = 4.0
PARTS_OLD_S = 60.0
"""hast-devd looks every few seconds."""
KEYS = (("q", "quit"), ("up/down", "select"), ("s", "switch over"), ("d", "detach"), ("a", "attach"), ("e", "explain"))
_LABEL = 10
MIN_EVENTS = 3


def frame(view: View, width: int, height: int | None = None) -> list[Text]:
    """At most `height` lines, each at most `width` wide; without a height all there is."""
    top = [_title(view, width), *_nodes(view, width)]
    bottom = [_footer(view)] if view.has_keys else []
    room = 10_000 if height is None else max(0, height - len(top) - len(bottom))
    body = _dialog(view.dialog, width, room) if view.dialog else _body(view, width, room)
    lines = top + body[:room]
    if height is not None:
        lines = (lines + [Text("")] * (height - len(lines) - len(bottom)))[: max(0, height - len(bottom))]
    return [_cut(line, width) for line in lines + bottom]


def _cut(line: Text, width: int) -> Text:
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line


def _title(view: View, width: int) -> Text:
    level = level_of(list(view.problems))
    count = len(view.problems)
    names = " + ".join(node.name for node in view.picture.nodes)
    left = Text.assemble(("HAST", HEAD), f"  {names}  ", (f" {level.name} ", STYLES[level]))
    if count:
        left.append(f"  {count} problem{'' if count == 1 else 's'}")
    right = clock(view.now_s)
    if view.age_s > STALE_S:
        right = f"as of {view.age_s:.0f} s ago  {right}"
    left.append(" " * max(2, width - left.cell_len - len(right)) + right)
    return left


# --- hosts -----------------------------------------------------------------------------------------------------------


def _nodes(view: View, width: int) -> list[Text]:
    """Both hosts beside each other: hastd, addresses, pools, the last fail-over, the arbiter."""
    picture = view.picture
    nodes = picture.nodes[:2]
    rows = [("", [f"{nodes[0].name} (here)", *(node.name for node in nodes[1:])])]
    rows.append(("hastd", [_hastd(node) for node in nodes]))
    for number in dict.fromkeys(each.get("vhid") for node in nodes for each in node.vhids):
        rows.append((f"vhid {number}", [_address(node, number) for node in nodes]))
    if any(_services(node) for node in nodes):
        rows.append(("pools", ["?" if node.error else _services(node) or "-" for node in nodes]))
    if any(node.failover for node in nodes):
        rows.append(("failover", [last_failover(node) for node in nodes]))
    arbiters = ["?" if node.error else _arbiter(node) for node in nodes]
    if any(each not in "-?" for each in arbiters):
        rows.append(("arbiter", arbiters))
    column = (width - _LABEL) // 2
    return [_row(label, cells, column, is_head=not label) for label, cells in rows]


def _row(label: str, cells: Sequence[str], column: int, is_head: bool) -> Text:
    line = Text(f"{label:<{_LABEL}}", style=QUIET)
    for cell in cells:
        shown = Text(cell, style=HEAD if is_head else state_style(cell))
        shown.truncate(column - 1, overflow="ellipsis", pad=True)
        line.append_text(shown).append(" ")
    line.rstrip()
    return line


def _hastd(node: Node) -> str:
    if node.error:
        return ("not asked: " if not node.is_asked else "") + node.error
    up = f"up {duration(node.time_s - node.since_s)}" if node.since_s else "up"
    return f"{up}, {node.release.partition('+')[0]}" if node.release else up


def _address(node: Node, number: object) -> str:
    state = address_state(node, number)
    found = next((each for each in node.vhids if each.get("vhid") == number), {})
    addresses = found.get("addresses")
    shown = f" {' '.join(map(str, addresses))}" if isinstance(addresses, list) and state == "MASTER" else ""
    lacking = f" ({found['data']})" if found.get("data") not in (None, "good") else ""
    by_hand = " by hand" if found.get("by_hand") else ""
    return f"{state}{by_hand}{shown}{lacking}"


def _services(node: Node) -> str:
    """Pools, each with its state, then the number of other parts that are not well."""
    told = []
    old = ", old" if node.parts_s and node.time_s - node.parts_s > PARTS_OLD_S else ""
    for name, state in node.parts.items():
        kind, _space, rest = name.partition(" ")
        if kind == "pool":
            told.append(f"{rest}: {_part(state)}")
    ill = [name for name, state in node.parts.items() if isinstance(state, str) and not name.startswith("pool ")]
    return ", ".join([*told, *([f"{len(ill)} not well: {ill[0]}"] if ill else [])]) + (old if told else "")


def _part(state: object) -> str:
    if isinstance(state, str):
        return state
    return "-" if state is None else "up" if state else "down"


def _arbiter(node: Node) -> str:
    """The same for all resources of a node as a rule: the worst is shown."""
    told = [line for status in node.resources.values() if (line := arbiter_line(status)) != "-"]
    grave = [line for line in told if not line.startswith("serve")]
    return (grave or told or ["-"])[0]


# --- below -----------------------------------------------------------------------------------------------------------


def _body(view: View, width: int, room: int) -> list[Text]:
    """Resources, figures, what is wrong, events: what is wrong keeps its room, events before figures then."""
    problems = _problems(view.problems, width)
    figures = detail_lines(view)
    rows = resource_lines(view, max(2, room - 1 - min(len(problems) + 1, 6)))
    lines = [Text(""), *rows]
    left = room - len(lines)
    if problems:
        kept = min(len(problems), max(2, left - 1 - (MIN_EVENTS if left > MIN_EVENTS + 4 else 0)))
        problems = [Text(""), *_fitting(problems, kept)]
        left -= len(problems)
    if figures and len(figures) + (MIN_EVENTS if problems else 0) <= left:
        lines += figures
        left -= len(figures)
    lines += problems
    if left >= MIN_EVENTS and view.events:
        lines += [Text(""), *_events(view, left - 1)]
    return lines


def _fitting(lines: list[Text], room: int) -> list[Text]:
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], Text(f"   ... {len(lines) - room + 1} more lines", style=QUIET)]


def _problems(problems: Sequence[Problem], width: int) -> list[Text]:
    """The same trouble of several resources, or seen on both hosts, is told once."""
    alike: dict[tuple[str, Level], list[Problem]] = {}
    for each in problems:
        alike.setdefault((each.code, each.level), []).append(each)
    lines = []
    for (code, level), found in alike.items():
        names = " ".join(dict.fromkeys(each.resource for each in found if each.resource))
        nodes = ", ".join(dict.fromkeys(each.node for each in found))
        text = f"{names}{' ' if names else ''}{code} on {nodes}: {found[0].text}"
        step = kind_of(code).steps[0].replace("NAME", names or "NAME")
        mark = {Level.CRITICAL: "!!", Level.UNKNOWN: "??"}.get(level, "! ")
        for index, line in enumerate(textwrap.wrap(text, max(20, width - 3))[:2]):
            lines.append(Text.assemble((mark, STYLES[level]), f" {line}") if not index else Text(f"   {line}"))
        for index, line in enumerate(textwrap.wrap(f"next step: {step}", max(20, width - 5))[:2]):
            lines.append(Text(("   " if not index else "     ") + line, style=HEAD))
    return lines


def _events(view: View, room: int) -> list[Text]:
    """The newest last, as far as there is room under the heading."""
    lines = [Text("last events", style=HEAD)]
    for event in list(view.events)[-(room - 1) :]:
        about = f"{event.get('resource')} " if event.get("resource") else ""
        text = " ".join(str(event.get("text") or "").split())
        line = Text.assemble((clock(event.get("time")), QUIET), f" {about}{event.get('event')}")
        lines.append(line.append(f"  {text}" if text else "", style=QUIET))
    return lines


def _dialog(dialog: Dialog, width: int, room: int) -> list[Text]:
    lines = [Text(""), Text(dialog.title, style=HEAD)]
    ending = dialog.question or ("please wait" if dialog.is_busy else "any key goes back")
    wrapped = [
        piece
        for line in dialog.lines
        for piece in textwrap.wrap(line, max(20, width - 2), subsequent_indent="   ", replace_whitespace=False) or [""]
    ]
    lines += _fitting([Text(f"  {line}") for line in wrapped], max(2, room - len(lines) - 2))
    return [*lines, Text(""), Text(ending, style=KEY)]


def _footer(view: View) -> Text:
    line = Text()
    for key, what in KEYS:
        line.append(key, style=KEY).append(f" {what}   ")
    line.rstrip()
    return line if view.dialog is None else Text("y yes   n no" if view.dialog.question else "", style=GOOD)
