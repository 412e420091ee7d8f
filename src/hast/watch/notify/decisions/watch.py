"""What is told: conditions that last are told once, when they have lasted, and once more when they are over. No I/O.

Three things come in: looks at the status, events, and what failover(8) wrote. A look is the truth about what lasts. An
event begins a condition at once and never ends one, so that what is over within a moment is told as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hast.config.notify_model import Topic
from hast.watch.notify.decisions.conditions import PEER_DISK, Reading, readings
from hast.watch.notify.decisions.message import Message, State, make

CLEAR_S = 10.0
"""A condition is over when it has not held for so long."""
NODE = ""
"""The resource of what concerns the whole node."""
_MAX_STANDING = 4096

_BEGINS = {
    "split-brain": (Topic.SPLIT_BRAIN, Topic.SPLIT_BRAIN),
    "disk-failed": (Topic.DISK_FAILED, Topic.DISK_FAILED),
    "disk-hung": (Topic.DISK_FAILED, Topic.DISK_FAILED),
    "peer-disk-failed": (PEER_DISK, Topic.DISK_FAILED),
    "frozen": (Topic.FROZEN, Topic.FROZEN),
    "slow-disk": (Topic.SLOW_DISK, Topic.SLOW_DISK),
    "arbiter-lost": (Topic.ARBITER_LOST, Topic.ARBITER_LOST),
}
_HAPPENS = {"syncdone": Topic.RESYNC_DONE}
_FAILOVER = {"done": Topic.FAILOVER_DONE, "failed": Topic.FAILOVER_FAILED}


@dataclass(slots=True)
class _Standing:
    """A condition that holds, or held a moment ago."""

    topic: Topic
    since_s: float
    text: str
    told: bool = False
    good_since_s: float | None = None


class Watch:
    """For one node. Times are seconds since 1970."""

    def __init__(self, degraded_s: float) -> None:
        self._degraded_s = degraded_s
        self._standing: dict[tuple[str, str], _Standing] = {}
        self._failover = ""
        """The run of failover that was told last, or that was over when this began."""

    # --- what comes in ----------------------------------------------------------------------------------------------

    def look(self, now_s: float, entries: Iterable[dict[str, Any]] | None) -> list[Message]:
        """A status of all resources; None: hastd gives none."""
        silent = Reading(Topic.HASTD_AWAY, Topic.HASTD_AWAY, entries is None, "hastd does not answer.")
        answers = Reading(Topic.HASTD_AWAY, Topic.HASTD_AWAY, False, "hastd answers again.")
        out = self._read(now_s, NODE, silent if entries is None else answers)
        if entries is None:
            return out
        seen = {NODE}
        for entry in entries:
            name = str(entry.get("name"))
            seen.add(name)
            for reading in readings(entry):
                out += self._read(now_s, name, reading)
        for key in [key for key in self._standing if key[0] not in seen]:
            del self._standing[key]
        return out

    def event(self, record: dict[str, Any]) -> list[Message]:
        """One event of hastd's stream."""
        name, resource = str(record.get("event")), str(record.get("resource") or NODE)
        text, time_s = str(record.get("text") or name), _seconds(record.get("time"))
        if name in _HAPPENS:
            return [make(_HAPPENS[name], State.HAPPENED, resource, text, time_s)]
        if name == "arbiter-back":
            reading = Reading(Topic.ARBITER_LOST, Topic.ARBITER_LOST, False, text)
            return self._read(time_s, resource, reading)
        if name not in _BEGINS:
            return []
        key, topic = _BEGINS[name]
        return self._read(time_s, resource, Reading(key, topic, True, text, time_s))

    def lost(self, now_s: float, count: int) -> list[Message]:
        """hastd has forgotten events before they were read; 0: nobody knows how many."""
        text = f"{count or 'Some'} events of hastd were lost before they were read; what lasts is told from the status."
        return [make(Topic.EVENTS_LOST, State.HAPPENED, NODE, text, now_s)]

    def failover(self, record: dict[str, Any]) -> list[Message]:
        """What the last run of failover(8) wrote, as often as one likes."""
        run = f"{record.get('request')} {record.get('started_s')}"
        topic = _FAILOVER.get(str(record.get("phase")))
        if topic is None or run == self._failover:
            return []
        self._failover = run
        return [make(topic, State.HAPPENED, NODE, _run_in_words(record), _seconds(record.get("finished_s")))]

    def pass_over(self, record: dict[str, Any]) -> None:
        """A run that ended before anybody was to be told."""
        if str(record.get("phase")) in _FAILOVER:
            self._failover = f"{record.get('request')} {record.get('started_s')}"

    # --- conditions -------------------------------------------------------------------------------------------------

    def _read(self, now_s: float, resource: str, reading: Reading) -> list[Message]:
        where = (resource, reading.key)
        standing = self._standing.get(where)
        if reading.holds is None:
            if standing is not None:
                standing.good_since_s = None
            return []
        if not reading.holds:
            return self._good(now_s, where, standing, reading)
        if standing is None:
            if len(self._standing) >= _MAX_STANDING:
                return []
            since_s = min(now_s, reading.since_s) if reading.since_s is not None else now_s
            standing = self._standing[where] = _Standing(reading.topic, since_s, reading.text)
        standing.good_since_s = None
        if standing.told or now_s - standing.since_s < self._hold_s(reading.topic):
            return []
        standing.told, standing.text = True, reading.text
        lasted_s = now_s - standing.since_s
        text = f"{reading.text} For {_duration(lasted_s)}." if lasted_s >= 1 else reading.text
        return [make(reading.topic, State.BEGUN, resource, text, standing.since_s)]

    def _good(
        self, now_s: float, where: tuple[str, str], standing: _Standing | None, reading: Reading
    ) -> list[Message]:
        if standing is None:
            return []
        if not standing.told:
            del self._standing[where]
            return []
        if standing.good_since_s is None or standing.good_since_s > now_s:
            standing.good_since_s = now_s
        if now_s - standing.good_since_s < CLEAR_S:
            return []
        del self._standing[where]
        text = f"{reading.text} It had begun {_duration(standing.good_since_s - standing.since_s)} before."
        return [make(standing.topic, State.OVER, where[0], text, standing.good_since_s)]

    def _hold_s(self, topic: Topic) -> float:
        return self._degraded_s if topic in (Topic.DEGRADED, Topic.HASTD_AWAY) else 0.0

    # --- over a restart ---------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        standing = [
            [resource, key, each.topic, each.since_s, each.text, each.told]
            for (resource, key), each in self._standing.items()
        ]
        return {"standing": standing, "failover": self._failover}

    def restore(self, record: dict[str, Any]) -> None:
        """Raises ValueError, TypeError for what `record` did not write."""
        for resource, key, topic, since_s, text, told in record["standing"]:
            standing = _Standing(Topic(topic), float(since_s), str(text), told is True)
            self._standing[str(resource), str(key)] = standing
        self._failover = str(record["failover"])


def _run_in_words(record: dict[str, Any]) -> str:
    started_s, finished_s = _seconds(record.get("started_s")), _seconds(record.get("finished_s"))
    names = record.get("resources")
    listed = " ".join(str(name) for name in names) if isinstance(names, list) else ""
    took = f"failover {record.get('verb')} of {listed or 'nothing'}: {record.get('phase')}"
    text = f"{took} after {max(0.0, finished_s - started_s):.1f} s."
    failures = record.get("failures")
    if isinstance(failures, dict) and failures:
        text += " " + "; ".join(f"{name}: {why}" for name, why in failures.items())
    return text


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
