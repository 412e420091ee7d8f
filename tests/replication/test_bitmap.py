"""Bits of the activemap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.replication.bitmap import Bitmap

SIZE = 100
bits = st.sets(st.integers(0, SIZE - 1))
runs = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda ends: set(range(min(ends), max(ends))))
"""Whole chunks of them."""
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("discard"), st.integers(0, SIZE - 1)),
        st.tuples(st.just("merge"), bits),
        st.tuples(st.just("merge"), runs),
        st.tuples(st.sampled_from(["subtract", "unite", "intersect"]), st.one_of(bits, runs)),
        st.tuples(st.sampled_from(["fill", "clear"]), st.none()),
    ),
    max_size=30,
)


def packed(members: set[int]) -> bytes:
    return bytes(sum(1 << (n & 7) for n in members if n >> 3 == index) for index in range(13))


def made(members: set[int]) -> Bitmap:
    bitmap = Bitmap(SIZE)
    bitmap.merge(packed(members))
    return bitmap


@given(steps, st.integers(0, SIZE + 5), st.sampled_from([0, 64]), st.sampled_from([2, 1024]))
def test_agrees_with_a_set(script: list[tuple[str, object]], start: int, few: int, chunk_bytes: int) -> None:
    """`few`: the number of bits up to which they are handled one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hast.replication.bitmap._FEW_BITS", few)
        patch.setattr("hast.replication.bitmap._CHUNK_BYTES", chunk_bytes)
        patch.setattr("hast.replication.bitmap._NONE", bytes(chunk_bytes))
        patch.setattr("hast.replication.bitmap._ALL", b"\xff" * chunk_bytes)
        agree(script, start)


def agree(script: list[tuple[str, object]], start: int) -> None:
    bitmap, model = Bitmap(SIZE), set[int]()
    for action, value in script:
        if action == "add":
            assert isinstance(value, int)
            assert bitmap.add(value) == (value not in model)
            model.add(value)
        elif action == "discard":
            assert isinstance(value, int)
            assert bitmap.discard(value) == (value in model)
            model.discard(value)
        elif action == "merge":
            assert isinstance(value, set)
            bitmap.merge(packed(value))
            model |= value
        elif action == "subtract":
            assert isinstance(value, set)
            bitmap.subtract(made(value))
            model -= value
        elif action in ("unite", "intersect"):
            assert isinstance(value, set)
            before = bitmap
            bitmap = bitmap.copy()
            getattr(bitmap, action)(made(value))
            assert list(before) == sorted(model)
            model = model | value if action == "unite" else model & value
        elif action == "fill":
            bitmap.fill()
            model = set(range(SIZE))
        else:
            bitmap.clear()
            model = set()
    assert list(bitmap) == sorted(model)
    assert bitmap.count == len(model)
    assert bitmap.last() == max(model, default=-1)
    assert bool(bitmap) == bool(model)
    assert bytes(bitmap.data) == packed(model)
    assert bitmap.next(start) == min((n for n in model if n >= start), default=-1)
    assert all((n in bitmap) == (n in model) for n in range(SIZE))


def test_bits_beyond_the_size_are_ignored_and_never_set() -> None:
    bitmap = Bitmap(3)
    bitmap.merge(b"\xff\xff\xff")
    assert list(bitmap) == [0, 1, 2]
    with pytest.raises(IndexError):
        bitmap.add(3)


def test_short_image_is_merged_as_far_as_it_goes() -> None:
    bitmap = Bitmap(SIZE)
    bitmap.merge(b"\x80")
    assert list(bitmap) == [7]


def test_next_bit_is_found_across_a_long_gap() -> None:
    bitmap = Bitmap(1_000_000)
    bitmap.add(999_999)
    bitmap.add(3)
    assert bitmap.next(4) == 999_999
    assert bitmap.next(0) == 3
