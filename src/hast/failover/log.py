"""The log of the fail-over program: syslog facility local0 with the article's tags, a terminal, a file of its own.

Lines in the file have the form of syslog's: `Feb  6 15:01:41 hast1 failover: Switching to …`.
"""

from __future__ import annotations

import socket
import sys
import syslog
import threading
import time
from pathlib import Path

LOG_VARIABLE = "HAST_SYSLOG"
"""Environment variable that names a log file, for hosts without a syslog daemon."""
TAG = "failover"
POOL_TAG = "hast"
MAX_LINE = 2000


class Log:
    """Writes each line everywhere it belongs. Never raises: a full disk must not stop a fail-over."""

    def __init__(self, file: str | None = None, *, terminal: bool | None = None, to_syslog: bool = True) -> None:
        self._file = file
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._syslog = to_syslog
        self._lock = threading.Lock()

    def debug(self, text: str, tag: str = TAG) -> None:
        """A line of priority local0.debug, the level of the article's messages."""
        self._write(syslog.LOG_DEBUG, text, tag)

    def error(self, text: str, tag: str = TAG) -> None:
        """A line of priority local0.err."""
        self._write(syslog.LOG_ERR, text, tag)

    def _write(self, priority: int, text: str, tag: str) -> None:
        line = " | ".join(part for part in text.replace("\0", " ").splitlines() if part)[:MAX_LINE]
        with self._lock:
            if self._syslog:
                syslog.openlog(tag, 0, syslog.LOG_LOCAL0)
                syslog.syslog(priority, line)
            if self._terminal:
                self._to_terminal(f"{tag}: {line}\n")
            if self._file:
                self._to_file(f"{stamp(time.time())} {socket.gethostname().split('.')[0]} {tag}: {line}\n")

    def _to_terminal(self, line: str) -> None:
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._terminal = False

    def _to_file(self, line: str) -> None:
        try:
            with Path(self._file or "").open("a") as file:
                file.write(line)
        except OSError:
            pass


def stamp(seconds: float) -> str:
    """Time as syslog writes it: `Feb  6 15:01:41`."""
    local = time.localtime(seconds)
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[local.tm_mon - 1]
    return f"{month} {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
