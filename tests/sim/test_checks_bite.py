"""The simulator notices an engine that was made wrong on purpose; `make sim-defects` does the same with many more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hast.format.constants import Replication
from hast.replication import writes
from hast.replication.activemap import Activemap
from hast.replication.core import ASYNC, Core
from hast.replication.joining import Joining
from hast.replication.primary import Primary
from hast.replication.ranges import RangeTable
from hast.replication.reads import Reads
from hast.replication.secondary import Secondary
from hast.replication.standing import Record, Standing
from hast.replication.sync import Sync
from hast.replication.types import Request
from hast.sim.families import Family, draw
from hast.sim.run import execute

MOST_RUNS = 40


def first_complaint(family: Family, mode: Replication | None = None) -> str:
    """Of the first runs of a family, without the time; empty when none complains."""
    for seed in range(MOST_RUNS):
        wrong = execute(draw(seed * 9 + 4, family, mode)).wrong
        if wrong:
            return wrong[0].split(": ", 1)[1]
    return ""


def nothing(*_arguments: Any) -> None: ...


def always(value: Any) -> Callable[..., Any]:
    return lambda *_arguments: value


def piece_never_fails(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, piece, failed: original(self, piece, False)


def no_question(self: Standing) -> None:
    if self.ahead is Record.ABSENT:
        self.ahead = Record.UNDER_WAY
        self._raise_localcnt()


def covers_writes_under_way(self: Activemap) -> int:
    covered = self.clock
    self.clock += 1
    return covered


def answered_at_once(original: Callable[..., None]) -> Callable[..., None]:
    def take(self: Secondary, op: int, seq: int, number: int) -> None:
        original(self, op, seq, number)
        self.effects.replies.append((seq, 0, False, None))

    return take


def unflushed_map(original: Callable[..., None]) -> Callable[..., None]:
    def store(self: Any) -> None:
        before = len(self._core.effects.stores)
        original(self)
        for job in self._core.effects.stores[before:]:
            job.flush = False

    return store


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "rules"),
    [
        pytest.param(writes.Arming, "store", unflushed_map(writes.Arming.store), ("S1",), id="map is not made durable"),
        pytest.param(Activemap, "flush_begins", covers_writes_under_way, ("S2", "S4"), id="flush covers later writes"),
        pytest.param(Joining, "_remember_suspects", nothing, ("S3", "S4", "S8", "S9"), id="suspects forgotten"),
        pytest.param(RangeTable, "_block_on", staticmethod(always(False)), ("S5",), id="overlap ignored"),
        pytest.param(Reads, "_lacks", always(False), ("a read",), id="stale copy is read"),
        pytest.param(
            Secondary, "_take_mark", answered_at_once(Secondary._take_mark), ("S6", "S7"), id="mark is promised"
        ),
        pytest.param(Standing, "may_go_alone", always(True), ("S8",), id="counter not awaited"),
        pytest.param(
            Sync, "_piece_over", piece_never_fails(Sync._piece_over), ("S2", "S9"), id="failed piece is success"
        ),
    ],
)
def test_broken_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, wrong: Callable[..., Any], rules: tuple[str, ...]
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    complaint = first_complaint(Family.PLAIN) or first_complaint(Family.CHAOS)
    assert complaint.startswith(rules), complaint or "nobody complained"


def test_fullsync_that_answers_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(writes.MODES, Replication.FULLSYNC, ASYNC)
    monkeypatch.setattr(Request, "left", 0)
    complaint = first_complaint(Family.PLAIN, Replication.FULLSYNC)
    assert complaint.startswith("S4"), complaint or "nobody complained"


def test_primary_that_does_not_ask_the_arbiter_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standing, "go_ahead", no_question)
    complaint = first_complaint(Family.PLAIN)
    assert complaint.startswith("S11"), complaint or "nobody complained"


def test_primary_that_answers_after_its_demotion_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = Primary.drain

    def early(self: Primary, now: float) -> None:
        drain(self, now)
        self._leaving.over = True

    monkeypatch.setattr(Primary, "drain", early)
    complaint = first_complaint(Family.PLAIN)
    assert complaint.startswith("S10"), complaint or "nobody complained"


def test_copy_that_is_not_whole_and_leads_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Core, "peer_whole", True)
    complaint = first_complaint(Family.CHAOS)
    assert complaint
