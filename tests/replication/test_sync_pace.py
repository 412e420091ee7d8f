"""How fast a synchronisation copies beside clients, on simulated plants: one queue for pieces and clients alike."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from driver import EXTENT, Rig, image

from hast.config.model import SYNC_AUTO
from hast.format.constants import SyncSource
from hast.replication import sync_pace
from hast.replication.core import Settings
from hast.replication.latency import FLUSH, READ, WRITE
from hast.replication.sync_pace import FIRST_BYTES_S, FLOOR_BYTES_S, LEAST, SyncPace

STEP_S = 0.0001
MB = 1_000_000


@dataclass
class Plant:
    """A disk or a wire of `bytes_s`, behind it `trip_s`; a client at depth 1 rests about `rest_s` after each answer
    (None: there is none), and is at work only in the first half of each `burst_s`."""

    bytes_s: float
    trip_s: float = 0.0
    rest_s: float | None = None
    burst_s: float = 0.0
    op_s: float = 0.0001
    pace: SyncPace = field(default_factory=SyncPace)
    now: float = 100.0
    copied: int = 0
    waits: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    _free_s: float = 0.0
    _pieces: deque[tuple[float, float, int]] = field(default_factory=deque)
    _answer_s: float = 0.0
    _last_client_s: float = -9.0
    _tokens: float = 0.0
    _rest_s: float = 0.0
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    def run(self, seconds: float, copying: bool = True) -> Plant:
        self.copied, self.waits, self.rates = 0, [], []
        until_s = self.now + seconds
        while self.now < until_s:
            self.now += STEP_S
            self._client()
            if copying:
                self._copy()
        return self

    def p99_s(self) -> float:
        return sorted(self.waits)[len(self.waits) * 99 // 100]

    def _through(self, seconds: float) -> float:
        """Through the queue; when it comes out behind it."""
        self._free_s = max(self.now, self._free_s) + seconds
        return self._free_s + self.trip_s

    def _client(self) -> None:
        resting = self.burst_s and self.now % self.burst_s > self.burst_s / 2
        if self.rest_s is None or resting or self.now < self._answer_s + self._rest_s:
            return
        self._answer_s = self._through(self.op_s)
        self._last_client_s = self.now
        took_s = self._answer_s - self.now
        self._rest_s = (self.rest_s or 0.0) * self._chance.uniform(0.5, 1.5)
        self.waits.append(took_s)
        self.pace.waited(WRITE, took_s, self.now)

    def _copy(self) -> None:
        while self._pieces and self._pieces[0][1] <= self.now:
            began_s, ended_s, length = self._pieces.popleft()
            self.pace.piece_took(ended_s - began_s)
            self.copied += length
        self.pace.look(self.now, self.now - self._last_client_s < 0.1, len(self._pieces))
        rate = self.pace.rate_bytes_s
        self.rates.append(rate)
        burst_bytes = max(rate * sync_pace.BURST_S, self.pace.piece_bytes)
        self._tokens = min(self._tokens + rate * STEP_S, burst_bytes)
        while len(self._pieces) < self.pace.pieces and (not rate or self._tokens > 0):
            length = self.pace.piece_bytes
            self._tokens -= length
            self._pieces.append((self.now, self._through(length / self.bytes_s), length))


@pytest.mark.parametrize(("bytes_s", "trip_s"), [(1000 * MB, 0.0), (100 * MB, 0.0), (1000 * MB, 0.001)])
def test_without_clients_the_pass_is_as_fast_as_the_plant(bytes_s: float, trip_s: float) -> None:
    plant = Plant(bytes_s, trip_s)
    plant.pace.begin(plant.now)
    plant.run(1.0)
    plant.run(2.0)
    assert plant.copied > 0.95 * 2.0 * bytes_s


@pytest.mark.parametrize(
    ("bytes_s", "trip_s"), [(1000 * MB, 0.0), (300 * MB, 0.0), (120 * MB, 0.0), (1000 * MB, 0.001), (120 * MB, 0.001)]
)
def test_a_client_at_depth_1_waits_at_most_twice_as_long_and_the_pass_has_much_of_what_is_left(
    bytes_s: float, trip_s: float
) -> None:
    plant = Plant(bytes_s, trip_s, rest_s=0.001)
    idle_s = plant.run(1.0, copying=False).p99_s()
    plant.pace.begin(plant.now)
    plant.run(3.0)
    plant.run(3.0)
    assert plant.p99_s() <= 2.0 * idle_s
    assert plant.copied > 0.4 * 3.0 * bytes_s


def test_the_rate_never_falls_below_the_floor_whatever_clients_wait_for() -> None:
    """A disk that a single piece occupies for longer than the client waits otherwise."""
    plant = Plant(20 * MB, rest_s=0.002)
    plant.run(1.0, copying=False)
    plant.pace.begin(plant.now)
    plant.run(3.0)
    plant.run(3.0)
    assert min(rate for rate in plant.rates if rate) == FLOOR_BYTES_S
    assert plant.copied > 0.85 * 3.0 * FLOOR_BYTES_S


def test_between_bursts_of_clients_the_pass_runs_at_full_speed_and_the_next_burst_finds_the_rate_of_the_last() -> None:
    plant = Plant(200 * MB, rest_s=0.001, burst_s=1.0)
    idle_s = plant.run(2.0, copying=False).p99_s()
    plant.pace.begin(plant.now)
    plant.run(2.0)
    plant.run(4.0)
    assert plant.copied > 0.4 * 4.0 * 200 * MB
    assert sorted(plant.waits)[len(plant.waits) // 2] <= 1.6 * idle_s
    assert max(plant.waits) < sync_pace.QUEUE_S + 0.01


def test_what_clients_wait_for_beside_no_copying_is_taken_in_a_pause_where_it_is_not_known() -> None:
    pace = SyncPace()
    pace.begin(0.0)
    pace.look(0.0, True, 3)
    assert pace.pieces == 0
    pace.waited(WRITE, 0.5, 0.05)
    pace.look(0.1, True, 0)
    pace.waited(WRITE, 0.06, 0.15)  # began while pieces were in flight
    assert not pace._quiet[WRITE]
    pace.waited(WRITE, 0.01, 0.2)
    assert list(pace._quiet[WRITE]) == [0.01]
    pace.look(0.1 + sync_pace.PAUSE_S, True, 0)
    assert pace.pieces > 0
    pace.look(0.2 + sync_pace.PAUSE_S + sync_pace.PAUSE_EVERY_S, True, 0)
    assert pace.pieces == 0


@pytest.mark.parametrize("operation", [READ, WRITE, FLUSH])
def test_each_kind_of_wait_takes_the_rate_down(operation: str) -> None:
    pace = SyncPace()
    for _ in range(LEAST):
        pace.waited(READ, 0.001, 0.0)
        pace.waited(operation, 0.001, 0.0)
    pace.begin(0.0)
    for _ in range(LEAST):
        pace.waited(READ, 0.001, 0.0)
        pace.waited(operation, 0.003 if operation != READ else 0.01, 0.05)
    pace.look(0.2, True, 1)
    assert pace.rate_bytes_s == pytest.approx(FIRST_BYTES_S * sync_pace.DOWN)


def test_without_a_measure_of_idle_waits_the_rate_stays() -> None:
    pace = SyncPace()
    pace.begin(0.0)
    pace._pause_at_s = 1e9
    for tenth in range(1, 30):
        for _ in range(LEAST):
            pace.waited(WRITE, 1.0, tenth / 10)
        pace.look(tenth / 10, True, 1)
    assert pace.rate_bytes_s == FIRST_BYTES_S


def test_what_was_measured_with_another_disk_or_peer_is_forgotten() -> None:
    pace = SyncPace()
    for _ in range(LEAST):
        pace.waited(WRITE, 0.001, 0.0)
    pace.forget()
    pace.begin(0.0)
    pace.look(0.0, True, 0)
    assert pace.pieces == 0


# In the engine


def copying(sync_rate_bytes_s: int = SYNC_AUTO) -> Rig:
    rig = Rig(settings=Settings(sync_rate_bytes_s=sync_rate_bytes_s))
    rig.attach(syncsrc=SyncSource.PRIMARY, bitmap=image(*range(8)))
    rig.answer_remote()
    return rig


def test_the_engine_copies_with_all_pieces_while_no_client_asks() -> None:
    rig = copying()
    rig.tick(1.0)
    assert len(rig.local) == 8
    assert {request.length for request in rig.local} == {EXTENT}


def test_the_engine_pauses_for_a_client_whose_idle_waits_it_does_not_know_and_ends_nevertheless() -> None:
    rig = copying()
    under_way = list(rig.local)
    rig.read(0)
    rig.finish_local(*under_way)
    assert not [request for request in rig.local if request not in under_way and request.owner]
    for _ in range(4000):
        rig.work()
        rig.read(0)
        rig.now = max(rig.tick(), rig.now + 0.001)
        if not rig.engine.sync.active:
            break
    assert not rig.engine.sync.active
    assert not rig.engine.map.owed_remote


def test_the_engine_gives_the_pace_what_clients_wait_for() -> None:
    rig = Rig(settings=Settings(sync_rate_bytes_s=SYNC_AUTO))
    rig.connect()
    rig.write(0)
    rig.work()
    rig.now += 1.0
    for step in range(3):
        rig.write(0)
        rig.now += 0.25
        rig.work()
        rig.read(0)
        rig.now += 0.125
        rig.work()
        rig.flush()
        rig.now += 0.0625
        rig.work()
        assert {name: len(waits) for name, waits in rig.engine.core.pace.sync._quiet.items()} == {
            READ: step + 1,
            WRITE: step + 1,
            FLUSH: step + 1,
        }
    assert rig.engine.core.pace.sync._quiet[WRITE][-1] == 0.25


def test_a_limit_in_numbers_does_not_adapt() -> None:
    rig = copying(sync_rate_bytes_s=0)
    rig.read(0)
    assert rig.engine.sync.rate.look(rig.engine.writes.last_client_s, 0) == 4
