"""hastctl: commands, messages and exit codes (specification section 9)."""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, free_port, wait_for


def hastctl(*arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hast.cli.hastctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)


@pytest.fixture
def quiet(make_daemon: MakeDaemon) -> Daemon:
    """A configuration without a running hastd; disk1 and disk2."""
    return make_daemon({"disk1": "remote none", "disk2": "remote none"})


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-h",),
        ("status", "-h"),
        ("dance",),
        ("status", "--dance"),
        ("role",),
        ("role", "king", "disk1"),
        ("role", "primary"),
        ("create",),
        ("create", "-e", "zwei", "disk1"),
        ("sync-rate", "fast", "disk1"),
        ("role", "primary", "--timeout", "-1", "disk1"),
    ],
)
def test_wrong_usage_is_exit_64_on_stderr_without_a_traceback(arguments: tuple[str, ...]) -> None:
    done = hastctl(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_sizes_have_the_reference_texts() -> None:
    for option, text in (("-e", "Invalid extentsize"), ("-k", "Invalid keepdirty"), ("-m", "Invalid mediasize")):
        assert hastctl("create", option, "x", "disk1").stderr == f"{text}\n"


# --- configuration and daemon -------------------------------------------------------------------------------------


def test_missing_configuration_is_exit_72(tmp_path: Path) -> None:
    done = hastctl("status", "-c", str(tmp_path / "none"))
    assert done.returncode == 72
    assert len(done.stderr.splitlines()) == 1


def test_bad_configuration_is_exit_78_with_the_place(quiet: Daemon) -> None:
    quiet.config.write_text("resource disk1 {\n  lokal /x\n}\n")
    done = quiet.hastctl("check")
    assert done.returncode == 78
    assert "hast.conf:2:3" in done.stderr


def test_check_accepts_a_correct_file(quiet: Daemon) -> None:
    done = quiet.hastctl("check")
    assert (done.returncode, done.stdout) == (0, f"{quiet.config}: correct, 2 resources for this node.\n")


def test_check_says_which_device_this_host_gets_and_why_not_another(quiet: Daemon) -> None:
    quiet.config.write_text(quiet.config.read_text().replace("device none", "device auto"))
    said = quiet.hastctl("check").stdout.splitlines()
    assert said[0].endswith("correct, 2 resources for this node.")
    kind, _, reasons = said[1].removeprefix("device auto: ").partition(" ")
    assert kind in ("ublk", "nbd", "fuse", "none")
    assert kind == "ublk" or "not ublk: " in reasons
    assert len(said) == 2


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "timeout 5\n"])
def test_check_does_not_call_a_file_without_resources_correct(quiet: Daemon, text: str) -> None:
    quiet.config.write_text(text)
    done = quiet.hastctl("check")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"{quiet.config}: no mistake found, but no resource for this node.\n"


def test_no_daemon_is_exit_71_with_one_line(quiet: Daemon) -> None:
    done = quiet.hastctl("status")
    assert done.returncode == 71
    assert done.stderr.startswith(f"Unable to connect to hastd via {quiet.directory}/ctl: ")
    assert len(done.stderr.splitlines()) == 1


def test_silent_daemon_is_exit_69(quiet: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(quiet.directory / "ctl"))
        listening.listen()

        def serve() -> None:
            client, _ = listening.accept()
            client.recv(1000)
            client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        done = quiet.hastctl("status")
        thread.join(5)
    assert done.returncode == 69
    assert "cannot receive reply from hastd via" in done.stderr


# --- create and dump ----------------------------------------------------------------------------------------------


def test_create_and_dump_without_a_daemon(quiet: Daemon) -> None:
    assert quiet.hastctl("create", "-e", "64k", "-k", "0x10", "disk1", "disk2").returncode == 0
    done = quiet.hastctl("dump", "disk1")
    assert done.returncode == 0
    assert "    extentsize: 65536 (64KB)\n    keepdirty: 16\n" in done.stdout
    assert quiet.hastctl("dump").stdout.count("resource: ") == 2


def test_create_goes_on_after_a_failure_and_exits_with_the_first(quiet: Daemon) -> None:
    done = quiet.hastctl("create", "nope", "disk1")
    assert (done.returncode, done.stderr) == (65, "Unknown resource nope.\n")
    assert quiet.hastctl("dump", "disk1").returncode == 0


def test_create_refuses_a_provider_in_use(quiet: Daemon) -> None:
    with (quiet.directory / "disk1.img").open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        done = quiet.hastctl("create", "disk1")
    assert done.returncode == 66
    assert "in use" in done.stderr


def test_create_refuses_a_provider_that_the_daemon_holds(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    assert daemon.hastctl("create", "disk1").returncode == 0
    daemon.role("secondary")
    done = daemon.hastctl("create", "disk1")
    assert done.returncode == 66
    assert "hastctl role init disk1" in done.stderr


def test_create_of_a_missing_provider_is_exit_66(quiet: Daemon) -> None:
    (quiet.directory / "disk1.img").unlink()
    assert quiet.hastctl("create", "disk1").returncode == 66


def test_dump_of_an_unknown_resource_and_of_a_blank_disk(quiet: Daemon) -> None:
    assert quiet.hastctl("dump", "nope").returncode == 65
    done = quiet.hastctl("dump", "disk1")
    assert done.returncode == 255
    assert len(done.stderr.splitlines()) == 1


# --- role ---------------------------------------------------------------------------------------------------------


def test_role_is_silent_and_true(daemon: Daemon) -> None:
    done = daemon.hastctl("role", "primary", "disk1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert daemon.status()["role"] == "primary"


def test_refused_role_says_why_and_fails(daemon: Daemon) -> None:
    daemon.order("disk1", refuse="the local copy is inconsistent")
    done = daemon.hastctl("role", "primary", "all")
    assert (done.returncode, done.stderr) == (69, "[disk1] the local copy is inconsistent\n")


def test_role_of_an_unknown_resource(daemon: Daemon) -> None:
    done = daemon.hastctl("role", "primary", "nope", "disk1")
    assert (done.returncode, done.stderr) == (
        1,
        "[nope] Received error 1 from hastd: Resource nope is not configured.\n",
    )
    assert daemon.status()["role"] == "primary"


def test_role_timeout_is_exit_75(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=5)
    done = daemon.hastctl("role", "primary", "--timeout", "0.3", "disk1")
    assert done.returncode == 75
    assert daemon.hastctl("role", "init", "disk1").returncode == 0


def test_role_no_wait(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=0.5)
    assert daemon.hastctl("role", "primary", "--no-wait", "disk1").returncode == 0
    wait_for(lambda: daemon.status()["role"] == "primary" and not daemon.status()["transition"], "promotion")


# --- status -------------------------------------------------------------------------------------------------------


def test_status_list_table_and_json(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"}).start()
    daemon.hastctl("create", "disk1", "disk2")
    daemon.role("primary", "disk1")
    text = daemon.hastctl("status").stdout
    assert "disk1:\n  role: primary\n  provname: disk1\n" in text
    assert "  extentsize: 2097152 (2.0MB)\n  keepdirty: 64\n  remoteaddr: none\n  replication: fullsync\n" in text
    assert "  status: degraded\n  dirty: 0 (0B)\n" in text
    assert "disk2:\n  role: init\n" in text
    assert "  statistics:\n    reads: 0\n" in daemon.hastctl("list", "disk1").stdout
    table = daemon.hastctl("status", "--table").stdout.splitlines()
    assert table[0] == "Name\tStatus\t Role\t\tComponents"
    assert table[1] == f"disk1\tdegraded primary        {daemon.directory}/disk1.img\tnone"
    parsed = json.loads(daemon.hastctl("status", "--json", "disk2").stdout)
    assert [entry["name"] for entry in parsed["resources"]] == ["disk2"]


def test_status_of_an_unknown_resource(standing_daemon: Daemon) -> None:
    done = standing_daemon.hastctl("status", "nope")
    assert (done.returncode, done.stdout) == (1, "nope:\n  error: 1 (Resource nope is not configured)\n")
    assert standing_daemon.hastctl("status", "--table", "nope").stdout.endswith("nope\tERR1\n")
    assert standing_daemon.hastctl("list", "nope").stdout == done.stdout


def test_status_says_that_a_secondary_has_no_metadata(standing_daemon: Daemon) -> None:
    assert "problem: provider: " in standing_daemon.hastctl("status", "disk1").stdout


def test_watch_shows_again_and_again_until_interrupted(standing_daemon: Daemon) -> None:
    command = [sys.executable, "-m", "hast.cli.hastctl", "status", "-c", str(standing_daemon.config)]
    watch = subprocess.Popen(
        [*command, "--watch", "--interval", "0.1"],
        env=standing_daemon.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    assert watch.stdout is not None
    seen = [watch.stdout.readline() for _ in range(12)]
    watch.send_signal(signal.SIGINT)
    _out, errors = watch.communicate(timeout=10)
    assert len([line for line in seen if line.startswith("disk1 ")]) >= 2
    assert (watch.returncode, errors) == (130, "")


def test_sync_rate(daemon: Daemon) -> None:
    assert daemon.hastctl("sync-rate", "50M", "all").returncode == 0
    assert daemon.status()["sync_rate_bytes_s"] == 50 << 20
    assert daemon.hastctl("sync-rate", "off", "disk1").returncode == 0
    assert daemon.status()["sync_rate_bytes_s"] == 0
    assert daemon.hastctl("sync-rate", "1M", "nope").returncode == 1


def test_status_into_a_closed_pipe_is_quiet(standing_daemon: Daemon) -> None:
    command = f"{sys.executable} -m hast.cli.hastctl status -c {standing_daemon.config} | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=20, env=standing_daemon.environment
    )
    assert "Traceback" not in done.stderr


def test_events_command(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "hast.cli.hastctl", "events", "-c", str(daemon.config)]
    stream = subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, text=True)
    assert stream.stdout is not None
    assert json.loads(stream.stdout.readline())["error"] is None
    daemon.role("secondary")
    assert json.loads(stream.stdout.readline())["new"] == "secondary"
    stream.kill()
    stream.communicate()


def test_status_loads_nothing_that_is_slow_to_load(standing_daemon: Daemon) -> None:
    """Scripts ask for it every second: no grammar, no event loop, no encryption, no package metadata."""
    config = str(standing_daemon.config)
    program = f"""
import sys
from hast.cli.hastctl import main
sys.argv = ["hastctl", "status", "--table", "-c", {config!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
slow = {{"asyncio", "email", "importlib.metadata", "lark", "multiprocessing", "ssl"}}
print(",".join(sorted(slow & set(sys.modules))))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=standing_daemon.environment, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == ""


def test_daemon_can_be_reached_by_a_record_only_while_it_is_true(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    assert daemon.hastctl("status").returncode == 0
    daemon.port = free_port()
    time.sleep(0.02)
    daemon.config.write_text(daemon.config.read_text().replace("/ctl", "/other"))
    assert daemon.hastctl("status").returncode == 71


def test_debug_shows_the_dialogue_on_stderr(standing_daemon: Daemon) -> None:
    done = standing_daemon.hastctl("status", "-d", "--table")
    assert done.stdout.startswith("Name\t")
    assert f"hastd at {standing_daemon.directory}/ctl" in done.stderr
    assert "[DEBUG][1] reply " in done.stderr


def test_the_data_lies_behind_localoff_and_what_is_before_it_can_be_wiped(quiet: Daemon) -> None:
    image = quiet.directory / "disk1.img"
    quiet.hastctl("create", "disk1")
    shown = quiet.hastctl("dump", "disk1").stdout
    offset = int(shown.split("localoff: ")[1].split()[0])
    size = int(shown.split("datasize: ")[1].split()[0])
    assert offset + size <= image.stat().st_size
    with image.open("r+b") as disk:
        disk.write(bytes(offset))
    assert quiet.hastctl("dump", "disk1").returncode == 255
    assert quiet.hastctl("create", "disk1").returncode == 0
