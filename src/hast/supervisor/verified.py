"""What the last verification of a resource found, kept in the state directory: it has to outlive workers and the host.

Written by the hastd whose node was primary then; the other one knows nothing of it. Nothing is decided by it.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.daemon.logs import in_words
from hast.daemon.record_file import read_object
from hast.format.geometry import human_size

log = logging.getLogger("hast.supervisor")

EVENT = "verified"
FIGURES = ("began", "ended", "total_bytes", "checked_bytes", "differing_bytes", "repaired_bytes", "unreadable_bytes")
MAX_TEXT_CHARACTERS = 200
MAX_RANGES = 16


class Verified:
    """Of one resource. `last` is as docs/control.md has `last_verify`; None where there never was one."""

    def __init__(self, name: str) -> None:
        self._name = name
        found = read_object(_path(name))
        self.last = None if found is None else checked(found)

    @property
    def trouble(self) -> str:
        """What is wrong with the copies as far as the last one knows; empty where nothing is. An interrupted one that
        found nothing says nothing."""
        last = self.last
        if last is None:
            return ""
        told = []
        if last["differing_bytes"] > last["repaired_bytes"]:
            first = f", first at byte {last['ranges'][0][0]}" if last["ranges"] else ""
            told.append(f"{human_size(last['differing_bytes'] - last['repaired_bytes'])} differ{first}")
        if last["unreadable_bytes"]:
            told.append(f"{human_size(last['unreadable_bytes'])} cannot be read on one of them")
        return f"The last verification of the two copies found: {'; '.join(told)}." if told else ""

    def heard(self, event: str, details: Any) -> None:
        """An event of the worker, whose lengths and types are not trusted."""
        if event != EVENT or not isinstance(details, dict) or (found := checked(details)) is None:
            return
        self.last = found
        path = _path(self._name)
        temporary = path.with_name(f"{path.name}~")
        try:
            paths.make_state_directory()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_text(json.dumps(found))
            temporary.rename(path)
        except OSError as error:
            log.warning("What the verification found is not kept: %s: %s.", path, in_words(error))
            with suppress(OSError):
                temporary.unlink()


def checked(found: dict[str, Any]) -> dict[str, Any] | None:
    """A report of replication/verify.py, or None for what is none."""
    figures = {name: found.get(name) for name in FIGURES}
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in figures.values()):
        return None
    ranges = found.get("ranges")
    pairs = ranges[:MAX_RANGES] if isinstance(ranges, list) else []
    return {
        "outcome": str(found.get("outcome"))[:MAX_TEXT_CHARACTERS],
        "reason": str(found.get("reason") or "")[:MAX_TEXT_CHARACTERS],
        "repair": found.get("repair") is True,
        **figures,
        "ranges": [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2],
    }


def _path(name: str) -> Path:
    return paths.state_directory() / "verified" / f"{paths.file_stem(name)}.json"
