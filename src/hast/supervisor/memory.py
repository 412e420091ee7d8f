"""What the next hastd has to know of this one, in files of the run directory: roles and the last events.

Kept up to date all the time, because hastd may die at any moment; removed when it ends in order. The run directory is
lost when the host restarts, and with it all of this, as it should be: no role outlives the host. Nothing here is
believed about data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.format.constants import Role
from hast.supervisor.events import REPLAY_EVENTS

log = logging.getLogger("hast.supervisor")

MAX_LINES = 2 * REPLAY_EVENTS
"""Lines in the file of events; then the older half is dropped."""


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """Of one resource. `restarts`: workers replaced so far. `detached`: its disk is out of service."""

    role: str
    restarts: int = 0
    detached: bool = False


def note_role(name: str, record: RoleRecord) -> None:
    """Replace the record. Without a writable run directory nothing is remembered."""
    path = paths.resource_file(name, "role")
    temporary = path.with_name(f"{path.name}~")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(asdict(record)))
        temporary.rename(path)


def recorded_role(name: str) -> RoleRecord:
    """What an earlier hastd that did not end in order wrote; role init where there is nothing."""
    try:
        values = json.loads(paths.resource_file(name, "role").read_text())
        return RoleRecord(str(Role(values["role"])), int(values["restarts"]), bool(values.get("detached")))
    except (OSError, ValueError, KeyError, TypeError):
        return RoleRecord(str(Role.INIT))


def forget_role(name: str) -> None:
    """The resource let go in order."""
    with contextlib.suppress(OSError):
        paths.resource_file(name, "role").unlink()


class Journal:
    """The last events, one JSON object a line."""

    def __init__(self) -> None:
        self._path = paths.run_directory() / "hastd.events"
        self._lines = 0

    def read(self) -> list[dict[str, Any]]:
        """What an earlier hastd that did not end in order wrote, oldest first; lines cut short are left out."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()[-REPLAY_EVENTS:]
        except OSError:
            return []
        events = list(_understood(lines))
        self._rewrite(events)
        return events

    def write(self, event: dict[str, Any]) -> None:
        """Append. Without a writable run directory nothing is remembered."""
        self._lines += 1
        with contextlib.suppress(OSError):
            if self._lines > MAX_LINES:
                kept = self._path.read_text(errors="replace").splitlines()[-REPLAY_EVENTS:]
                self._rewrite(list(_understood(kept)))
            with self._path.open("a") as file:
                file.write(json.dumps(event) + "\n")

    def remove(self) -> None:
        """The end in order."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _rewrite(self, events: list[dict[str, Any]]) -> None:
        self._lines = len(events)
        temporary = Path(f"{self._path}~")
        with contextlib.suppress(OSError):
            temporary.write_text("".join(json.dumps(event) + "\n" for event in events))
            temporary.rename(self._path)


def _understood(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and {"seq", "time", "event", "resource", "text"} <= event.keys():
                yield event
