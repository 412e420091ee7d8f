"""One message, and the forms in which a batch of them is sent: subject and text, JSON, environment. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from hast.config.notify_model import Topic
from hast.format.text import printable

MAX_TEXT_CHARACTERS = 1000
MAX_SUBJECT_CHARACTERS = 150
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


def worst(batch: Sequence[Message]) -> Message:
    """The most severe; the first among equals."""
    return max(batch, key=lambda message: LEVELS.index(message.level))


def subject(batch: Sequence[Message], host: str) -> str:
    """One line for a batch."""
    more = f" (and {len(batch) - 1} more)" if len(batch) > 1 else ""
    return printable(f"hast on {host}: {worst(batch).line}", MAX_SUBJECT_CHARACTERS - len(more)) + more


def body(batch: Sequence[Message], host: str, lost: int) -> str:
    """Some lines for a batch, the oldest first."""
    lines = [f"{_stamp(message.time_s)}  {message.level:8}  {message.line}" for message in batch]
    missing = [f"{lost} earlier message{'s' if lost > 1 else ''} could not be delivered."] if lost else []
    return "\n".join([*lines, "", *missing, f"From hast-notify on {host}. What is true now: hastctl status"]) + "\n"


def document(batch: Sequence[Message], host: str, lost: int) -> dict[str, Any]:
    """The JSON object of a batch (docs/hast-notify.8.md). `text` is what chat services show."""
    told = [f"hast on {host}: {message.line}" for message in batch]
    return {"host": host, "text": "\n".join(told), "lost": lost, "messages": [message.record() for message in batch]}


def environment(batch: Sequence[Message], host: str, lost: int) -> dict[str, str]:
    """Variables of a command: the most severe of a batch, and how many there are."""
    message = worst(batch)
    return {
        "HAST_HOST": host,
        "HAST_EVENT": str(message.topic),
        "HAST_STATE": str(message.state),
        "HAST_LEVEL": message.level,
        "HAST_RESOURCE": message.resource,
        "HAST_TEXT": message.text,
        "HAST_TIME": f"{message.time_s:.3f}",
        "HAST_COUNT": str(len(batch)),
        "HAST_LOST": str(lost),
    }


def _stamp(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "unknown time"
