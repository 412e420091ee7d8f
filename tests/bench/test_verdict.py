"""Whether a benchmark's figure moved: what is told of pairs of runs."""

from __future__ import annotations

import random

import pytest
from bench.jobs import read
from bench.verdict import compare


def noise(seed: int, count: int, factor: float) -> list[float]:
    chance = random.Random(seed)
    return [factor * (1 + 0.1 * (chance.random() - 0.5)) for _ in range(count)]


def test_a_tenth_more_in_each_of_six_pairs_is_told() -> None:
    verdict = compare(noise(1, 6, 100), noise(2, 6, 120))
    assert verdict.moved
    assert verdict.ratio == pytest.approx(1.2, abs=0.1)


def test_pairs_without_a_difference_are_rarely_taken_for_one() -> None:
    told = sum(compare(noise(2 * seed, 6, 100), noise(2 * seed + 1, 6, 100)).moved for seed in range(300))
    assert told <= 0.08 * 300


def test_a_machine_that_drifts_moves_nothing_where_pairs_agree() -> None:
    before = [100, 60, 140, 80, 50, 120]
    assert not compare(before, [value * (1.01 if place % 2 else 0.99) for place, value in enumerate(before)]).moved


def test_fewer_than_six_pairs_prove_nothing() -> None:
    assert not compare([1, 1, 1, 1, 1], [2, 2, 2, 2, 2]).moved
    assert compare([1] * 6, [2] * 6).moved


def test_a_difference_too_small_to_matter_is_not_told() -> None:
    assert not compare([1] * 8, [1.01] * 8).moved


def test_figures_that_are_missing_move_nothing() -> None:
    assert not compare([0, 0], [1, 0]).moved
    with pytest.raises(ValueError):
        compare([1], [1, 2])


def test_what_fio_says_is_read_in_the_unit_of_the_job() -> None:
    figures = {
        "iops": 250.0,
        "bw_bytes": 3 << 20,
        "total_ios": 500,
        "clat_ns": {"max": 50000, "percentile": {"50.000000": 2000, "99.000000": 9000, "99.900000": 20000}},
    }
    outcome = read({"jobs": [{"mixed": figures}]}, "MiB/s")
    assert (outcome.value, outcome.p50_us, outcome.p99_us, outcome.operations) == (3.0, 2.0, 9.0, 500)
    assert (outcome.p999_us, outcome.longest_us) == (20.0, 50.0)
    assert read({"jobs": [{"mixed": figures}]}, "IOPS").value == 250.0
