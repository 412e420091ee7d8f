"""Says aloud what a person at the machine has to know now: on the console and on every terminal (wall).

Only where systemd runs the host: elsewhere nobody can say whose console it is.
"""

from __future__ import annotations

import os
import subprocess

from hast.failover.jobs import RUNNING

WALL_S = 3.0


def shout(text: str) -> None:
    """Never raises, and never waits for a terminal that is held."""
    if not RUNNING.is_dir():
        return
    try:
        console = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(console, f"\r\n{text}\r\n".encode(errors="replace"))
        finally:
            os.close(console)
    except OSError:
        pass
    try:
        subprocess.run(("wall", text), stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        pass
