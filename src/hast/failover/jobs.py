"""What systemd is about to do to the daemons: how a stop is told from the first half of a restart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from hast.election.leaving import Job, Program

RUNNING = Path("/run/systemd/system")
"""There when systemd is the service manager of this host."""
ASK_S = 5.0
_TYPES = {"stop": Job.STOP, "restart": Job.RESTART, "try-restart": Job.RESTART}


def jobs() -> dict[Program, Job]:
    """Queued and running jobs of our units; none without systemd, or when it does not answer."""
    if not RUNNING.is_dir():
        return {}
    command = ("systemctl", "list-jobs", "--no-legend", "--plain", "--no-pager", "--full")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(parse(done.stdout.splitlines()))


def parse(lines: Iterable[str]) -> Mapping[Program, Job]:
    """Lines of `systemctl list-jobs`: number, unit, type, state."""
    units = {f"{program}.service": program for program in Program}
    words = (line.split() for line in lines)
    return {
        units[each[1]]: _TYPES[each[2]] for each in words if len(each) > 2 and each[1] in units and each[2] in _TYPES
    }
