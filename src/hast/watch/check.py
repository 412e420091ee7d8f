"""A picture as one line for Nagios and its like: `HAST OK - ... | perfdata`, and its exit code. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from hast.watch.catalogue import Level
from hast.watch.picture import Pair, Picture
from hast.watch.problems import Limits, Problem, level_of
from hast.watch.words import number, percent

SHOWN = 3
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def parse_duration(text: str) -> float:
    """`90`, `90s`, `5m`, `1h`, `2d` in seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no duration such as 90s, 5m, 1h or 2d")
    return float(found[1]) * _UNITS_S[found[2]]


def line(service: str, level: Level, text: str, figures: Sequence[str] = ()) -> str:
    """One line as plugins print it; `|` is kept for what it means there."""
    said = " ".join(text.replace("|", "/").split())
    return f"{service} {level.name} - {said}" + (f" | {' '.join(figures)}" if figures else "")


def of_picture(
    picture: Picture, problems: Collection[Problem], now_s: float, limits: Limits, names: Collection[str] = ()
) -> tuple[Level, str]:
    """Level and line, of these resources or of all."""
    pairs = [pair for pair in picture.pairs if not names or pair.name in names]
    meant = [each for each in problems if not names or not each.resource or each.resource in names]
    level = level_of(meant)
    figures = [figure for pair in pairs for figure in _figures(pair, now_s, limits)]
    return level, line("HAST", level, _said(meant) or _good(picture, pairs), figures)


def _said(problems: Sequence[Problem]) -> str:
    shown = [_one(each) for each in problems[:SHOWN]]
    left = len(problems) - SHOWN
    return "; ".join([*shown, *([f"and {left} more"] if left > 0 else [])])


def _one(problem: Problem) -> str:
    what = f"{problem.resource}: " if problem.resource else ""
    return f"{what}{problem.code} on {problem.node}: {problem.text.rstrip('.')}"


def _good(picture: Picture, pairs: Sequence[Pair]) -> str:
    count = f"{len(pairs)} resource{'' if len(pairs) == 1 else 's'}"
    statuses = sorted({pair.status for pair in pairs})
    asked = "" if all(node.is_asked for node in picture.nodes) else ", the other node is not asked"
    return f"{count}{': ' if statuses else ''}{', '.join(statuses)}{asked}"


def _figures(pair: Pair, now_s: float, limits: Limits) -> Iterator[str]:
    """Of the serving side; nothing where it is not known."""
    primary = pair.primary
    if primary is None:
        return
    apart = primary.get("not_connected")
    since_s = apart.get("since") if isinstance(apart, dict) else None
    alone_s = max(0.0, now_s - since_s) if isinstance(since_s, (int, float)) else 0.0
    yield figure(f"{pair.name}_apart", f"{alone_s:.0f}s", limits.degraded_critical_s, 0)
    yield figure(f"{pair.name}_dirty", f"{number(primary.get('dirty')) or 0:.0f}B", None, 0)
    at_risk = primary.get("at_risk_bytes")
    if isinstance(at_risk, int):
        yield figure(f"{pair.name}_at_risk", f"{at_risk}B", limits.at_risk_critical_bytes, 0)
    sync = primary.get("sync")
    if isinstance(sync, dict):
        yield figure(f"{pair.name}_resync", f"{percent(sync):.1f}%", None, 0, 100)


def figure(label: str, value: str, critical: float | None, *bounds: float) -> str:
    """One item of perfdata: `'label'=value;warning;critical;least;most`, quoted where the label asks for it."""
    if re.search(r"[\s='|]", label):
        label = "'" + label.replace("'", "").replace("=", "_").replace("|", "_") + "'"
    ends = [f"{bound:.0f}" for bound in bounds]
    return f"{label}={value};;{'' if critical is None else f'{critical:.0f}'};{';'.join(ends)}"
