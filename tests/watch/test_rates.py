"""Rates and latencies between two pictures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from stories import healthy

from hast.watch.picture import read
from hast.watch.rates import NONE, Percentiles, Rate, Rates, between


def later(**counts: int) -> dict[str, Any]:
    reply = copy.deepcopy(healthy())
    reply["node"]["time"] += 2
    reply["node"]["resources"][0]["statistics"] |= counts
    return reply


def found(reply: dict[str, Any]) -> Rates:
    return between(read(healthy()), read(reply))["disk1"]


def test_a_rate_is_the_difference_by_the_clock_of_the_node_that_serves() -> None:
    assert found(later(reads=10, read_bytes=4096)).read == Rate(5.0, 2048.0)


@pytest.mark.parametrize("bend", [{"workerpid": 7}, {"workerpid": 0}, {"role": "secondary"}])
def test_another_worker_or_none_tells_nothing(bend: dict[str, Any]) -> None:
    reply = later(reads=10)
    reply["node"]["resources"][0] |= bend
    assert found(reply) == NONE


def test_counters_that_are_missing_tell_nothing() -> None:
    reply = later()
    del reply["node"]["resources"][0]["statistics"]["reads"]
    assert found(reply).read.per_s is None


def test_percentiles_are_those_of_the_samples_between() -> None:
    def with_buckets(reply: dict[str, Any], *counts: int) -> dict[str, Any]:
        buckets = [[bound, count] for bound, count in zip((0.001, 0.002, None), counts, strict=True)]
        reply["node"]["resources"][0]["latency"] = {"write": {"peer": {"buckets": buckets}}}
        return reply

    before = read(with_buckets(healthy(), 1000, 0, 0))
    after = read(with_buckets(later(), 1010, 90, 0))
    assert between(before, after)["disk1"].latency == {("write", "peer"): Percentiles(0.002, 0.002)}
    assert between(after, read(with_buckets(later(), 1010, 90, 0)))["disk1"].latency == {}
