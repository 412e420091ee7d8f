"""The fio jobs and how their figures are read."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hast.lab.processes import LabError

SIZE_MIB = 112
DEADLINE_EXTRA_S = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A fio job; `unit` is IOPS or MiB/s."""

    name: str
    options: tuple[str, ...]
    unit: str


JOBS = (
    Job("4k randwrite QD32", ("--rw=randwrite", "--bs=4k", "--iodepth=32"), "IOPS"),
    Job("4k randwrite QD1", ("--rw=randwrite", "--bs=4k", "--iodepth=1"), "IOPS"),
    Job("4k randread QD32", ("--rw=randread", "--bs=4k", "--iodepth=32"), "IOPS"),
    Job("128k write QD8", ("--rw=write", "--bs=128k", "--iodepth=8"), "MiB/s"),
)


def run(job: Job, uri: str, seconds: int) -> float:
    """Run a job for this long; returns IOPS or MiB/s. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="hast-bench-fio-") as directory:
        result = Path(directory) / "result.json"
        command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE_MIB}m", "--time_based"]
        command += [f"--runtime={seconds}", "--output-format=json", f"--output={result}", *job.options]
        try:
            done = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, timeout=seconds + DEADLINE_EXTRA_S
            )
        except FileNotFoundError:
            raise LabError("fio is not installed (Debian package fio)") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"fio {job.name} on {uri}: no end after {seconds + DEADLINE_EXTRA_S} s") from None
        if done.returncode != 0:
            raise LabError(f"fio {job.name} on {uri}: exit {done.returncode}: {(done.stdout + done.stderr).strip()}")
        text = result.read_text()
    direction = "read" if "read" in job.name else "write"
    figures = json.loads(text[text.index("{") :])["jobs"][0][direction]
    return float(figures["iops"] if job.unit == "IOPS" else figures["bw_bytes"] / (1 << 20))
