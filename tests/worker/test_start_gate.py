"""When a new primary lets its clients in: after the peer was heard, or waited for; a refusal is told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hast.config.model import Resource
from hast.worker.link.primary_link import Outcome
from hast.worker.start_gate import TALKING_WAIT_S, UNREACHABLE_WAIT_S, StartGate

CONNECTED = Outcome(True)
UNREACHABLE = Outcome(False, "Connection refused")
BUSY = Outcome(False, "acts as primary", answered=True, busy=True)
REFUSED = Outcome(False, "Resource not configured.", answered=True)
IDLE = Outcome(False, "acts as init", answered=True, idle=True)


class FakeTimer:
    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s, self.callback = when_s, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeReactor:
    """Time that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[FakeTimer] = []

    def now(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> FakeTimer:
        self.timers.append(FakeTimer(when_s, callback))
        return self.timers[-1]

    def go(self, seconds: float) -> None:
        self.now_s += seconds
        for timer in [t for t in self.timers if t.when_s <= self.now_s and not t.cancelled]:
            self.timers.remove(timer)
            timer.callback()


class Bench:
    def __init__(self, *, remotes: tuple[str, ...] = ("peer",), wait_s: int = 30, **flags: bool) -> None:
        self.reactor = FakeReactor()
        self.decided: list[str] = []
        self.talking = False
        reactor: Any = self.reactor
        self.gate = StartGate(
            reactor,
            Resource("disk1", "disk1", "/none", remotes, timeout_s=20, wait_for_peer_s=wait_s),
            **{"force": False, "resume": False, "first": False, **flags},
            opened=lambda: self.decided.append("open"),
            refused=self.decided.append,
            is_talking=lambda: self.talking,
        )


def test_a_connected_peer_opens_at_once() -> None:
    bench = Bench(first=True)
    bench.gate.attempted(CONNECTED, False)
    assert bench.decided == ["open"]


def test_without_a_peer_in_the_configuration_nothing_is_waited_for() -> None:
    bench = Bench(remotes=(), first=True)
    bench.gate.attempted(Outcome(False, "no remote address is configured"), False)
    assert bench.decided == ["open"]


def test_an_unreachable_peer_is_waited_for_only_at_the_first_promotion() -> None:
    later = Bench()
    later.gate.attempted(UNREACHABLE, False)
    assert later.decided == ["open"]
    first = Bench(first=True)
    first.gate.attempted(UNREACHABLE, False)
    first.reactor.go(29.0)
    assert first.decided == []
    first.reactor.go(1.1)
    assert first.decided == ["open"]


def test_a_peer_without_a_role_may_have_the_newer_copy_and_is_waited_for_by_one_that_was_secondary() -> None:
    bench = Bench(first=True, may_be_behind=True)
    for _ in range(14):
        bench.gate.attempted(IDLE, False)
        bench.reactor.go(2.0)
    assert bench.decided == []
    bench.reactor.go(2.1)
    assert bench.decided == ["open"]
    bench = Bench(first=True, may_be_behind=True)
    bench.gate.attempted(IDLE, False)
    bench.gate.attempted(CONNECTED, False)
    assert bench.decided == ["open"]


@pytest.mark.parametrize(
    "flags", [{"first": True}, {"may_be_behind": True}, {"first": True, "may_be_behind": True, "force": True}]
)
def test_a_peer_without_a_role_is_not_waited_for_otherwise(flags: dict[str, bool]) -> None:
    bench = Bench(**flags)
    bench.gate.attempted(IDLE, False)
    assert bench.decided == ["open"]


def test_a_peer_without_a_role_is_not_waited_for_where_nobody_is() -> None:
    bench = Bench(wait_s=0, first=True, may_be_behind=True)
    bench.gate.attempted(IDLE, False)
    assert bench.decided == ["open"]


@pytest.mark.parametrize("flag", ["force", "resume"])
def test_force_and_resume_wait_for_nothing(flag: str) -> None:
    bench = Bench(first=True, **{flag: True})
    bench.gate.attempted(BUSY, False)
    assert bench.decided == ["open"]


def test_a_silent_peer_delays_the_start_only_briefly() -> None:
    bench = Bench()
    bench.reactor.go(UNREACHABLE_WAIT_S + 0.1)
    assert bench.decided == ["open"]


def test_a_peer_whose_host_took_the_connection_is_waited_for_longer() -> None:
    bench = Bench()
    bench.talking = True
    bench.reactor.go(UNREACHABLE_WAIT_S + 0.1)
    assert bench.decided == []
    bench.reactor.go(TALKING_WAIT_S)
    assert bench.decided == ["open"]


def test_a_peer_that_stays_primary_is_a_refusal_after_the_timeout() -> None:
    bench = Bench()
    for _ in range(15):
        bench.gate.attempted(BUSY, False)
        bench.reactor.go(1.0)
    assert bench.decided == []
    bench.reactor.go(6.0)
    assert len(bench.decided) == 1
    assert "the peer is primary" in bench.decided[0]


def test_one_lost_answer_of_a_primary_peer_does_not_make_it_dead() -> None:
    bench = Bench()
    bench.gate.attempted(BUSY, False)
    bench.reactor.go(1.0)
    bench.gate.attempted(UNREACHABLE, False)
    assert bench.decided == []
    bench.reactor.go(TALKING_WAIT_S)
    bench.gate.attempted(UNREACHABLE, False)
    assert bench.decided == ["open"]


def test_a_host_that_takes_connections_and_drops_them_is_tried_for_longer() -> None:
    bench = Bench()
    bench.gate.attempted(Outcome(False, "the peer closed connection A", reached=True), False)
    bench.reactor.go(1.0)
    assert bench.decided == []
    bench.gate.attempted(CONNECTED, False)
    assert bench.decided == ["open"]


def test_a_peer_that_steps_down_in_time_opens() -> None:
    bench = Bench()
    bench.gate.attempted(BUSY, False)
    bench.reactor.go(2.0)
    bench.gate.attempted(CONNECTED, False)
    bench.reactor.go(60.0)
    assert bench.decided == ["open"]


def test_a_split_brain_is_a_refusal() -> None:
    bench = Bench()
    bench.gate.attempted(Outcome(False, "Split-brain condition!", answered=True), True)
    assert "split-brain" in bench.decided[0]


def test_a_peer_in_role_init_or_without_the_resource_does_not_hinder() -> None:
    bench = Bench(first=True)
    bench.gate.attempted(REFUSED, False)
    assert bench.decided == ["open"]


def test_nothing_is_decided_after_cancel() -> None:
    bench = Bench()
    bench.gate.cancel()
    bench.gate.attempted(CONNECTED, False)
    bench.reactor.go(100.0)
    assert bench.decided == []
