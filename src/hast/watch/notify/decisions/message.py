"""One message: what is told once. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hast.config.notify_model import Topic
from hast.format.text import printable

MAX_TEXT_CHARACTERS = 1000
LEVELS = ("info", "warning", "error", "critical")
_LEVEL_OF = {
    Topic.DEGRADED: "warning",
    Topic.SPLIT_BRAIN: "critical",
    Topic.DISK_FAILED: "error",
    Topic.SLOW_DISK: "warning",
    Topic.FROZEN: "critical",
    Topic.ARBITER_LOST: "error",
    Topic.HASTD_AWAY: "error",
    Topic.FAILOVER_FAILED: "critical",
    Topic.EVENTS_LOST: "warning",
}


class State(StrEnum):
    """Whether something lasts."""

    BEGUN = "begun"
    OVER = "over"
    HAPPENED = "happened"


@dataclass(frozen=True, slots=True)
class Message:
    """What is told once. `resource` is empty where it concerns the node."""

    topic: Topic
    state: State
    resource: str
    text: str
    time_s: float
    """Since 1970: when it happened, not when it was told."""

    @property
    def level(self) -> str:
        return "info" if self.state is State.OVER else _LEVEL_OF.get(self.topic, "info")

    @property
    def line(self) -> str:
        """`disk1: degraded: …`"""
        about = f"{self.resource}: " if self.resource else ""
        over = " is over" if self.state is State.OVER else ""
        return f"{about}{self.topic}{over}: {self.text}"

    def record(self) -> dict[str, Any]:
        """As it is in JSON; `from_record` reads it back."""
        return {
            "event": str(self.topic),
            "state": str(self.state),
            "level": self.level,
            "resource": self.resource,
            "text": self.text,
            "time": round(self.time_s, 3),
        }


def make(topic: Topic, state: State, resource: str, text: str, time_s: float) -> Message:
    """One line of text, whatever a daemon or a peer said."""
    return Message(topic, state, printable(resource), printable(text, MAX_TEXT_CHARACTERS), time_s)


def from_record(record: Any) -> Message | None:
    """None for what is no message."""
    try:
        topic, state = Topic(record["event"]), State(record["state"])
        return make(topic, state, str(record["resource"]), str(record["text"]), float(record["time"]))
    except (KeyError, TypeError, ValueError):
        return None
