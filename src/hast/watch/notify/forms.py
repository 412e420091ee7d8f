"""The forms in which a batch of messages is sent: subject and text, JSON, environment. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hast.config.notify_model import Topic
from hast.format.text import printable
from hast.watch.catalogue import kind_of
from hast.watch.notify.decisions.message import LEVELS, Message, State

MAX_SUBJECT_CHARACTERS = 150
_CODES = {
    Topic.DEGRADED: "degraded",
    Topic.SPLIT_BRAIN: "split-brain",
    Topic.DISK_FAILED: "disk",
    Topic.SLOW_DISK: "slow-disk",
    Topic.COPIES_DIFFER: "copies-differ",
    Topic.FROZEN: "frozen",
    Topic.ARBITER_LOST: "arbiter-lost",
    Topic.HASTD_AWAY: "hastd-down",
    Topic.FAILOVER_FAILED: "failover-failed",
}
"""Of the kinds of trouble that `hastctl explain` knows."""


def next_step(message: Message) -> str:
    """The first thing to do about it; empty for what is over, or no trouble."""
    code = _CODES.get(message.topic)
    if code is None or message.state is State.OVER:
        return ""
    return kind_of(code).steps[0].replace("NAME", message.resource or "NAME")


def worst(batch: Sequence[Message]) -> Message:
    """The most severe; the first among equals."""
    return max(batch, key=lambda message: LEVELS.index(message.level))


def subject(batch: Sequence[Message], host: str) -> str:
    """One line for a batch."""
    more = f" (and {len(batch) - 1} more)" if len(batch) > 1 else ""
    return printable(f"hast on {host}: {worst(batch).line}", MAX_SUBJECT_CHARACTERS - len(more)) + more


def body(batch: Sequence[Message], host: str, lost: int) -> str:
    """Some lines for a batch, the oldest first."""
    lines = []
    for message in batch:
        lines.append(f"{_stamp(message.time_s)}  {message.level:8}  {message.line}")
        lines += [f"    next step: {step}"] if (step := next_step(message)) else []
    missing = [f"{lost} earlier message{'s' if lost > 1 else ''} could not be delivered."] if lost else []
    return "\n".join([*lines, "", *missing, f"From hast-notify on {host}. What is true now: hastctl status"]) + "\n"


def document(batch: Sequence[Message], host: str, lost: int) -> dict[str, Any]:
    """The JSON object of a batch (docs/hast-notify.8.md). `text` is what chat services show."""
    told = [f"hast on {host}: {message.line}" for message in batch]
    messages = [{**message.record(), "next_step": next_step(message)} for message in batch]
    return {"host": host, "text": "\n".join(told), "lost": lost, "messages": messages}


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
        "HAST_NEXT_STEP": next_step(message),
        "HAST_COUNT": str(len(batch)),
        "HAST_LOST": str(lost),
    }


def _stamp(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "unknown time"
