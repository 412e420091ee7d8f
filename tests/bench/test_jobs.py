"""Jobs are such as fio does over NBD, and one that it refuses is told with fio's reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench.contestant import Contestant
from bench.events import DURABLE
from bench.jobs import JOBS, Job, run
from bench.others import nbdkit_single

from hast.lab.processes import LabError

pytestmark = pytest.mark.skipif(
    shutil.which("fio") is None or shutil.which("nbdkit") is None, reason="fio or nbdkit is not installed"
)
FLUSHED = [job for job in (*JOBS, DURABLE) if any("sync" in option for option in job.options)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Contestant]:
    contestant = nbdkit_single(tmp_path)
    yield contestant
    contestant.close()


@pytest.mark.parametrize("job", FLUSHED, ids=lambda job: " ".join(job.options))
def test_a_job_that_flushes_is_one_that_fio_does_over_nbd(job: Job, disk: Contestant) -> None:
    assert run(replace(job, size_mib=24 if job is DURABLE else 1), disk.uris, 0).operations >= 24


def test_fios_reason_is_told_where_only_its_report_has_it(disk: Contestant) -> None:
    refused = Job("refused", ("--rw=write", "--bs=1m", "--fdatasync=1"), size_mib=8)
    with pytest.raises(LabError, match="refused: exit 1: Invalid argument"):
        run(refused, disk.uris, 0)
