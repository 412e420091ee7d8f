"""Events of hastd over its restarts and ours: none twice, and what is missing is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hast.watch.notify import sources
from hast.watch.notify.sources import Place, follow
from hast.watch.source import NoAnswer, Source


def event(seq: int, time_s: float | None = None) -> dict[str, Any]:
    return {"seq": seq, "time": float(seq) if time_s is None else time_s, "event": "role", "resource": "disk1"}


class Script(Source):
    """A hastd that remembers these events, and ends each stream after them."""

    def __init__(self, pid: int, *events: dict[str, Any], newest: int | None = None) -> None:
        super().__init__("/nonexistent")
        self.pid, self.remembered = pid, list(events)
        self.newest = newest if newest is not None else max((each["seq"] for each in events), default=0)

    async def stream(self, since: int | None = None) -> AsyncGenerator[dict[str, Any], None]:
        yield {"error": None, "seq": self.newest, "pid": self.pid}
        if since is not None:
            since = 0 if since > self.newest else since
            for each in self.remembered:
                if each["seq"] > since:
                    yield each
        raise NoAnswer("hastd ended the stream of events.")


def read(place: Place, script: Script, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """Numbers of the events that were handed on, and the losses that were told."""
    monkeypatch.setattr(sources, "RETRY_S", 0.0)
    taken: list[int] = []
    lost: list[int] = []

    async def main() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await follow(script, place, lambda record: taken.append(record["seq"]), lost.append)

    asyncio.run(main())
    return taken, lost


def test_nothing_from_before_the_first_start_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    assert read(place, Script(7, event(1), event(2)), monkeypatch) == ([], [])
    assert (place.seq, place.pid) == (2, 7)
    assert read(place, Script(7, event(1), event(2), event(3)), monkeypatch) == ([3], [])


def test_events_that_hastd_has_forgotten_are_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(Place(5, 7, 5.0), Script(7, event(9), event(10)), monkeypatch) == ([9, 10], [3])


def test_a_hastd_whose_numbers_go_on_tells_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(number) for number in range(1, 8)]
    assert read(Place(5, 7, 5.0), Script(8, *events), monkeypatch) == ([6, 7], [])


def test_a_hastd_whose_numbers_begin_anew_is_read_from_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(5, 7, 5.0)
    assert read(place, Script(8, event(1, 20.0), event(2, 21.0)), monkeypatch) == ([1, 2], [])
    assert (place.seq, place.pid, place.time_s) == (2, 8, 21.0)


def test_numbers_that_have_passed_ours_after_a_restart_are_read_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(number, 20.0 + number) for number in range(1, 9)]
    assert read(Place(5, 7, 5.0), Script(8, *events), monkeypatch)[0] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_restarted_hastd_that_has_forgotten_its_first_events_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(Place(5, 7, 5.0), Script(8, event(4, 20.0), event(6, 22.0)), monkeypatch) == ([4, 6], [0, 1])
