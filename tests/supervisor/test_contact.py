"""Since when two nodes are apart."""

from __future__ import annotations

from typing import Any

import pytest

from hast.supervisor.contact import ContactMemory
from hast.supervisor.events import EventBus


def role(time_s: float, new: str) -> dict[str, Any]:
    return {"event": "role", "time": time_s, "new": new, "text": ""}


def event(time_s: float, name: str, text: str = "", **more: Any) -> dict[str, Any]:
    return {"event": name, "time": time_s, "text": text, **more}


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([], None),
        ([role(1, "primary")], 1),
        ([role(1, "secondary"), role(2, "primary")], 1),
        ([event(1, "connect"), role(2, "primary")], None),
        ([role(1, "secondary"), event(2, "connect")], None),
        ([role(1, "secondary"), event(2, "connect"), event(3, "disconnect")], 3),
        ([role(1, "secondary"), event(2, "connect"), event(3, "disconnect"), role(4, "primary")], 3),
        ([event(1, "connect"), role(2, "primary"), role(3, "secondary")], 3),
        ([role(1, "secondary"), event(2, "connect"), role(3, "init")], None),
        ([role(1, "secondary"), event(2, "split-brain"), event(3, "split-brain")], 1),
    ],
)
def test_since_when(events: list[dict[str, Any]], since: float | None) -> None:
    memory = ContactMemory()
    for each in events:
        memory.heard(each)
    assert memory.since_s == since


def test_the_reason_is_what_ended_the_connection() -> None:
    memory = ContactMemory()
    memory.heard(event(1, "disconnect", "Disconnected from the peer: it is gone."))
    assert memory.reason == "Disconnected from the peer: it is gone"
    memory.heard(event(2, "disconnect", "Disconnected.", details={"reason": "it is gone"}))
    assert memory.reason == "it is gone"
    memory.heard(event(3, "connect"))
    assert memory.reason == ""


def test_the_bus_remembers_beyond_its_history() -> None:
    bus = EventBus()
    bus.publish("role", "disk1", new="primary")
    since = bus.contact("disk1").since_s
    assert since is not None
    for _ in range(100):
        bus.publish("split-brain", "disk1")
    assert bus.contact("disk1").since_s == since
    bus.forget("disk1")
    assert bus.contact("disk1").since_s is None
