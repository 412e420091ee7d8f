"""The order of overlapping operations."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.replication.ranges import RangeTable
from hast.replication.types import WRITE, Request

KIB = 1024
BUCKET = 128 * KIB
lengths = st.one_of(
    st.integers(1, 64).map(lambda n: n * 4 * KIB),
    st.sampled_from([128 * KIB, 256 * KIB, 8 * KIB * KIB, 8 * KIB * KIB + 512, 20 * KIB * KIB]),
)
offsets = st.one_of(st.integers(0, 16), st.integers(0, 512))
"""In 32 KiB; mostly close together, so that ranges cross from one bucket into the next where others are."""
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), offsets.map(lambda n: n * 32 * KIB), lengths),
        st.tuples(st.just("release"), st.integers(0, 1000), st.just(0)),
    ),
    max_size=60,
)


def overlap(a: Request, b: Request) -> bool:
    return a.offset < b.offset + b.length and b.offset < a.offset + a.length


@settings(max_examples=300, deadline=None)
@given(steps)
def test_s5_agrees_with_a_naive_model(script: list[tuple[str, int, int]]) -> None:
    """An operation starts when no earlier one that overlaps is unfinished, and at once then."""
    table = RangeTable()
    order: list[Request] = []
    running: list[Request] = []

    def may_start(request: Request) -> bool:
        return not any(overlap(request, other) for other in order[: order.index(request)])

    for action, first, length in script:
        if action == "add":
            request = Request(WRITE, first, length)
            order.append(request)
            assert table.add(request) == may_start(request)
            if may_start(request):
                running.append(request)
        elif running:
            request = running.pop(first % len(running))
            waiting = [other for other in order if other not in running and other is not request]
            order.remove(request)
            freed = table.release(request)
            assert freed == [other for other in waiting if may_start(other)]
            running += freed
        assert table.size == len(order)
    while running:
        request = running.pop()
        order.remove(request)
        running += table.release(request)
    assert not order, "an operation waits for ever"
    assert table.size == 0
    assert not table._buckets
    assert not table._wide


@pytest.mark.parametrize("bucket", range(4))
def test_s5_operation_over_several_buckets_waits_in_each_of_them(bucket: int) -> None:
    table = RangeTable()
    first = Request(WRITE, bucket * BUCKET + 4096, 4096)
    wide = Request(WRITE, 0, 4 * BUCKET)
    assert table.add(first)
    assert not table.add(wide)
    assert table.release(first) == [wide]


@pytest.mark.parametrize("bucket", range(4))
def test_s5_operation_waits_for_one_that_began_in_an_earlier_bucket(bucket: int) -> None:
    table = RangeTable()
    wide = Request(WRITE, 0, 4 * BUCKET)
    later = Request(WRITE, (bucket + 1) * BUCKET - 4096, 8192)
    assert table.add(wide)
    assert not table.add(later)
    assert table.release(wide) == [later]


def test_operation_over_the_whole_disk_waits_for_all_and_holds_all() -> None:
    table = RangeTable()
    small, whole = Request(WRITE, 4096, 4096), Request(WRITE, 0, 1 << 40)
    assert table.add(small)
    assert not table.add(whole)
    late = Request(WRITE, 1 << 39, 4096)
    assert not table.add(late)
    assert table.release(small) == [whole]
    assert table.release(whole) == [late]
    assert table.release(late) == []
