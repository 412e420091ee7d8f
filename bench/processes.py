"""The processor time that servers take: of a process and all that it started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time of these processes and their descendants that live; those that ended count with whoever
    waited for them."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(int(field) for field in fields[11:15]) / _TICKS_S
    wanted = set(roots)
    return sum(seconds for pid, seconds in used.items() if _descends(pid, wanted, parents))


def _descends(pid: int, wanted: set[int], parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid in wanted:
            return True
        pid = parents.get(pid, 0)
    return False
