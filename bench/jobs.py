"""The fio jobs and how their figures are read."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.lab.processes import LabError

SIZE_MIB = 112
DEADLINE_EXTRA_S = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A fio job; `unit` is IOPS or MiB/s. `quick`: one of the few that two commits are compared by."""

    name: str
    options: tuple[str, ...]
    unit: str = "IOPS"
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a job. `value` in the job's unit; latency percentiles of what the client waited for, of reads and
    writes together; `operations`: how many there were."""

    value: float
    p50_us: float
    p99_us: float
    operations: int


JOBS = (
    Job("4k randwrite QD32", ("--rw=randwrite", "--bs=4k", "--iodepth=32"), quick=True),
    Job("4k randwrite QD1", ("--rw=randwrite", "--bs=4k", "--iodepth=1"), quick=True),
    Job("4k randread QD32", ("--rw=randread", "--bs=4k", "--iodepth=32"), quick=True),
    Job("128k write QD8", ("--rw=write", "--bs=128k", "--iodepth=8"), "MiB/s", quick=True),
    Job("1m write QD8", ("--rw=write", "--bs=1m", "--iodepth=8"), "MiB/s"),
    Job("4k randwrite QD4", ("--rw=randwrite", "--bs=4k", "--iodepth=4")),
    Job("4k randwrite QD128", ("--rw=randwrite", "--bs=4k", "--iodepth=128")),
    Job("4k write and fsync", ("--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1")),
    Job("4k 70/30 QD32", ("--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32")),
)
"""SIZE_MIB is more than `keepdirty` extents of 2 MiB: random writes go beyond it."""


def run(job: Job, uri: str, seconds: int) -> Outcome:
    """Run a job for this long. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-fio-") as directory:
        result = Path(directory) / "result.json"
        command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE_MIB}m", "--time_based"]
        command += [f"--runtime={seconds}", "--output-format=json", f"--output={result}", "--unified_rw_reporting=1"]
        try:
            done = subprocess.run(
                [*command, *job.options],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=seconds + DEADLINE_EXTRA_S,
            )
        except FileNotFoundError:
            raise LabError("fio is not installed (Debian package fio)") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"fio {job.name} on {uri}: no end after {seconds + DEADLINE_EXTRA_S} s") from None
        if done.returncode != 0:
            raise LabError(f"fio {job.name} on {uri}: exit {done.returncode}: {(done.stdout + done.stderr).strip()}")
        text = result.read_text()
    return read(json.loads(text[text.index("{") :]), job.unit)


def read(report: dict[str, Any], unit: str) -> Outcome:
    """fio's JSON with unified figures."""
    figures = report["jobs"][0]["mixed"]
    percentiles = figures["clat_ns"]["percentile"]
    value = figures["iops"] if unit == "IOPS" else figures["bw_bytes"] / (1 << 20)
    return Outcome(
        float(value),
        percentiles["50.000000"] / 1000,
        percentiles["99.000000"] / 1000,
        int(figures["total_ios"]),
    )
