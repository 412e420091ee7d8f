"""Figures as people read them. Pure; knows nothing of what the figures are of.

They come from another node as well: what is no number is told as unknown, and ends nobody.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hast.format.geometry import human_size

MAX_NUMBER = 1e18


def number(found: object) -> float | None:
    """None for what is no number, or one that nothing here can be."""
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < MAX_NUMBER:
        return None
    return found


def size(size_bytes: object) -> str:
    """`4.0MB`."""
    found = number(size_bytes)
    return "?" if found is None else human_size(max(0, round(found)))


def brief_time(seconds: float | None) -> str:
    """A latency: `85us`, `1.2ms`, `3.4s`; `-` where none is known."""
    if seconds is None:
        return "-"
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        scaled = seconds * factor
        if scaled < 999.5:
            return f"{scaled:.0f}{unit}" if scaled >= 9.95 else f"{scaled:.1f}{unit}"
    return f"{seconds:.1f}s"


def clock(seconds: object) -> str:
    """Local time of day; `--:--:--` for what is no time."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(number(seconds))) if number(seconds) is not None else "--:--:--"
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def duration(seconds: object) -> str:
    """`1h 02m`, `3m 05s`, `12s`, or `unknown`."""
    found = number(seconds)
    if found is None:
        return "unknown"
    whole = max(0, round(found))
    if whole >= 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def moment(seconds: int) -> str:
    """Seconds since 1970 as local time; the other node's word for it need not make sense."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"second {seconds}"


def percent(sync: Mapping[str, Any]) -> float:
    """How much of a synchronisation is done; 100 only when all of it is."""
    total, done = int(sync.get("total_bytes") or 0), int(sync.get("done_bytes") or 0)
    if total <= 0 or done >= total:
        return 100.0
    return min(99.9, max(0.0, 100.0 * done / total))
