"""The plots of the report, as inline SVG: no script, no font, nothing fetched. Colours are the page's variables."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from html import escape

from hast.drill.decisions.outcome import Outcome, Summary, percentile

WIDTH = 1000
LABEL = 410
RIGHT = 30
ROW = 24
TOP = 26
PAUSE_S = 0.5
"""A gap between acknowledged writes from this on is drawn as one."""
TICKS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
COLOURS = ("--one", "--two", "--three", "--four")


def pauses(singles: Sequence[Summary]) -> str:
    """A row for each step, logarithmic: every round a dot, the median a stroke, the 95th percentile a thin one."""
    rows = [each for each in singles if each.pauses]
    if not rows:
        return ""
    longest_s = max(max(each.pauses) for each in rows)
    ticks = [tick for tick in TICKS_S if tick <= longest_s * 3.2] or [TICKS_S[0]]
    last_s = max(ticks[-1], longest_s)
    height = TOP + ROW * len(rows) + 8

    def x(seconds: float) -> float:
        share = math.log(max(seconds, TICKS_S[0]) / TICKS_S[0]) / math.log(last_s / TICKS_S[0])
        return LABEL + share * (WIDTH - LABEL - RIGHT)

    parts = [_axis(x(tick), f"{tick:g} s", height) for tick in ticks]
    for number, each in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        parts.append(_label(each.step.does, y, "bad" if each.failed else ""))
        middle, high = x(percentile(each.pauses, 0.5)), x(percentile(each.pauses, 0.95))
        parts.append(f'<line x1="{x(0):.1f}" y1="{y}" x2="{middle:.1f}" y2="{y}" class="bar"/>')
        parts += [f'<circle cx="{x(value):.1f}" cy="{y}" r="3.5" class="dot"/>' for value in each.pauses]
        parts.append(f'<line x1="{middle:.1f}" y1="{y - 8}" x2="{middle:.1f}" y2="{y + 8}" class="median"/>')
        if len(each.pauses) > 1:
            parts.append(f'<line x1="{high:.1f}" y1="{y - 8}" x2="{high:.1f}" y2="{y + 8}" class="high"/>')
    return _svg(height, parts, "Pause of clients by step")


def composition(outcomes: Sequence[Outcome]) -> str:
    """A bar for each fail-over, cut into its phases."""
    rows = [each for each in outcomes if each.phases and not each.step.is_double]
    if not rows:
        return ""
    longest_s = max(sum(phase.seconds for phase in each.phases) for each in rows)
    height = TOP + ROW * len(rows) + 36

    def x(seconds: float) -> float:
        return LABEL + seconds / longest_s * (WIDTH - LABEL - RIGHT - 40)

    step_s = _round_step(longest_s)
    parts = [
        _axis(x(number * step_s), f"{number * step_s:g} s", height - 28)
        for number in range(int(longest_s / step_s) + 1)
    ]
    for number, each in enumerate(rows):
        y = TOP + ROW * number
        again = f" ({each.round})" if each.round > 1 else ""
        parts.append(_label(each.step.does + again, y + ROW / 2))
        at_s = 0.0
        for phase, colour in zip(each.phases, COLOURS, strict=True):
            width = max(0.0, x(at_s + phase.seconds) - x(at_s))
            parts.append(
                f'<rect x="{x(at_s):.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" fill="var({colour})">'
                f"<title>{escape(phase.name)}: {phase.seconds:.2f} s</title></rect>"
            )
            at_s += phase.seconds
        parts.append(f'<text x="{x(at_s) + 6:.1f}" y="{y + ROW / 2 + 4}" class="value">{at_s:.1f} s</text>')
    parts += _legend([phase.name for phase in rows[0].phases], height - 10)
    return _svg(height, parts, "What fail-overs are made of")


def _legend(names: Sequence[str], y: float) -> Iterator[str]:
    x = 10.0
    for name, colour in zip(names, COLOURS, strict=True):
        yield f'<rect x="{x:.0f}" y="{y - 10}" width="12" height="12" fill="var({colour})"/>'
        yield f'<text x="{x + 17:.0f}" y="{y}" class="value">{escape(name)}</text>'
        x += 34 + 6.3 * len(name)


def timeline(outcomes: Sequence[Outcome], acknowledged: Sequence[float], rests: Sequence[float], seconds: float) -> str:
    """The whole drill on the client's clock: steps as bands, writes as a line that breaks where there was a pause."""
    if not outcomes or len(acknowledged) < 2 or seconds <= 0:
        return ""
    height, base, left = 150, 96, 10

    def x(at_s: float) -> float:
        return left + at_s / seconds * (WIDTH - 2 * left)

    parts = []
    for number, each in enumerate(outcomes):
        kind = "band bad" if each.failed or each.lost else f"band {'odd' if number % 2 else ''}"
        width = max(1.0, x(each.ended_s) - x(each.began_s))
        title = f"<title>{number + 1}. {escape(each.step.does)}: {each.ended_s - each.began_s:.0f} s</title>"
        parts.append(
            f'<rect x="{x(each.began_s):.1f}" y="24" width="{width:.1f}" height="92" class="{kind}">{title}</rect>'
        )
        if width > 13:
            parts.append(f'<text x="{x(each.began_s) + width / 2:.1f}" y="18" class="tick">{number + 1}</text>')
    for begin, end in flows(acknowledged):
        width = max(0.7, x(end) - x(begin))
        parts.append(f'<rect x="{x(begin):.1f}" y="{base - 34}" width="{width:.1f}" height="40" class="flow"/>')
    for begin, end in resting(acknowledged, rests):
        width = max(0.7, x(end) - x(begin))
        parts.append(f'<rect x="{x(begin):.1f}" y="{base - 18}" width="{width:.1f}" height="8" class="rest"/>')
    step_s = _round_step(seconds)
    for number in range(int(seconds / step_s) + 1):
        at = x(number * step_s)
        parts.append(f'<text x="{at:.1f}" y="136" class="tick">{number * step_s:g} s</text>')
        parts.append(f'<line x1="{at:.1f}" y1="116" x2="{at:.1f}" y2="121" class="grid"/>')
    return _svg(height, parts, "Acknowledged writes over the drill")


def flows(acknowledged: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Stretches without a gap of PAUSE_S."""
    begin = last = acknowledged[0]
    for at in acknowledged[1:]:
        if at - last >= PAUSE_S:
            yield begin, last
            begin = at
        last = at
    yield begin, last


def resting(acknowledged: Sequence[float], rests: Sequence[float]) -> Iterator[tuple[float, float]]:
    """From each moment at which the client was stopped to its next write; the last one may have none."""
    for begin in rests:
        after = bisect.bisect_right(acknowledged, begin)
        if after < len(acknowledged):
            yield begin, acknowledged[after]


def _round_step(longest: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are four to ten of them."""
    power = 10.0 ** math.floor(math.log10(longest / 4))
    return next(factor * power for factor in (5, 2, 1) if longest / (factor * power) >= 4) if longest > 0 else 1.0


def _axis(x: float, text: str, height: float) -> str:
    line = f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 6}" class="grid"/>'
    return f'{line}<text x="{x:.1f}" y="14" class="tick">{text}</text>'


def _label(text: str, y: float, kind: str = "") -> str:
    shown = text if len(text) <= 62 else text[:60] + "…"
    return (
        f'<text x="{LABEL - 12}" y="{y + 4}" class="label {kind}">{escape(shown)}<title>{escape(text)}</title></text>'
    )


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
