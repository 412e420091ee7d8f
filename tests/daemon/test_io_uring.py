"""io_uring by its system calls, on the running kernel."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import pytest
from onlooker import never

from hast.daemon.io_uring import Ring, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())


@pytest.fixture(params=[False, True], ids=["narrow", "wide"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    made = Ring(8, wide=request.param)
    yield made
    made.close()


def test_what_is_queued_is_completed_after_one_submit(ring: Ring) -> None:
    for number in range(8):
        ring.nop(1 << 63 | number)
    assert list(ring.completions(100)) == []
    ring.submit(wait=8)
    assert list(ring.completions(100)) == [(1 << 63 | number, 0) for number in range(8)]
    assert list(ring.completions(100)) == []


def test_rings_go_round(ring: Ring) -> None:
    for number in range(100):
        ring.nop(number)
        ring.nop(number + 1000)
        ring.submit()
        assert list(ring.completions(100)) == [(number, 0), (number + 1000, 0)]


def test_completions_beyond_the_limit_stay(ring: Ring) -> None:
    for number in range(5):
        ring.nop(number)
    ring.submit()
    assert [number for number, _ in ring.completions(2)] == [0, 1]
    assert [number for number, _ in ring.completions(9)] == [2, 3, 4]


def test_more_than_there_is_room_for_is_a_defect_of_the_caller(ring: Ring) -> None:
    for number in range(8):
        ring.nop(number)
    with pytest.raises(AssertionError, match="room"):
        ring.nop(8)


def test_its_descriptor_is_readable_while_completions_wait(ring: Ring) -> None:
    poll = select.epoll()
    poll.register(ring.fd, select.EPOLLIN)
    assert poll.poll(0) == []
    ring.nop(1)
    ring.submit()
    assert poll.poll(1) == [(ring.fd, select.EPOLLIN)]
    list(ring.completions(9))
    assert poll.poll(0) == []
    poll.close()


def test_a_command_to_what_knows_none_is_answered_with_an_error(ring: Ring) -> None:
    with open(__file__, "rb") as file:
        ring.command(file.fileno(), 7, b"x" * 16, 5)
        ring.submit(wait=1)
    [(user_data, result)] = list(ring.completions(9))
    assert user_data == 5
    assert result < 0


def test_a_batch_costs_little_for_each(ring: Ring) -> None:
    """Not a benchmark: a ring that made a system call for each would take ten times as long."""
    began_s = time.process_time()
    for _ in range(1000):
        for number in range(8):
            ring.nop(number)
        ring.submit()
        assert len(list(ring.completions(9))) == 8
    assert time.process_time() - began_s < 5


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Ring(8).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernel_never_sees_a_number_that_was_not_meant(ring: Ring) -> None:
    """Another processor looks at the head of the completions while it goes up; a moment of 0 looks like a full ring."""
    highest = 0

    def goes_back() -> bool:
        nonlocal highest
        before, highest = highest, ring._words[ring._cq_head]
        return highest < before

    with never(goes_back):
        for number in range(60_000):
            ring.nop(number)
            ring.submit()
            assert list(ring.completions(8)) == [(number, 0)]


def test_completions_that_found_no_room_are_not_lost(ring: Ring) -> None:
    """More than twice as many as there are entries, and none was taken meanwhile."""
    for number in range(40):
        ring.nop(number)
        ring.submit()
    found: list[int] = []
    for _ in range(10):
        found += [number for number, _result in ring.completions(100)]
    assert found == list(range(40))
