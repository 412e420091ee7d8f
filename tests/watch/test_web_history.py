"""Rates, latencies and the timeline that the page keeps for a reload."""

from __future__ import annotations

from typing import Any

import pytest
from pictures import healthy

from hast.watch.picture import Picture, read
from hast.watch.web.history import GAP_S, MAX_POINTS, SERIES, WINDOW_S, History, percentile_s
from hast.watch.web.timeline import MAX_ENTRIES, Timeline


def picture(written: int, worker: int = 7, **more: Any) -> Picture:
    reply = healthy()
    reply["node"]["resources"][0] |= {"workerpid": worker, "statistics": {"write_bytes": written, "writes": 1}} | more
    return read(reply)


def value(point: dict[str, Any] | None, series: str) -> Any:
    assert point is not None
    return point["r"]["disk1"][SERIES.index(series)]


def test_a_rate_is_what_was_counted_between_two_pictures() -> None:
    history = History()
    assert history.add(picture(1000), 10.0) is None
    assert value(history.add(picture(5000), 12.0), "write_bytes_s") == 2000.0


@pytest.mark.parametrize(("worker", "later_s"), [(8, 12.0), (7, 11.0 + GAP_S)])
def test_a_new_worker_or_a_time_without_anybody_looking_is_a_gap(worker: int, later_s: float) -> None:
    history = History()
    history.add(picture(1000), 10.0)
    assert history.add(picture(9000, worker), later_s) is None
    assert history.add(picture(9500, worker), later_s + 1) is not None


def test_a_counter_that_went_back_is_no_rate() -> None:
    history = History()
    history.add(picture(5000), 10.0)
    assert value(history.add(picture(10), 12.0), "write_bytes_s") is None


def test_what_is_kept_has_a_bound_in_number_and_in_time() -> None:
    history = History()
    for number in range(3 * MAX_POINTS):
        history.add(picture(number), 100.0 + number * 0.5)
    assert len(history.points()) == MAX_POINTS
    history.add(picture(9999), history.points()[-1]["t"] + 2 * WINDOW_S)
    assert history.points() == []


def test_a_percentile_is_that_of_what_was_added() -> None:
    before = {"buckets": [[0.001, 1000], [0.002, 0], [None, 0]]}
    now = {"buckets": [[0.001, 1098], [0.002, 2], [None, 0]]}
    assert percentile_s(now, before, 50) == 0.001
    assert percentile_s(now, before, 99) == 0.002
    assert percentile_s(now, now, 99) is None
    assert percentile_s({"buckets": "x"}, before, 99) is None


def event(time_s: float, resource: str = "disk1", text: str = "lost") -> dict[str, Any]:
    return {"seq": 1, "time": time_s, "event": "disconnect", "resource": resource, "text": text, "level": "warning"}


def test_an_event_that_is_told_by_the_picture_and_by_the_stream_is_there_once() -> None:
    timeline = Timeline()
    timeline.add_event(event(5.0), "hasta")
    for _ in range(3):
        timeline.add_picture(picture(1, history=[event(5.0)]))
    assert [each["event"] for each in timeline.entries()].count("disconnect") == 1
    version = timeline.version
    timeline.add_picture(picture(1, history=[event(5.0)]))
    assert timeline.version == version


def test_what_happens_to_several_resources_at_once_is_said_once() -> None:
    timeline = Timeline()
    for name in ("disk2", "disk1"):
        timeline.add_event(event(5.0, name), "hasta")
    timeline.add_event(event(50.0, "disk3"), "hasta")
    assert [each["resource"] for each in timeline.entries()] == ["disk3", "disk1, disk2"]


def test_a_fail_over_is_an_entry_that_ends_with_its_outcome_and_how_long_it_took() -> None:
    timeline = Timeline()
    reply = healthy()
    for run in (
        {"verb": "master", "phase": "running", "started_s": 10.0},
        {"verb": "master", "phase": "done", "started_s": 10.0, "finished_s": 11.5},
    ):
        reply["node"]["failover"] = run
        timeline.add_picture(read(reply))
    (entry,) = (each for each in timeline.entries() if each["kind"] == "failover")
    assert entry["text"] == "failover master: done, after 1.5 s."


def test_the_timeline_forgets_the_oldest() -> None:
    timeline = Timeline()
    for number in range(MAX_ENTRIES + 50):
        timeline.add_event(event(float(number), text=str(number)), "hasta")
    texts = [each["text"] for each in timeline.entries()]
    assert len(texts) == MAX_ENTRIES
    assert texts[0] == str(MAX_ENTRIES + 49)
