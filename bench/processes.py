"""What servers take of the machine: processor time, system calls and wake-ups of a process and all that it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Columns of /proc/stat; those behind them are parts of others."""
_TICKS_S = os.sysconf("SC_CLK_TCK")


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time of these processes and their descendants that live; those that ended count with whoever
    waited for them."""
    return sum(_family(roots).values())


def family(roots: Iterable[int]) -> list[int]:
    """These processes and their descendants that live."""
    return sorted(_family(roots))


def wakeups(pid: int) -> int:
    """How often its threads slept by their own will until now; 0 when it is gone."""
    found = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            lines = path.read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return found


def busy_share(seconds: float) -> float:
    """Of the time of all processors, what was used by anybody."""
    before = _times()
    time.sleep(seconds)
    spent = [after - earlier for earlier, after in zip(before, _times(), strict=True)]
    return 1 - (spent[_IDLE] + spent[_IOWAIT]) / (sum(spent) or 1)


def _times() -> list[int]:
    return [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1 : _STEAL + 2]]


def _family(roots: Iterable[int]) -> dict[int, float]:
    """With the processor time of each."""
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
    return {pid: seconds for pid, seconds in used.items() if _descends(pid, wanted, parents)}


def _descends(pid: int, wanted: set[int], parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid in wanted:
            return True
        pid = parents.get(pid, 0)
    return False


class Counted:
    """What perf counted; `value` is None where it cannot."""

    value: int | None = None


@contextlib.contextmanager
def counting_system_calls(roots: Iterable[int]) -> Iterator[Counted]:
    """System calls of these and their descendants meanwhile. All programs' calls are slower while perf listens."""
    counted = Counted()
    if shutil.which("perf") is None:
        yield counted
        return
    pids = ",".join(str(pid) for pid in family(roots))
    with tempfile.NamedTemporaryFile("r") as output:
        command = ["perf", "stat", "-x", ";", "-o", output.name, "-e", "raw_syscalls:sys_enter", "-p", pids]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
            try:
                yield counted
            finally:
                perf.send_signal(signal.SIGINT)
                perf.wait(10)
        counted.value = read_count(output.read())


def read_count(text: str) -> int | None:
    """The only counter in perf's output."""
    for line in text.splitlines():
        if "raw_syscalls:sys_enter" in line and line.split(";")[0].isdigit():
            return int(line.split(";")[0])
    return None
