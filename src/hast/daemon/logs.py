"""Log lines of hastd and its workers (specification section 8.1): plain on the terminal, syslog when daemonised.

Use `logging.getLogger("hast…")` everywhere; put the resource and role into a line with `extra=context(name, role)`, or
set them once for a whole worker with `setup(resource=…)`. Nothing here blocks: syslog is written by one thread behind
a bounded queue, and lines that do not fit are counted and reported later.
"""

from __future__ import annotations

import logging
import queue
import sys
import syslog
import threading
from collections.abc import Callable

NOTICE = 25
QUEUE_LINES = 2000

_NAMES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", NOTICE: "NOTICE", logging.WARNING: "WARNING"}
_NAMES |= {logging.ERROR: "ERROR", logging.CRITICAL: "CRIT"}
_PRIORITIES = (
    (logging.CRITICAL, syslog.LOG_CRIT),
    (logging.ERROR, syslog.LOG_ERR),
    (logging.WARNING, syslog.LOG_WARNING),
    (NOTICE, syslog.LOG_NOTICE),
    (logging.INFO, syslog.LOG_INFO),
    (logging.DEBUG, syslog.LOG_DEBUG),
)
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": NOTICE, "warning": logging.WARNING}
LEVELS |= {"error": logging.ERROR, "critical": logging.CRITICAL}
"""Level names of events and messages between processes."""


def context(resource: str, role: str | None = None) -> dict[str, str]:
    """`extra` of a log call that concerns one resource."""
    return {"hast_prefix": f"[{resource}] ({role}) " if role else f"[{resource}] "}


class LineFormatter(logging.Formatter):
    """`[LEVEL] [resource] (role) text`, one line whatever the text holds; without the level for syslog."""

    def __init__(self, prefix: str = "", with_level: bool = True) -> None:
        super().__init__()
        self._prefix = prefix
        self._with_level = with_level

    def format(self, record: logging.LogRecord) -> str:
        text = " | ".join(part for part in record.getMessage().splitlines() if part)
        line = getattr(record, "hast_prefix", self._prefix) + text
        if record.exc_info and record.exc_info[1] is not None:
            line += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        if not self._with_level:
            return line
        name = _NAMES.get(record.levelno, record.levelname)
        return f"[DEBUG][1] {line}" if name == "DEBUG" else f"[{name}] {line}"


class _TerminalHandler(logging.Handler):
    """Warnings and worse to stderr, the rest to stdout (section 8.1)."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass


class QueuedHandler(logging.Handler):
    """Hands formatted lines to `write(level, line)` in one thread; drops and counts when the queue is full."""

    def __init__(self, write: Callable[[int, str], None], limit: int = QUEUE_LINES) -> None:
        super().__init__()
        self._write = write
        self._queue: queue.Queue[tuple[int, str] | None] = queue.Queue(limit)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait((record.levelno, self.format(record)))
        except queue.Full:
            self._dropped += 1

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._write(*item)
            if self._queue.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._write(logging.WARNING, f"{dropped} log lines were dropped: the log did not keep up.")

    def close(self) -> None:
        """Write what is queued, waiting at most a second."""
        try:
            self._queue.put(None, timeout=1.0)
            self._thread.join(1.0)
        except queue.Full:
            pass
        super().close()


def _to_syslog(level: int, line: str) -> None:
    for least, priority in _PRIORITIES:
        if level >= least:
            syslog.syslog(priority, line.replace("\0", " "))
            return


def setup(*, foreground: bool, debug: int, resource: str = "", role: str = "", program: str = "hastd") -> None:
    """Set up the root logger of this process. Call after the last fork. `resource` and `role` prefix lines."""
    prefix = context(resource, role or None)["hast_prefix"] if resource else ""
    handler: logging.Handler
    if foreground:
        handler = _TerminalHandler()
    else:
        syslog.openlog(program, syslog.LOG_PID, syslog.LOG_DAEMON)
        handler = QueuedHandler(_to_syslog)
    handler.setFormatter(LineFormatter(prefix, with_level=foreground))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def flush() -> None:
    """Write out what is queued, at the end of a process; waits at most a second."""
    logging.shutdown()
