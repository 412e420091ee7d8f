"""What is shown of how long operations take: samples of each kind, on the copy that carried them out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from driver import EIO, EXTENT, SECTOR, Rig, Shelf, image

from hast.format.constants import Replication
from hast.replication.latency import Histogram
from hast.replication.primary import Settings
from hast.replication.types import FLUSH, READ, WRITE, Request

FAST_S, SLOW_S = 0.002, 0.3


def filled(*times_s: float) -> Histogram:
    histogram = Histogram()
    for each_s in times_s:
        histogram.add(each_s)
    return histogram


def shown(engine: Any) -> dict[str, dict[str, Any]]:
    latency = engine.status()["latency"]
    assert isinstance(json.loads(json.dumps(latency, allow_nan=False)), dict)
    return latency  # type: ignore[no-any-return]


def counted(engine: Any) -> dict[tuple[str, str], int]:
    return {(op, copy): each["count"] for op, copies in shown(engine).items() for copy, each in copies.items()}


@pytest.mark.parametrize("seconds", [1e-6, 5e-6, 7e-5, 0.0012, 0.9, 12.0])
def test_a_percentile_is_no_less_than_the_times_and_at_most_a_quarter_more(seconds: float) -> None:
    for percent in (50, 99):
        assert seconds <= filled(*[seconds] * 200).percentile_s(percent) <= seconds * 1.26 + 2e-6


def test_p99_leaves_out_the_worst_hundredth_only() -> None:
    assert filled(*[FAST_S] * 990, *[SLOW_S] * 10).percentile_s(99) < 2 * FAST_S
    assert filled(*[FAST_S] * 980, *[SLOW_S] * 20).percentile_s(99) >= SLOW_S
    assert filled(*[FAST_S] * 501, *[SLOW_S] * 499).percentile_s(50) < 2 * FAST_S
    assert filled(*[FAST_S] * 499, *[SLOW_S] * 501).percentile_s(50) >= SLOW_S
    assert Histogram().percentile_s(99) == 0.0


def test_times_beyond_all_bounds_are_counted() -> None:
    assert filled(1e9).count == 1
    assert filled(-1.0).count == 1
    assert filled(-1.0).sum_s == 0.0


def test_the_buckets_that_are_shown_are_powers_of_two_and_hold_each_time_once() -> None:
    times_s = [0.0, 3e-6, 15e-6, 17e-6, 0.0009, 0.001, 0.0011, 1.0, 16.0, 17.0, 5000.0]
    buckets = filled(*times_s).shown()
    bounds = [upper_s for upper_s, _count in buckets]
    assert bounds == [16e-6 * 2**step for step in range(21)] + [None]
    below_s = 0.0
    for upper_s, count in buckets:
        top_s = upper_s or float("inf")
        assert count == sum(1 for each_s in times_s if below_s <= each_s < top_s), upper_s
        below_s = top_s


def test_a_read_a_write_and_a_flush_are_measured_where_they_are_carried_out() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.now += 1
    rig.write(SECTOR)
    rig.now += 0.5
    rig.finish_local()
    rig.now += 0.5
    rig.answer_remote()
    rig.read(0)
    rig.now += 0.25
    rig.finish_local()
    times = shown(rig.engine)
    assert set(times["write"]) == {"local", "peer"}
    assert set(times["read"]) == {"local"}
    assert times["write"]["local"]["sum_s"] == 0.5
    assert times["write"]["peer"]["sum_s"] == 1.0
    assert (times["read"]["local"]["count"], times["read"]["local"]["sum_s"]) == (1, 0.25)
    assert 0.25 <= times["read"]["local"]["p50_s"] == times["read"]["local"]["p99_s"] < 0.32
    rig.flush()
    rig.work()
    assert counted(rig.engine)["flush", "peer"] == counted(rig.engine)["flush", "local"] == 1


def test_one_operation_of_a_kind_is_measured_at_a_time_and_not_each() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.work()
    rig.now += 1
    for _ in range(3):
        rig.submit(*[Request(READ, SECTOR * each, SECTOR) for each in range(4)])
        rig.submit(*[Request(WRITE, SECTOR * each, SECTOR, bytes(SECTOR)) for each in range(4)])
    rig.work()
    times = counted(rig.engine)
    assert (times["read", "local"], times["write", "local"], times["write", "peer"]) == (1, 1, 1)


def test_a_write_is_measured_while_one_copy_is_away_or_is_being_made() -> None:
    rig = Rig()
    rig.write(0)
    rig.store_all()
    rig.write(SECTOR)
    rig.work()
    assert counted(rig.engine)["write", "local"] == 1
    rig.attach()
    assert rig.engine.sync.active
    rig.now += 1
    rig.write(SECTOR)
    request = rig.local[-1]
    rig.finish_local(request)
    rig.work()
    times = counted(rig.engine)
    assert (times["write", "local"], times["write", "peer"]) == (2, 1)
    assert rig.engine.core.pace.writes.local.count == 0, "compared are copies with as much to do"


def test_a_read_that_this_copy_lacks_is_measured_at_the_peer() -> None:
    rig = Rig(on_disk=image(3))
    rig.attach()
    rig.engine.core.map.owed_local.add(9)
    rig.now += 1
    request = rig.read(9 * EXTENT)
    assert request not in rig.local
    rig.now += 0.5
    rig.answer_remote()
    assert shown(rig.engine)["read"]["peer"]["count"] == 1
    assert "local" not in shown(rig.engine)["read"]


def test_a_read_that_failed_or_was_lost_is_not_measured_and_the_next_one_is() -> None:
    rig = Rig()
    rig.connect()
    rig.read(0)
    rig.finish_local(error=EIO)
    rig.answer_remote()
    rig.engine.core.map.owed_local.add(9)
    rig.now += 1
    rig.read(9 * EXTENT)
    rig.lose()
    assert "read" not in shown(rig.engine)
    rig.now += 1
    rig.read(0)
    rig.finish_local()
    assert counted(rig.engine)["read", "local"] == 1


def test_a_secondary_measures_its_own_disk() -> None:
    shelf = Shelf().ready()
    before = counted(shelf.engine)
    shelf.now += 1
    for seq, op in enumerate((WRITE, READ), 1):
        shelf.request(op, seq, 0, SECTOR, bytes(SECTOR) if op == WRITE else None)
        shelf.now += 0.5
        shelf.work()
        shelf.now += 0.5
    shelf.request(WRITE, 3, 0, SECTOR, bytes(SECTOR))
    shelf.request(FLUSH, 4)
    shelf.now += 1
    shelf.finish_local(shelf.local[0])
    shelf.now += 0.25
    shelf.work()
    times = shown(shelf.engine)
    assert (times["read"]["local"]["sum_s"], times["write"]["local"]["sum_s"]) == (0.5, 1.5)
    assert times["flush"]["local"]["count"] == before["flush", "local"] + 1
    assert times["flush"]["local"]["sum_s"] == 0.25, "from when it began: it waited for the write before it"
    assert all(set(copies) == {"local"} for copies in times.values())


def risk(rig: Rig) -> Any:
    return rig.engine.status()["at_risk_bytes"]


def test_nothing_is_at_risk_while_both_copies_have_what_was_answered() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert risk(rig) == 0, "not answered yet"
    rig.work()
    assert risk(rig) == 0


def test_what_the_peer_lacks_is_at_risk_until_it_was_copied() -> None:
    rig = Rig()
    rig.connect()
    rig.lose()
    rig.write(0)
    rig.write(5 * EXTENT, 2 * EXTENT)
    rig.work()
    assert risk(rig) == 3 * EXTENT
    rig.attach()
    assert risk(rig) == 3 * EXTENT
    rig.work()
    assert risk(rig) == 0


@pytest.mark.parametrize(("mode", "extents"), [(Replication.ASYNC, 1), (Replication.MEMSYNC, 0)])
def test_what_was_answered_before_the_peer_had_it_is_at_risk(mode: Replication, extents: int) -> None:
    rig = Rig(settings=Settings(replication=mode))
    rig.connect()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    assert len(rig.finished) == (mode is Replication.ASYNC)
    assert risk(rig) == extents * EXTENT
    rig.work()
    assert risk(rig) == 0
