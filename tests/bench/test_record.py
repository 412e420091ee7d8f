"""The record is kept as it grows, and one part that fails does not cost the others."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from bench.contestants import OURS, Field
from bench.jobs import Job
from bench.matrix import TRIAL
from bench.measure import Figures, Series

from bench import record
from hast.lab.processes import LabError


def contest(_makers: object, jobs: Sequence[Job], *_rest: object) -> Figures:
    if len(jobs) == 2 and any("--refill_buffers" in job.options for job in jobs):
        raise LabError("fio: exit 1")
    return {"hast": {job.name: Series([1.234567]) for job in jobs}}


def fail(*_arguments: object) -> dict[str, list[float]]:
    raise LabError("no end")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "field", lambda: Field({"hast": OURS["hast"]}, ("compiled: there is no build",)))
    monkeypatch.setattr(record, "contest", contest)
    monkeypatch.setattr(record, "busy_share", lambda _seconds: 0.25)
    for name in ("resync", "join"):
        monkeypatch.setattr(record.events, name, lambda *_arguments: {"figure": [2.0]})
    monkeypatch.setattr(record.events, "idle", fail)


@pytest.mark.usefixtures("short")
def test_each_part_is_kept_when_it_is_done_and_what_fails_is_left_out() -> None:
    kept: list[dict[str, Any]] = []
    whole = record.measure_all(TRIAL, lambda _line: None, lambda found: kept.append(copy.deepcopy(found)))
    assert list(kept[0]["sections"]) == ["main"]
    assert kept[-1] == whole
    assert [len(each["sections"]) + len(each["events"]) for each in kept[:-1]] == list(range(1, len(kept)))
    assert set(whole["others"]) == {0.25}
    assert "options" not in whole["sections"]
    assert list(whole["events"]) == ["resync", "resync with 1 ms", "join", "join past the cache"]
    assert whole["left_out"] == ["compiled: there is no build", "options: fio: exit 1", "idle: no end"]
    assert whole["sections"]["main"]["hast"]["4k randwrite QD1"]["value"] == [1.23]


@pytest.mark.usefixtures("short")
def test_nothing_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "contest", fail)
    with pytest.raises(LabError):
        record.measure_all(TRIAL, lambda _line: None, lambda _found: None)
