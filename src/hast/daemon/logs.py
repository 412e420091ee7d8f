"""Log lines of hastd and its workers (specification section 8.1): terminal, journal, or syslog when daemonised.

Use `logging.getLogger("hast…")` everywhere; put the resource and role into a line with `extra=context(name, role)`, or
set them once for a whole worker with `setup(resource=…)`. Nothing here blocks: syslog is written by one thread behind
a bounded queue, and lines that do not fit are counted and reported later.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import syslog
import threading
from collections.abc import Callable
from typing import TextIO

from hast.format.text import printable

NOTICE = 25
QUEUE_LINES = 2000
MAX_LINE_CHARACTERS = 8192

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


ASYNCIO_SAYS = "Connect call failed"
"""And then the address, as a tuple."""


def in_words(error: Exception) -> str:
    """Why, in words: an OSError without `[Errno N]` before them, and as the system says it where asyncio does not."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno and str(error.strerror).startswith(ASYNCIO_SAYS):
        return os.strerror(error.errno)
    return error.strerror or str(error)


class LineFormatter(logging.Formatter):
    """`[LEVEL] [resource] (role) text`, one printable line whatever the text holds; no level where told otherwise."""

    def __init__(self, prefix: str = "", with_level: bool = True) -> None:
        super().__init__()
        self._prefix = prefix
        self._with_level = with_level

    def format(self, record: logging.LogRecord) -> str:
        text = " | ".join(part for part in record.getMessage().splitlines() if part)
        line = getattr(record, "hast_prefix", self._prefix) + text
        if record.exc_info and record.exc_info[1] is not None:
            line += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        line = printable(line, MAX_LINE_CHARACTERS)
        if not self._with_level:
            return line
        name = _NAMES.get(record.levelno, record.levelname)
        return f"[DEBUG][1] {line}" if name == "DEBUG" else f"[{name}] {line}"


def _write_line(stream: TextIO, line: str) -> None:
    """What the stream's encoding lacks is escaped; a stream that is gone is not written to."""
    encoding = stream.encoding or "ascii"
    try:
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError):
        pass


class _TerminalHandler(logging.Handler):
    """Warnings and worse to stderr, the rest to stdout (section 8.1)."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(sys.stderr if record.levelno >= logging.WARNING else sys.stdout, self.format(record))


class _JournalHandler(logging.Handler):
    """Everything to stderr, `<priority>` before each line, as sd-daemon(3) asks."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(sys.stderr, f"<{_priority(record.levelno)}>{self.format(record)}")


def stderr_is_journal() -> bool:
    """Whether systemd connected stderr to its journal, by the device and inode that it names in the environment."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class QueuedHandler(logging.Handler):
    """Hands formatted lines to `write(level, line)` in one thread; counts those that got lost."""

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
            self._try(*item)
            if self._queue.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _try(self, level: int, line: str) -> None:
        """The thread goes on whatever becomes of one line."""
        try:
            self._write(level, line)
        except Exception:
            self._dropped += 1

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._try(logging.WARNING, f"{dropped} log lines were dropped: the log did not take them.")

    def close(self) -> None:
        """Write what is queued, waiting at most a second."""
        try:
            self._queue.put(None, timeout=1.0)
            self._thread.join(1.0)
        except queue.Full:
            pass
        super().close()


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), syslog.LOG_DEBUG)


def _to_syslog(level: int, line: str) -> None:
    syslog.syslog(_priority(level), line)


def setup(*, foreground: bool, debug: int, resource: str = "", role: str = "", program: str = "hastd") -> None:
    """Set up the root logger of this process. Call after the last fork. `resource` and `role` prefix lines."""
    prefix = context(resource, role or None)["hast_prefix"] if resource else ""
    handler: logging.Handler
    if not foreground:
        syslog.openlog(program, syslog.LOG_PID, syslog.LOG_DAEMON)
        handler = QueuedHandler(_to_syslog)
    else:
        handler = _JournalHandler() if stderr_is_journal() else _TerminalHandler()
    handler.setFormatter(LineFormatter(prefix, with_level=isinstance(handler, _TerminalHandler)))
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
