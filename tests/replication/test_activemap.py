"""Which extents may differ, and what of that is on the disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from driver import EXTENT, EXTENTS, MAP, image, marked
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hast.replication.activemap import SCAN, Activemap
from hast.replication.bitmap import Bitmap


def made(on_disk: bytes = bytes(MAP), keepdirty: int = 4) -> Activemap:
    return Activemap(EXTENT * EXTENTS, EXTENT, MAP, 512, keepdirty, on_disk)


def test_extent_size_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="not a power of two"):
        Activemap(1 << 20, 3000, MAP, 512, 4, bytes(MAP))


def test_bits_found_on_the_disk_are_armed() -> None:
    amap = made(image(3))
    assert amap.begin(3, 3)
    assert not amap.begin(4, 4)


def test_only_the_sectors_that_changed_are_written() -> None:
    extents = 512 * 8 * 4
    amap = Activemap(EXTENT * extents, EXTENT, 2048, 512, 4, bytes(2048))
    amap.begin(512 * 8, 512 * 8)
    assert amap.take_image() == (512, b"\1" + bytes(511))
    assert amap.take_image() is None
    amap.begin(0, 0)
    amap.begin(512 * 8 * 2, 512 * 8 * 2)
    taken = amap.take_image()
    assert taken is not None
    assert (taken[0], len(taken[1])) == (0, 1536)


def test_unit_of_writing_is_the_sector_of_the_disk() -> None:
    amap = Activemap(EXTENT * 64, EXTENT, 4096, 4096, 4, bytes(4096))
    amap.begin(0, 0)
    taken = amap.take_image()
    assert taken is not None
    assert (taken[0], len(taken[1])) == (0, 4096)


def test_large_extents_need_no_counter_of_pieces() -> None:
    """Section 10.2: memtab counter is 16 bit: extent sizes from 8 GiB up overflow."""
    size = 1 << 34
    amap = Activemap(size * 2, size, MAP, 512, 4, image(0, 1))
    amap.owed_remote.merge(image(0, 1))
    assert amap.dirty_bytes() == 2 * size
    assert amap.extent_length(1) == size


def test_keepdirty_extents_are_the_most_recently_written() -> None:
    amap = made(keepdirty=2)
    for extent in (5, 6, 7, 5):
        amap.clock += 1
        amap.begin(extent, extent)
        amap.end(extent, extent)
    amap.arm(amap.arming.copy())
    assert amap.stale_bits(False) == [6]
    assert set(amap.stale_bits(True)) == {5, 6, 7}


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions, Python's and built in, this work calls."""
    count = 0

    def counted(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_work_on_the_whole_map_is_done_by_chunks_of_many_extents() -> None:
    """8 TiB in extents of 2 MiB, all owed by a new peer: no loop over four million extents. Some are marked already."""
    extents = 1 << 22
    amap = Activemap(extents << 21, 1 << 21, extents // 8, 512, 64, bytes(extents // 8))
    for extent in range(0, extents, extents // 100):
        amap.begin(extent, extent)
        amap.end(extent, extent)
    amap.arm(amap.arming.copy())
    everything = bytes([0xFF]) * (extents // 8)

    def join() -> None:
        amap.mark(everything)
        amap.take_image()
        amap.arm(amap.arming.copy())
        amap.owed_remote.merge(everything)

    assert calls_of(join) < extents // 500
    assert amap.owed_remote.count == amap.armed.count == extents
    assert not amap.arming
    amap.owed_remote.clear()

    def clean() -> None:
        amap.disarm(amap.stale_bits(True), amap.flush_begins())

    assert calls_of(clean) < extents // 500
    assert not amap.armed
    taken = amap.take_image()
    assert taken == (0, bytes(extents // 8))


def test_many_extents_written_while_the_peer_was_away_make_no_flush_slow() -> None:
    """Each flush looks at some of them, puts off what is owed, and goes on with the others at the next."""
    extents = 1 << 20
    amap = Activemap(extents << 21, 1 << 21, extents // 8, 512, 64, bytes([0xFF]) * (extents // 8))
    amap.hot = dict.fromkeys(range(extents), 0)
    amap.begin(7, 7)
    amap.owed_remote.merge(bytes([0xFF]) * (extents // 16))
    owed = extents // 2

    def flush() -> None:
        covered = amap.flush_begins()
        amap.disarm(amap.stale_bits(False), covered)

    assert calls_of(flush) < 20 * SCAN
    assert len(amap.hot) == extents - SCAN + 1, "the one in flight stays, at the end"
    for _ in range(owed // SCAN):
        flush()
    assert amap.armed.count < extents - SCAN // 2, "those that are not owed have their turn"
    assert set(range(owed)) <= set(amap.armed)


def test_map_of_a_peer_names_what_is_armed_and_what_is_on_its_way_once() -> None:
    amap = made(image(3))
    amap.begin(4, 4)
    amap.mark(image(3, 4, 5))
    assert set(amap.arming) == {4, 5}
    taken = amap.take_image()
    assert taken is not None
    assert marked(taken[1]) == {3, 4, 5}


class ActivemapMachine(RuleBasedStateMachine):
    """A map against sets: writes come and go, maps are stored, flushes cover what was confirmed before they began."""

    def __init__(self) -> None:
        super().__init__()
        self.map = made()
        self.disk: set[int] = set()
        self.waiting: list[tuple[int, int]] = []
        self.running: list[tuple[int, int]] = []
        self.unflushed: set[int] = set()
        """Extents with a confirmed write that no flush covered."""
        self.job: tuple[Bitmap, set[int]] | None = None
        self.flush: tuple[int, Bitmap | list[int], set[int]] | None = None

    @rule(first=st.integers(0, 15), more=st.integers(0, 2))
    def begin(self, first: int, more: int) -> None:
        self.map.clock += 1
        armed = self.map.begin(first, first + more)
        assert armed == (set(range(first, first + more + 1)) <= self.disk_armed())
        (self.running if armed else self.waiting).append((first, first + more))

    def disk_armed(self) -> set[int]:
        return set(self.map.armed)

    @precondition(lambda self: self.job is None)
    @rule()
    def store(self) -> None:
        taken = self.map.take_image()
        if taken is not None:
            image_now = bytearray(image(*self.disk))
            image_now[taken[0] : taken[0] + len(taken[1])] = taken[1]
            self.job = (self.map.arming.copy(), marked(bytes(image_now)))

    @precondition(lambda self: self.job is not None)
    @rule()
    def stored(self) -> None:
        assert self.job is not None
        arming, self.disk = self.job
        self.job = None
        self.map.arm(arming)
        for write in list(self.waiting):
            if self.map.is_armed(*write):
                self.waiting.remove(write)
                self.running.append(write)

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 100))
    def end(self, number: int) -> None:
        write = self.running.pop(number % len(self.running))
        self.map.end(*write)
        self.unflushed |= set(range(write[0], write[1] + 1))

    @precondition(lambda self: self.flush is None)
    @rule(everything=st.booleans())
    def flush_begins(self, everything: bool) -> None:
        covered = set(self.unflushed)
        self.flush = (self.map.flush_begins(), self.map.stale_bits(everything), covered)
        self.unflushed = set()

    @precondition(lambda self: self.flush is not None)
    @rule(ok=st.booleans())
    def flush_ends(self, ok: bool) -> None:
        assert self.flush is not None
        clock, cleanable, covered = self.flush
        self.flush = None
        if ok:
            self.map.disarm(cleanable, clock)
        else:
            self.unflushed |= covered

    @rule(extent=st.integers(0, 15), remote=st.booleans())
    def owe(self, extent: int, remote: bool) -> None:
        if extent in self.map.armed:
            (self.map.owed_remote if remote else self.map.owed_local).add(extent)

    @rule(extent=st.integers(0, 15))
    def repaid(self, extent: int) -> None:
        self.map.owed_remote.discard(extent)
        self.map.owed_local.discard(extent)

    @invariant()
    def s1_running_writes_are_marked_on_the_disk(self) -> None:
        for first, last in self.running:
            assert set(range(first, last + 1)) <= self.disk

    @invariant()
    def s2_s3_what_is_not_flushed_or_owed_is_marked_on_the_disk(self) -> None:
        needed = self.unflushed | set(self.map.owed_remote) | set(self.map.owed_local)
        if self.flush is not None:
            needed |= self.flush[2]
        assert needed <= self.disk

    @invariant()
    def armed_bits_are_on_the_disk(self) -> None:
        assert self.disk_armed() <= self.disk


ActivemapMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestActivemap = ActivemapMachine.TestCase
