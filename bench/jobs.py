"""The fio jobs and how their figures are read. A job runs on all disks of a contestant at once; figures are sums."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hast.lab.processes import LabError

SIZE_MIB = 112
"""Less than `keepdirty` extents of 2 MiB: what is written stays marked."""
BEYOND_MIB = 1000
DEADLINE_EXTRA_S = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A fio job; `unit` is IOPS or MiB/s; `size_mib`: of the area. `quick`: one of the few that two commits are
    compared by."""

    name: str
    options: tuple[str, ...]
    unit: str = "IOPS"
    quick: bool = False
    size_mib: int = SIZE_MIB


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a job. `value` in the job's unit; latency percentiles of what the client waited for, of reads and
    writes together; `operations`: how many there were."""

    value: float
    p50_us: float
    p99_us: float
    p999_us: float
    longest_us: float
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
    Job("4k randwrite QD32 beyond", ("--rw=randwrite", "--bs=4k", "--iodepth=32"), size_mib=BEYOND_MIB),
)
"""`beyond`: beyond `keepdirty`, so that extents are marked and given up all the time."""
FILL = Job("fill", ("--rw=write", "--bs=1m", "--iodepth=8"), "MiB/s", size_mib=BEYOND_MIB)


def job_named(name: str) -> Job:
    return next(job for job in JOBS if job.name == name)


def compressible(job: Job) -> Job:
    """The same with data of which half can be compressed away."""
    return Job(job.name, (*job.options, "--buffer_compress_percentage=50", "--refill_buffers"), job.unit)


def run(job: Job, uris: Sequence[str], seconds: float) -> Outcome:
    """Run a job for this long; for 0 seconds: once over its area. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-fio-") as directory:
        result = Path(directory) / "result.json"
        command = ["fio", "--ioengine=nbd", f"--size={job.size_mib}m", "--output-format=json", f"--output={result}"]
        command += ["--unified_rw_reporting=1", "--group_reporting=1", "--percentile_list=50:99:99.9", *job.options]
        command += ["--time_based", f"--runtime={seconds:g}"] if seconds else []
        for number, uri in enumerate(uris):
            command += [f"--name=job{number}", "--ioengine=nbd", f"--uri={uri}"]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=seconds + DEADLINE_EXTRA_S,
            )
        except FileNotFoundError:
            raise LabError("fio is not installed (Debian package fio)") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"fio {job.name}: no end after {seconds + DEADLINE_EXTRA_S:g} s") from None
        text = result.read_text() if result.exists() else ""
    report = json.loads(text[text.index("{") :]) if "{" in text else None
    if done.returncode != 0 or report is None:
        raise LabError(f"fio {job.name}: exit {done.returncode}: {_reason(done.stdout + done.stderr, report)}")
    return read(report, job.unit)


def _reason(said: str, report: dict[str, Any] | None) -> str:
    """fio may say in its report alone what stopped it."""
    errors = [each["error"] for each in (report or {}).get("jobs", ()) if each.get("error")]
    return said.strip() or ", ".join(map(os.strerror, errors)) or "it does not say why"


def read(report: dict[str, Any], unit: str) -> Outcome:
    """fio's JSON with unified figures."""
    figures = report["jobs"][0]["mixed"]
    percentiles = figures["clat_ns"]["percentile"]
    value = figures["iops"] if unit == "IOPS" else figures["bw_bytes"] / (1 << 20)
    return Outcome(
        float(value),
        percentiles["50.000000"] / 1000,
        percentiles["99.000000"] / 1000,
        percentiles["99.900000"] / 1000,
        figures["clat_ns"]["max"] / 1000,
        int(figures["total_ios"]),
    )
