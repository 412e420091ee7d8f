"""hastd: command line, start-up errors, the background (specification section 8.1)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, alive, free_port, wait_for


def hastd(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hast.cli.hastd", *arguments]
    return subprocess.run(
        command, env=daemon.environment, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def quiet(make_daemon: MakeDaemon) -> Daemon:
    return make_daemon()


@pytest.mark.parametrize("arguments", [("-h",), ("-x",), ("-c",), ("stray",)])
def test_usage_is_exit_64_on_stderr(quiet: Daemon, arguments: tuple[str, ...]) -> None:
    done = hastd(quiet, *arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert "usage: hastd" in done.stderr


def test_validation_only(quiet: Daemon) -> None:
    done = hastd(quiet, "-t", "-c", str(quiet.config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{quiet.config}: correct, 1 resource for this node.\n"
    quiet.config.write_text("# nothing yet\n")
    done = hastd(quiet, "-t", "-c", str(quiet.config))
    assert done.returncode == 0
    assert done.stdout == f"{quiet.config}: no mistake found, but no resource for this node.\n"
    quiet.config.write_text("nonsense")
    done = hastd(quiet, "-t", "-c", str(quiet.config))
    assert done.returncode == 78
    assert "hast.conf:1:1" in done.stderr


def test_missing_configuration_is_exit_72(quiet: Daemon) -> None:
    assert hastd(quiet, "-F", "-c", str(quiet.directory / "none")).returncode == 72


def test_address_in_use_is_exit_71_and_leaves_nothing(quiet: Daemon) -> None:
    with socket.create_server(("127.0.0.1", quiet.port)):
        done = hastd(quiet, "-F", "-c", str(quiet.config), "-P", str(quiet.directory / "pid"))
    assert done.returncode == 71
    assert len(done.stderr.splitlines()) == 1
    assert not (quiet.directory / "pid").exists()
    assert not (quiet.directory / "ctl").exists()


def test_control_socket_of_a_running_hastd_is_not_taken(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    other = daemon.directory / "other.conf"
    other.write_text(daemon.config.read_text().replace(str(daemon.port), str(free_port())))
    done = hastd(daemon, "-F", "-c", str(other))
    assert done.returncode == 71
    assert "another process serves it" in done.stderr
    assert daemon.status()["role"] == "init"


def test_run_directory_belongs_to_one_hastd(make_daemon: MakeDaemon) -> None:
    daemon, other = make_daemon().start(), make_daemon()
    command = [sys.executable, "-m", "hast.cli.hastd", "-F", "-c", str(other.config)]
    done = subprocess.run(command, env=daemon.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 75
    assert "hastd.lock" in done.stderr
    assert not (other.directory / "ctl").exists()


def test_background_serves_when_the_command_returns(quiet: Daemon) -> None:
    done = hastd(quiet, "-c", str(quiet.config))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((quiet.directory / "pid").read_text())
    try:
        assert quiet.status()["role"] == "init"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
        second = hastd(quiet, "-c", str(quiet.config))
        assert second.returncode == 75
        assert f"Another hastd is already running, pidfile: {quiet.directory}/pid, pid: {pid}." in second.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not alive(pid), "end of hastd")
    assert not (quiet.directory / "pid").exists()


def test_foreground_log_lines_have_the_reference_form(quiet: Daemon) -> None:
    quiet.start()
    quiet.role("secondary")
    lines = quiet.log().splitlines()
    assert lines[0] == "[INFO] Started successfully, running protocol version 2."
    assert "[INFO] [disk1] (secondary) Role changed from init to secondary." in lines


def test_relative_configuration_path(quiet: Daemon) -> None:
    command = [sys.executable, "-m", "hast.cli.hastd", "-t", "-c", "hast.conf"]
    done = subprocess.run(command, cwd=quiet.directory, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert str(Path(quiet.directory) / "hast.conf") in done.stdout
