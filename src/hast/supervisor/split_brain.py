"""What the supervisor remembers of a resource's split brain, from its detection until both nodes are connected again.

Pure: filled from the workers' events, read by status. docs/control.md names the keys of `as_status`.
"""

from __future__ import annotations

import time
from typing import Any

from hast.format.constants import Role

DETECTED = "split-brain"


class SplitBrainMemory:
    """`known` while the last handshake failed for a split brain and none has succeeded since."""

    def __init__(self) -> None:
        self._report: dict[str, Any] | None = None
        self._detected_s = 0.0
        self._last_s = 0.0
        self._times = 0

    @property
    def known(self) -> bool:
        return self._report is not None

    @property
    def report(self) -> dict[str, Any] | None:
        """What the worker told last; None while no split brain is known."""
        return self._report

    def explain(self, reason: str) -> None:
        """Why it is not resolved, or how, where more than this resource decides."""
        if self._report is not None:
            self._report = self._report | {"reason": reason}

    def heard(self, event: str, details: Any) -> None:
        """A worker said this."""
        if event == "connect":
            self._report = None
        elif event == DETECTED:
            now = time.time()
            if self._report is None:
                self._detected_s, self._times = now, 0
            self._report = details if isinstance(details, dict) else {}
            self._last_s = now
            self._times += 1

    def as_status(self, together: list[str]) -> dict[str, Any] | None:
        """The object `split_brain`; None when there is none. Times in seconds since 1970."""
        if self._report is None:
            return None
        return {
            "since": self._since_s(),
            "detected": round(self._detected_s, 3),
            "last_attempt": round(self._last_s, 3),
            "attempts": self._times,
            "local": self._report.get("local"),
            "peer": self._report.get("peer"),
            "differing_extents": self._report.get("differing_extents"),
            "differing_bytes": self._report.get("differing_bytes"),
            "reason": self._report.get("reason"),
            "together": together,
        }

    def _since_s(self) -> int:
        """When the second of the two nodes went on alone; when that is not known, when it was noticed."""
        assert self._report is not None
        sides = (self._report.get("local"), self._report.get("peer"))
        times = [side["since"] for side in sides if isinstance(side, dict) and side.get("since")]
        return int(max(times)) if len(times) == len(sides) else int(self._detected_s)


def why_not_discard(name: str, role: Role, connected: bool, known: bool) -> str | None:
    """Why this node's changes may not be ordered to be discarded now, and what to do; None when they may.

    `known`: a split brain was detected, or the operator insists.
    """
    if role is Role.PRIMARY:
        return (
            f"Resource {name} is primary on this node, its clients would lose their data: stop what uses it, "
            f"then hastctl role secondary {name}, then repeat this."
        )
    if connected:
        return f"Both copies of {name} are connected: there is no split brain to resolve."
    if not known:
        return (
            f"No split brain of {name} is known here. If hastd was just started, wait until it has met the "
            "other node again; --force gives the order anyway."
        )
    return None
