"""Each order, and each that was refused, as an entry of the journal with fields to search by; never the token.

Where there is no journal it is a line of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hast.daemon import journal
from hast.format.text import printable

MESSAGE_ID = "b7642ed2cd5345fb96020cd970fe127a"
"""Never changed: people search by it (docs/hast-order.8.md)."""
_PRIORITIES = {logging.INFO: "6", logging.WARNING: "4", logging.ERROR: "3"}
_log = logging.getLogger("hast.order")


@dataclass(frozen=True, slots=True)
class Entry:
    """`result`: refused, begun, done, failed or unfinished. `uid` and `pid` are those of the process that asked."""

    result: str
    text: str
    action: str = ""
    targets: Sequence[str] = ()
    command: str = ""
    origin: str = ""
    uid: int = -1
    pid: int = 0
    seen: str = ""
    code: int | None = None

    def now(self, result: str, text: str, code: int | None = None) -> Entry:
        """The same order later."""
        return replace(self, result=result, text=text, code=code)


class Diary:
    """`path`: the journal's socket."""

    def __init__(self, path: str = journal.SOCKET) -> None:
        self._path = path

    def note(self, entry: Entry) -> None:
        """Never waits, never fails."""
        level = {"refused": logging.WARNING, "failed": logging.ERROR, "unfinished": logging.ERROR}.get(entry.result)
        line = _line(entry)
        if not journal.send(_fields(entry, line, level or logging.INFO), self._path):
            _log.log(level or logging.INFO, "%s", line)


def _line(entry: Entry) -> str:
    what = " ".join((entry.action or "an order", *entry.targets))
    return printable(f"{what}: {entry.result}: {entry.text} (from {entry.origin or 'no address'})", 1000)


def _fields(entry: Entry, line: str, level: int) -> dict[str, str]:
    return {
        "MESSAGE": line,
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": _PRIORITIES[level],
        "SYSLOG_IDENTIFIER": "hast-order",
        "HAST_RESULT": entry.result,
        "HAST_ACTION": entry.action,
        "HAST_RESOURCE": " ".join(entry.targets),
        "HAST_COMMAND": entry.command,
        "HAST_TEXT": entry.text,
        "HAST_ORIGIN": entry.origin,
        "HAST_CLIENT_UID": str(entry.uid),
        "HAST_CLIENT_PID": str(entry.pid),
        "HAST_PLAN": entry.seen,
        "HAST_EXIT_CODE": "" if entry.code is None else str(entry.code),
    }
