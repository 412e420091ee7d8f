"""A load that verifies what it wrote, and whose doing the pauses are that its user saw."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence

FIO = (
    "fio --name=load --ioengine=libaio --rw=randwrite --bs=4k --iodepth=32 --size=24m --verify=crc32c"
    " --verify_backlog=512 --verify_fatal=1 --time_based --randrepeat=0 --runtime=36000"
)


def longest_after(moments: Sequence[float], pauses: Sequence[tuple[float, float]]) -> list[float]:
    """The longest pause after each moment, of (began, took); a pause is the doing of the last one before its middle."""
    longest = [0.0] * len(moments)
    for began, took in pauses:
        index = bisect.bisect(moments, began + took / 2) - 1
        if index >= 0:
            longest[index] = max(longest[index], took)
    return longest


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 90 % and most."""
    tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
    return statistics.median(values), tenths[8], max(values)


def in_cells(values: Sequence[float]) -> str:
    """Cells of a Markdown table: how many, median, 90 %, most."""
    return f"{len(values)} | {' | '.join(f'{1000 * each_s:.0f} ms' for each_s in spread(values))}"
