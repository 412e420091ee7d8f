"""The table of resources in a frame of the live view, and the figures of the one that is selected. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from hast.watch.picture import Pair, Status
from hast.watch.rates import NONE, Rate, Rates
from hast.watch.top.style import HEAD, QUIET, WARNING, state_style
from hast.watch.top.view import View
from hast.watch.words import brief_time, duration, percent, size

BAR = 24
_NAME = 14


def resource_lines(view: View, room: int) -> list[Text]:
    """A heading and the resources that fit around the selected one."""
    pairs = view.picture.pairs
    if not pairs:
        error = view.picture.here.error
        return [Text("nothing is known of the resources" if error else "no resources", style=WARNING)]
    selected = max(0, min(view.selected, len(pairs) - 1))
    blocks = [_pair_lines(view, index, index == selected) for index in range(len(pairs))]
    first, last = _window([len(block) for block in blocks], selected, max(1, room - 1))
    lines = [_heading(first, last, len(pairs))]
    return lines + [line for block in blocks[first:last] for line in block]


def detail_lines(view: View) -> list[Text]:
    """Figures of the selected resource: rates, latency of both copies as p50/p99, what is at risk."""
    pairs = view.picture.pairs
    if not pairs:
        return []
    pair = pairs[max(0, min(view.selected, len(pairs) - 1))]
    return _details(pair, view.rates.get(pair.name, NONE))


def _window(heights: list[int], selected: int, room: int) -> tuple[int, int]:
    """Which blocks are shown: as many as fit, the selected one among them."""
    first, last = selected, selected + 1
    used = heights[selected]
    while True:
        if last < len(heights) and used + heights[last] <= room:
            used += heights[last]
            last += 1
        elif first > 0 and used + heights[first - 1] <= room:
            first -= 1
            used += heights[first]
        else:
            return first, last


def _heading(first: int, last: int, count: int) -> Text:
    shown = "" if last - first == count else f"  ({first + 1}-{last} of {count})"
    line = f"  {'resource':<{_NAME}}{'here':<10}{'there':<10}{'status':<15}{'read/s':>8}{'write/s':>9}"
    return Text(line + shown, style=QUIET)


def _pair_lines(view: View, index: int, selected: bool) -> list[Text]:
    pair = view.picture.pairs[index]
    rates = view.rates.get(pair.name, NONE)
    mark = "> " if selected and view.has_keys else "  "
    line = Text(mark, style=HEAD)
    line.append_text(_cell(pair.name, _NAME, HEAD if selected else ""))
    for side in (pair.here, pair.there):
        role = _role(pair, side)
        line.append_text(_cell(role, 10, state_style(role)))
    status = _status(pair)
    line.append_text(_cell(status, 15, state_style(status)))
    line.append(f"{_bytes(rates.read):>8}{_bytes(rates.write):>9}")
    return [line, *_below(view, pair)]


def _cell(text: str, width: int, style: str) -> Text:
    cell = Text(text, style=style)
    cell.truncate(width - 1, overflow="ellipsis", pad=True)
    return cell.append(" ")


def _role(pair: Pair, side: Status | None) -> str:
    if side is None:
        return "?" if pair.other is not None else "-"
    return str(side.get("role"))


def _status(pair: Pair) -> str:
    return "changing" if any(side.get("transition") for side in pair.sides) else pair.status


def _below(view: View, pair: Pair) -> list[Text]:
    """A change of role under way, and the bar of a synchronisation."""
    here = view.picture.here.name
    there = pair.other.name if pair.other is not None else ""
    lines = []
    for side, name in ((pair.here, here), (pair.there, there)):
        if side is not None and side.get("transition"):
            lines.append(Text(f"    {name}: {side['transition']}", style=WARNING))
    primary = pair.primary
    sync = primary.get("sync") if primary is not None else None
    if primary is not None and isinstance(sync, Mapping):
        lines.append(_bar(sync, (here, there) if primary is pair.here else (there, here)))
    return lines


def _bar(sync: Mapping[str, Any], names: tuple[str, str]) -> Text:
    """`names`: of the primary and of the other."""
    done = percent(sync)
    filled = int(BAR * done / 100)
    source, target = names if sync.get("direction") == "to-peer" else names[::-1]
    line = Text(f"    {source} -> {target} [")
    line.append("#" * filled, style=WARNING).append("." * (BAR - filled) + f"] {done:.1f}%")
    return line.append(f"  {size(sync.get('rate_bytes_s') or 0)}/s  {duration(sync.get('left_s'))} left")


def _details(pair: Pair, rates: Rates) -> list[Text]:
    primary = pair.primary
    if primary is None:
        return []
    heading = f"  {pair.name:<11}{'ops/s':>8}{'bytes/s':>10}   {'local p50 / p99':<19}{'peer p50 / p99':<19}"
    lines = [Text(heading, style=QUIET)]
    for name, rate in (("read", rates.read), ("write", rates.write)):
        lines.append(
            Text(f"    {name:<9}{_count(rate):>8}{_bytes(rate):>10}   ").append(
                f"{_latency(rates, name, 'local'):<19}{_latency(rates, name, 'peer'):<19}"
            )
        )
    return [*lines, Text("    " + "   ".join(_state(primary)))]


def _state(primary: Status) -> list[str]:
    told = [f"dirty {size(primary.get('dirty') or 0)}"]
    missing = primary.get("missing_bytes")
    if isinstance(missing, Mapping) and any(missing.values()):
        told += [f"{copy} copy lacks {size(missing[copy])}" for copy in ("local", "peer") if missing.get(copy)]
    if isinstance(primary.get("at_risk_bytes"), int):
        told.append(f"at risk {size(primary['at_risk_bytes'])}")
    told.append(str(primary.get("replication") or ""))
    if primary.get("device"):
        told.append(str(primary["device"]))
    return [word for word in told if word]


def _latency(rates: Rates, operation: str, copy: str) -> str:
    found = rates.latency.get((operation, copy))
    return "-" if found is None else f"{brief_time(found.p50_s)} / {brief_time(found.p99_s)}"


def _count(rate: Rate) -> str:
    return "-" if rate.per_s is None else f"{rate.per_s:.0f}"


def _bytes(rate: Rate) -> str:
    return "-" if rate.bytes_s is None else size(rate.bytes_s)
