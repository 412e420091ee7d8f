"""Since when a resource's two nodes are not connected, and what ended the connection, from its events.

Pure: hears every event of one resource. Why the attempts of the moment fail is the worker's to tell.
"""

from __future__ import annotations

from typing import Any

from hast.format.constants import Role


class ContactMemory:
    """`since_s` (seconds since 1970) is None while connected, and in role init, where no connection is wanted."""

    def __init__(self) -> None:
        self.since_s: float | None = None
        self.reason = ""
        """What ended the last connection; empty where there was none in this role."""
        self._connected = False

    @property
    def connected(self) -> bool:
        """As the last event said."""
        return self._connected

    def heard(self, record: dict[str, Any]) -> None:
        """An event of docs/control.md."""
        match record["event"]:
            case "connect":
                self._connected, self.since_s, self.reason = True, None, ""
            case "disconnect":
                self._connected, self.since_s = False, record["time"]
                details = record.get("details")
                told = details.get("reason") if isinstance(details, dict) else None
                self.reason = str(told or record["text"]).rstrip(".")
            case "role":
                self._role(str(record.get("new")), record["time"])

    def _role(self, new: str, time_s: float) -> None:
        """A primary may have met its peer before its role is reported; who leaves that role has lost it."""
        if new == Role.INIT:
            self._connected, self.since_s, self.reason = False, None, ""
        elif new == Role.SECONDARY or not self._connected:
            self._connected = False
            if self.since_s is None:
                self.since_s = time_s
