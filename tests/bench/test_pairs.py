"""Our pair as it is measured: with the settings, the interpreter and the cable that were asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from bench.contestants import BUILD, DEBIAN, SOURCE, stale
from bench.events import status_of
from bench.jobs import job_named, run
from bench.machine import REPOSITORY
from bench.pairs import Pair, RunningPair, why_not, write_programs

from hast.daemon import release


def test_two_disks_in_a_mode_over_a_longer_cable_take_a_job_together(tmp_path: Path) -> None:
    pair = Pair(settings=("replication memsync",), disks=2, delay_ms=0.2, size_bytes=64 << 20)
    running = RunningPair(pair, tmp_path)
    try:
        running.nodes.bring_up()
        status = status_of(running.nodes.one)
        uris = [running.nodes.one.nbd_uri(disk) for disk in running.nodes.one.disk_names]
        outcome = run(job_named("4k randwrite QD4"), uris, 1) if has_fio() else None
    finally:
        running.close()
    assert status["replication"] == "memsync"
    assert status["remoteaddr"] != f"tcp4://127.0.0.1:{running.nodes.two.port}"
    if outcome is not None:
        assert outcome.operations > 0
        assert 0 < outcome.p50_us <= outcome.p99_us <= outcome.p999_us
        assert outcome.longest_us > outcome.p50_us


def has_fio() -> bool:
    return any((Path(folder) / "fio").exists() for folder in os.environ["PATH"].split(":"))


def test_programs_for_another_interpreter_run_under_it(tmp_path: Path) -> None:
    programs = write_programs(tmp_path / "bin", sys.executable)
    done = subprocess.run(
        [programs / "hastd", "--version"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "hastd")


def test_an_interpreter_that_cannot_run_us_is_left_out_with_the_reason(tmp_path: Path) -> None:
    assert why_not(SOURCE, sys.executable) is None
    assert "not compiled" in str(why_not(SOURCE, sys.executable, compiled=True))
    assert why_not(tmp_path, sys.executable) is not None
    assert "does not run" in str(why_not(SOURCE, str(tmp_path / "python3")))


def test_a_build_for_another_interpreter_is_not_taken_for_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "replication").mkdir()
    monkeypatch.setattr(release, "_ROOT", tmp_path)
    (tmp_path / "replication" / "writes.cpython-27-other.so").touch()
    assert not release.is_compiled()
    (tmp_path / "replication" / f"writes{EXTENSION_SUFFIXES[0]}").touch()
    assert release.is_compiled()


@pytest.mark.skipif(not (BUILD / ".stamp").exists(), reason="not built: make compiled")
def test_debians_interpreter_loads_the_build_of_the_checkouts() -> None:
    reason = why_not(BUILD, DEBIAN, compiled=True)
    assert reason is None or "ModuleNotFoundError" in reason


def test_a_build_older_than_a_source_is_not_taken_for_it(tmp_path: Path) -> None:
    build, source = tmp_path / "build", tmp_path / "src"
    build.mkdir()
    source.mkdir()
    (source / "a.py").touch()
    assert "no build" in str(stale(build, source))
    (build / ".stamp").touch()
    os.utime(source / "a.py", (1, 1))
    assert stale(build, source) is None
    (source / "b.py").touch()
    os.utime(build / ".stamp", (2, 2))
    assert "older than b.py" in str(stale(build, source))
