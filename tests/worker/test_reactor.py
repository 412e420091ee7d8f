"""The event loop: order, wake-ups, timers, the round hook, and polling that stops when it does not pay."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from hast.worker.reactor import CONTENDED_PAUSE_S, TRIAL_EVERY, EpollReactor, Poller, on_beat


@pytest.fixture
def reactor() -> Iterator[EpollReactor]:
    reactor = EpollReactor()
    yield reactor
    reactor.close()


def test_timers_run_in_time_order_and_cancelled_ones_do_not(reactor: EpollReactor) -> None:
    ran: list[str] = []
    now = reactor.now()
    reactor.call_at(now + 0.02, lambda: ran.append("second"))
    reactor.call_at(now + 0.01, lambda: ran.append("first"))
    reactor.call_at(now + 0.015, lambda: ran.append("cancelled")).cancel()
    reactor.call_at(now + 0.03, reactor.stop)
    reactor.run()
    assert ran == ["first", "second"]


def test_a_readable_descriptor_is_reported_until_removed(reactor: EpollReactor) -> None:
    left, right = socket.socketpair()
    seen: list[bytes] = []

    def readable(mask: int) -> None:
        assert mask & select.EPOLLIN
        seen.append(right.recv(1))
        if len(seen) == 3:
            reactor.remove(right.fileno())
            reactor.stop()

    with left, right:
        reactor.add(right.fileno(), select.EPOLLIN, readable)
        left.sendall(b"abcdef")
        reactor.run()
    assert seen == [b"a", b"b", b"c"]


def test_a_descriptor_removed_in_the_same_round_gets_no_callback(reactor: EpollReactor) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def first_come(index: int) -> None:
        called.append(index)
        for _, right in pairs:
            reactor.remove(right.fileno())
        reactor.stop()

    for index, (left, right) in enumerate(pairs):
        left.send(b"x")
        reactor.add(right.fileno(), select.EPOLLIN, lambda _mask, index=index: first_come(index))
    reactor.run()
    for left, right in pairs:
        left.close()
        right.close()
    assert len(called) == 1


def test_calls_from_other_threads_wake_the_loop_and_keep_their_order(reactor: EpollReactor) -> None:
    order: list[int] = []

    def caller() -> None:
        for number in range(200):
            reactor.call_soon_threadsafe(lambda number=number: order.append(number))
        reactor.call_soon_threadsafe(reactor.stop)

    thread = threading.Thread(target=caller)
    reactor.call_later(0.01, thread.start)
    reactor.run()
    thread.join()
    assert order == list(range(200))


def test_no_wakeup_is_lost_between_threads(reactor: EpollReactor) -> None:
    """A ping-pong of two thousand single calls: one lost wake-up would hang it until the test's deadline."""
    pings: list[int] = []
    turn = threading.Semaphore(0)

    def called() -> None:
        pings.append(1)
        if len(pings) == 2000:
            reactor.stop()
        turn.release()

    def caller() -> None:
        for _ in range(2000):
            reactor.call_soon_threadsafe(called)
            turn.acquire()

    thread = threading.Thread(target=caller)
    thread.start()
    reactor.run()
    thread.join()
    assert len(pings) == 2000


def test_the_round_hook_runs_once_per_wake_up(reactor: EpollReactor) -> None:
    pairs = [socket.socketpair() for _ in range(5)]
    events_per_round: list[int] = []
    events = [0]

    def readable(right: socket.socket) -> None:
        right.recv(10)
        events[0] += 1

    def round_ended() -> None:
        if events[0]:
            events_per_round.append(events[0])
            reactor.stop()

    for left, right in pairs:
        left.send(b"x")
        reactor.add(right.fileno(), select.EPOLLIN, lambda _mask, right=right: readable(right))
    reactor.at_round_end(round_ended)
    reactor.run()
    for left, right in pairs:
        left.close()
        right.close()
    assert events_per_round == [5]


def test_an_exception_in_a_callback_ends_run(reactor: EpollReactor) -> None:
    def fails() -> None:
        raise RuntimeError("broken")

    reactor.call_later(0, fails)
    with pytest.raises(RuntimeError, match="broken"):
        reactor.run()


def test_an_idle_loop_uses_no_cpu(reactor: EpollReactor) -> None:
    reactor.call_later(0.5, reactor.stop)
    before = resource.getrusage(resource.RUSAGE_THREAD)
    reactor.run()
    after = resource.getrusage(resource.RUSAGE_THREAD)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02


def test_polling_stops_when_it_does_not_pay_and_is_tried_again() -> None:
    poller = Poller()
    for _ in range(50):
        poller.record(False)
    tries = sum(poller.wanted(0.0) for _ in range(TRIAL_EVERY * 3))
    assert tries == 3
    for _ in range(50):
        poller.record(True)
    assert poller.wanted(0.0)


def test_polling_pauses_while_others_need_the_processor() -> None:
    poller = Poller()
    poller.contended(10.0)
    assert not poller.wanted(10.0 + CONTENDED_PAUSE_S / 2)
    assert poller.wanted(10.0 + CONTENDED_PAUSE_S)


def test_wake_is_safe_when_the_counter_is_full(reactor: EpollReactor) -> None:
    os.eventfd_write(reactor._wakeup, 2**64 - 2)
    reactor.wake()
    reactor.call_later(0, reactor.stop)
    reactor.run()


@pytest.mark.parametrize(
    ("now_s", "when_s", "due_s"),
    [(7.3, 8.31, 8.0), (8.001, 9.001, 9.0), (8.5, 9.2, 9.0), (8.5, 8.99, 8.99), (8.6, 9.1, 9.0), (8.0, 8.005, 8.005)],
)
def test_what_need_not_be_punctual_falls_upon_common_times_and_never_later(
    now_s: float, when_s: float, due_s: float
) -> None:
    assert on_beat(now_s, when_s) == due_s


def test_two_that_are_done_each_second_wake_the_process_once_a_second() -> None:
    times: set[float] = set()
    for start_s in (3.2, 3.9):
        now_s = start_s
        for _ in range(5):
            now_s = on_beat(now_s, now_s + 1.0) + 0.0001
            times.add(round(now_s))
    assert times == {4, 5, 6, 7, 8}
