"""Plots as SVG files of their own: no script, no font, nothing fetched, readable on light and dark pages. No I/O.

The drill's plots are parts of its page and draw rows of events; these are lines over a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 44
LABEL_PX = 14
STYLE = """
text{font:12px system-ui,sans-serif;fill:#1b2430}.title{font-size:14px;font-weight:600}.soft{fill:#5c6877}
.page{fill:#fff}.grid{stroke:#dfe3e8}.line{fill:none;stroke-width:2}
.c0{stroke:#2f6fd0;fill:#2f6fd0}.c1{stroke:#8aa8d8;fill:#8aa8d8}.c2{stroke:#e08a2c;fill:#e08a2c}
.c3{stroke:#e9bd86;fill:#e9bd86}.c4{stroke:#4a9d6f;fill:#4a9d6f}.c5{stroke:#a34fb8;fill:#a34fb8}.c6{stroke:#7d8794;fill:#7d8794}
text.name{stroke:none}.line{fill:none}
@media (prefers-color-scheme:dark){.page{fill:#12161c}text{fill:#e6eaf0}.soft{fill:#98a4b3}.grid{stroke:#2d3641}}
"""
COLOURS = 7


def lines(
    title: str, steps: Sequence[str], series: Mapping[str, Sequence[float | None]], logarithmic: bool = False
) -> str:
    """A line for each of the series, a point for each step; None leaves a gap. At most COLOURS series."""
    values = [value for each in series.values() for value in each if value is not None]
    if not values or len(series) > COLOURS:
        raise ValueError(f"{title}: {len(values)} values of {len(series)} series")
    ticks = powers(min(values), max(values)) if logarithmic else round_ticks(max(values))
    low, high = (math.log(ticks[0]), math.log(max(ticks[-1], max(values)))) if logarithmic else (0.0, ticks[-1])

    def x(step: int) -> float:
        return LEFT + (step + 0.5) / len(steps) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = ((math.log(value) if logarithmic else value) - low) / ((high - low) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>']
    parts.append(f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>')
    for tick in ticks:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text class="soft" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{shown(tick)}</text>'
        )
    for number, step in enumerate(steps):
        at = f'x="{x(number):.1f}" y="{HEIGHT - BOTTOM + 22}"'
        parts.append(f'<text class="soft" {at} text-anchor="middle">{escape(step)}</text>')
    for number, (name, each) in enumerate(series.items()):
        points = [(x(step), y(value)) for step, value in enumerate(each) if value is not None]
        drawn = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline class="c{number} line" points="{drawn}"><title>{escape(name)}</title></polyline>')
        parts += [f'<circle class="c{number}" cx="{a:.1f}" cy="{d:.1f}" r="3"/>' for a, d in points]
    ends = {name: [y(value) for value in each if value is not None] for name, each in series.items()}
    wanted = {name: places[-1] for name, places in ends.items() if places}
    for name, down in apart(wanted).items():
        at = f'x="{WIDTH - RIGHT + 10}" y="{down + 4:.1f}"'
        parts.append(f'<text class="c{list(series).index(name)} name" {at}>{escape(name)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return f"{head}<title>{escape(title)}</title><style>{STYLE}</style>{''.join(parts)}</svg>\n"


def apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Places for labels near those that are wanted, none upon another."""
    found: dict[str, float] = {}
    last = -math.inf
    for name, down in sorted(wanted.items(), key=lambda item: item[1]):
        last = found[name] = max(down, last + LABEL_PX)
    below = last - (HEIGHT - BOTTOM)
    return {name: down - max(0.0, below) for name, down in found.items()}


def round_ticks(most: float) -> list[float]:
    """From 0 to at least `most`, four to ten steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = next((factor * power for factor in (1, 2, 5) if most / (factor * power) <= 9), 10 * power)
    return [number * step for number in range(math.ceil(most / step) + 1)]


def powers(least: float, most: float) -> list[float]:
    """1, 3, 10, 30 … from below the least to above the most."""
    found = [factor * 10.0**power for power in range(-3, 10) for factor in (1, 3)]
    begin = max((value for value in found if value <= least), default=found[0])
    end = min((value for value in found if value >= most), default=found[-1])
    return [value for value in found if begin <= value <= end]


def shown(value: float) -> str:
    """100k for 100000."""
    return f"{value / 1000:g}k" if value >= 10000 else f"{value:g}"
