"""The pidfile: mode, lock, a second hastd, removal."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hast.daemon.pidfile import Pidfile, PidfileError


def test_holds_the_pid_with_mode_0600_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = Pidfile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pidfile.close()
    assert not path.exists()


def test_second_holder_is_told_the_pid(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = Pidfile(str(path))
    pidfile.write()
    code = f"from hast.daemon.pidfile import Pidfile, PidfileError\ntry: Pidfile({str(path)!r})\n"
    code += "except PidfileError as error: print(error.exit_code, error)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20).stdout
    assert said.startswith("75 Another hastd is already running, pidfile: ")
    assert f"pid: {os.getpid()}." in said
    pidfile.close()


def test_stale_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("999999\nleftover")
    pidfile = Pidfile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.close()


def test_replaced_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = Pidfile(str(path))
    path.unlink()
    path.write_text("other")
    pidfile.close()
    assert path.read_text() == "other"


def test_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PidfileError, match="Unable to open or create pidfile") as error:
        Pidfile(str(tmp_path / "no" / "pid"))
    assert error.value.exit_code == 71
