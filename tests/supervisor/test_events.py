"""Event stream and history."""

from __future__ import annotations

import asyncio

from hast.supervisor.events import HISTORY_EVENTS, QUEUE_EVENTS, EventBus


def test_history_is_per_resource_and_bounded() -> None:
    bus = EventBus()
    for index in range(HISTORY_EVENTS + 5):
        bus.publish("connect", "disk1", str(index))
    bus.publish("role", "disk2")
    assert len(bus.history("disk1")) == HISTORY_EVENTS
    assert bus.history("disk1")[-1]["text"] == str(HISTORY_EVENTS + 4)
    assert [event["event"] for event in bus.history("disk2")] == ["role"]
    bus.forget("disk1")
    assert bus.history("disk1") == []


def test_replay_begins_after_since() -> None:
    async def run() -> list[int]:
        bus = EventBus()
        for _ in range(5):
            bus.publish("connect", "disk1")
        subscription = bus.subscribe(3)
        bus.publish("connect", "disk1")
        found = [await subscription.next() for _ in range(3)]
        return [event["seq"] for event in found if event is not None]

    assert asyncio.run(run()) == [4, 5, 6]


def test_subscriber_that_does_not_read_is_cut_off() -> None:
    async def run() -> int:
        bus = EventBus()
        subscription = bus.subscribe()
        for _ in range(QUEUE_EVENTS + 10):
            bus.publish("connect", "disk1")
        count = 0
        while await subscription.next() is not None:
            count += 1
        return count

    assert asyncio.run(run()) == QUEUE_EVENTS


def test_since_from_before_a_restart_replays_everything() -> None:
    async def run() -> int:
        bus = EventBus()
        bus.publish("connect", "disk1")
        event = await bus.subscribe(50).next()
        assert event is not None
        return int(event["seq"])

    assert asyncio.run(run()) == 1
