"""That a flush may have failed outlives the worker that waited for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hast.replication.types import Lead
from hast.worker.disk.flush_mark import FlushMark, forget


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk1.flush"


def test_new_mark_is_clear(path: Path) -> None:
    assert not FlushMark(path).doubtful


def test_worker_killed_during_a_flush_leaves_doubt(path: Path) -> None:
    FlushMark(path).begin()
    assert FlushMark(path).doubtful


def test_good_flush_leaves_none(path: Path) -> None:
    mark = FlushMark(path)
    mark.begin()
    mark.end(good=True)
    assert not FlushMark(path).doubtful


def test_failed_flush_leaves_doubt_after_later_good_ones_until_it_is_noted(path: Path) -> None:
    mark = FlushMark(path)
    for good in (False, True):
        mark.begin()
        mark.end(good)
    assert FlushMark(path).doubtful
    mark.noted()
    assert not FlushMark(path).doubtful


def test_noting_one_failure_does_not_clear_a_flush_under_way(path: Path) -> None:
    mark = FlushMark(path)
    mark.failed()
    mark.begin()
    mark.noted()
    assert FlushMark(path).doubtful


def test_doubt_lasts_over_workers_that_end_before_they_note_it(path: Path) -> None:
    FlushMark(path).begin()
    FlushMark(path).close()
    assert FlushMark(path).doubtful


def test_worker_that_ends_in_order_leaves_no_file(path: Path) -> None:
    FlushMark(path).close()
    assert not path.exists()


def test_directory_that_is_not_there_costs_the_memory_and_nothing_else(tmp_path: Path) -> None:
    mark = FlushMark(tmp_path / "nowhere" / "disk1.flush")
    mark.begin()
    mark.end(good=False)
    mark.close()


def test_s6_that_only_the_peers_copy_is_good_outlives_the_worker_until_the_metadata_says_so(path: Path) -> None:
    mark = FlushMark(path)
    mark.note_lead(Lead.PEERS)
    mark.begin()
    mark.end(good=True)
    mark.close()
    later = FlushMark(path)
    assert (later.lead, later.doubtful) == (Lead.PEERS, False)
    later.note_lead(Lead.AS_RECORDED)
    later.close()
    assert not path.exists()


def test_a_new_disk_knows_nothing_of_the_former_one(path: Path) -> None:
    mark = FlushMark(path)
    mark.failed()
    mark.note_lead(Lead.PEERS)
    forget(path)
    assert (FlushMark(path).lead, FlushMark(path).doubtful) == (Lead.AS_RECORDED, False)


@pytest.mark.parametrize("lead", Lead)
def test_s6_who_leads_is_told_to_the_next_worker_whatever_is_known_of_flushes(path: Path, lead: Lead) -> None:
    mark = FlushMark(path)
    mark.note_lead(Lead.OFFERED)
    mark.failed()
    mark.note_lead(lead)
    assert (FlushMark(path).lead, FlushMark(path).doubtful) == (lead, True)
