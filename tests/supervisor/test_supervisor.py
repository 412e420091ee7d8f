"""Roles, workers and their deaths, start and stop of hastd (specification sections 8.1-8.5)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, alive, wait_for


def seen(daemon: Daemon, name: str = "disk1") -> list[dict[str, Any]]:
    path = daemon.directory / "orders" / f"{name}.seen"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def starts(daemon: Daemon) -> list[dict[str, Any]]:
    return [record for record in seen(daemon) if "start" in record]


def test_all_resources_start_in_role_init_without_a_worker(daemon: Daemon) -> None:
    status = daemon.status()
    assert (status["role"], status["status"], status["workerpid"]) == ("init", "-", 0)


def test_role_primary_answers_when_the_worker_is_ready(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=0.5)
    began = time.monotonic()
    assert daemon.role("primary")["previous"] == "init"
    assert time.monotonic() - began >= 0.5
    status = daemon.status()
    assert status["role"] == "primary"
    assert alive(status["workerpid"])
    assert Path(status["nbd_socket"]).is_socket()


def test_start_message_says_what_the_worker_needs(daemon: Daemon) -> None:
    daemon.role("primary", force=True)
    start = starts(daemon)[0]
    assert start["descriptors"] == 3, "the NBD listener, and both ends of the locker"
    told = start["start"]
    assert (told["role"], told["force"], told["resume"], told["first"]) == ("primary", True, False, True)
    assert told["resource"]["local"] == str(daemon.directory / "disk1.img")


def test_refused_promotion_says_why_and_leaves_a_secondary_secondary(daemon: Daemon) -> None:
    daemon.role("secondary")
    daemon.order("disk1", refuse="the local copy is inconsistent", exit=65)
    result = daemon.role("primary")
    assert (result["error"], result["code"]) == ("the local copy is inconsistent", 69)
    status = daemon.status()
    assert (status["role"], status["workerpid"], status["nbd_socket"]) == ("secondary", 0, None)
    assert "the local copy is inconsistent" in json.dumps(status["problems"])
    assert not list(daemon.run_directory.glob("*.nbd"))


def test_refused_promotion_from_init_stays_init(daemon: Daemon) -> None:
    daemon.order("disk1", refuse="no")
    daemon.role("primary")
    assert daemon.status()["role"] == "init"


def test_worker_that_dies_while_starting_is_a_failure_not_a_hang(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=-1)
    result = daemon.role("primary")
    assert "ended early" in result["error"]
    assert daemon.status()["role"] == "init"


def test_same_role_again_changes_nothing(daemon: Daemon) -> None:
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    assert daemon.role("primary")["previous"] == "primary"
    assert daemon.status()["workerpid"] == worker
    assert len(starts(daemon)) == 1


def test_secondary_without_connection_has_no_worker(daemon: Daemon) -> None:
    assert daemon.role("secondary")["error"] is None
    assert daemon.status()["workerpid"] == 0
    assert not starts(daemon)


def test_secondary_warns_of_a_provider_without_metadata(daemon: Daemon) -> None:
    assert "hastctl create disk1" in daemon.role("secondary")["warnings"][0]


def test_unknown_resource_is_error_1(daemon: Daemon) -> None:
    assert daemon.role("primary", "nope")["code"] == 1


def test_killed_worker_is_replaced_within_a_second_under_the_same_socket(daemon: Daemon) -> None:
    daemon.role("primary")
    before = daemon.status()
    inode = os.stat(before["nbd_socket"]).st_ino
    os.kill(before["workerpid"], signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: daemon.status()["restarts"] == 1, "restart", 8.0)
    assert time.monotonic() - began < 5.0
    after = daemon.status()
    assert after["role"] == "primary"
    assert after["workerpid"] not in (0, before["workerpid"])
    assert os.stat(after["nbd_socket"]).st_ino == inode
    assert starts(daemon)[1]["start"]["resume"] is True


def test_worker_that_keeps_crashing_is_restarted_ever_more_slowly_and_can_be_given_up(daemon: Daemon) -> None:
    daemon.role("primary")
    daemon.order("disk1", die_after_s=0, die_with=-9)
    os.kill(daemon.status()["workerpid"], signal.SIGKILL)
    wait_for(lambda: len(starts(daemon)) >= 4, "restarts", 10.0)
    assert daemon.status()["role"] == "primary"
    assert len(starts(daemon)) < 8
    assert daemon.role("init")["error"] is None
    count = len(starts(daemon))
    time.sleep(1.5)
    assert len(starts(daemon)) == count


@pytest.mark.parametrize("conduct", ["hold", pytest.param("fail", marks=pytest.mark.slow)])
def test_crash_loop_ends_as_configured_and_an_order_begins_anew(make_daemon: MakeDaemon, conduct: str) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside=f"crash-loop {conduct}")
    daemon.start()
    daemon.role("primary")
    daemon.order("disk1", die_after_s=0, die_with=-9)
    os.kill(daemon.status()["workerpid"], signal.SIGKILL)
    wait_for(lambda: "is not started again" in daemon.log(), "the end of the loop", 30.0)
    count = len(starts(daemon))
    assert count <= 10
    assert "died more than 8 times" in str(daemon.status()["problems"])
    assert daemon.status()["role"] == {"hold": "primary", "fail": "init"}[conduct]
    time.sleep(1.0)
    assert len(starts(daemon)) == count
    daemon.order("disk1")
    assert daemon.role("primary")["error"] is None
    assert not daemon.status()["problems"]


@pytest.mark.parametrize("code", [0, 66, 78])
def test_primary_whose_worker_leaves_goes_to_init_and_runs_the_hook(make_daemon: MakeDaemon, code: int) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside=f"exec {daemon.write_hook()}")
    daemon.order("disk1", die_after_s=0.2, die_with=code)
    daemon.start()
    daemon.role("primary")
    wait_for(lambda: "role disk1 primary init" in daemon.hooks(), "role hook")
    assert daemon.status()["role"] == "init"
    assert "Changing resource role back to init." in daemon.log()


@pytest.mark.slow
def test_worker_that_ignores_stop_is_killed_and_the_role_changes(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside="timeout 1")
    daemon.order("disk1", ignore_stop=True)
    daemon.start()
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    assert daemon.role("secondary")["error"] is None
    assert not alive(worker)
    assert daemon.status()["role"] == "secondary"


def test_silent_worker_does_not_hold_up_status_of_others(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"})
    daemon.order("disk1", ignore_status=True)
    daemon.start()
    daemon.role("primary", "all")
    began = time.monotonic()
    assert daemon.status("disk2")["status"] == "degraded"
    assert time.monotonic() - began < 1.5
    assert daemon.status("disk1")["problems"][0]["kind"] == "worker"


def test_promotion_under_way_gives_way_to_a_demotion(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=30)
    results: list[dict[str, Any]] = []
    promotion = threading.Thread(target=lambda: results.append(daemon.role("primary")))
    promotion.start()
    wait_for(lambda: starts(daemon), "worker start")
    began = time.monotonic()
    assert daemon.role("secondary")["error"] is None
    assert time.monotonic() - began < 5
    promotion.join(10)
    assert "Given up for role secondary" in results[0]["error"]
    assert daemon.status()["role"] == "secondary"


def test_role_with_a_timeout_reports_that_it_still_goes_on(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=1.5)
    result = daemon.role("primary", timeout_s=0.3)
    assert result["code"] == 75
    assert "starting" in result["error"]
    wait_for(lambda: daemon.role("primary")["error"] is None, "promotion")


def test_role_without_waiting_answers_at_once(daemon: Daemon) -> None:
    daemon.order("disk1", ready_after_s=1)
    began = time.monotonic()
    assert daemon.role("primary", wait=False)["pending"] is True
    assert time.monotonic() - began < 0.9


def test_inconsistent_primary_copy_is_refused_before_the_connection_is_dropped(daemon: Daemon) -> None:
    # The worker of a secondary is asked first, so that its connection survives the refusal; see test_listener.py.
    daemon.order("disk1", refuse="the local copy is inconsistent")
    assert "inconsistent" in daemon.role("primary")["error"]


def test_all_changes_every_resource(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"}).start()
    reply = daemon.ask({"command": "role", "role": "primary", "resources": ["all"]})
    assert [entry["name"] for entry in reply["resources"]] == ["disk1", "disk2"]
    assert {daemon.status(name)["role"] for name in ("disk1", "disk2")} == {"primary"}


def test_orderly_stop_drains_workers_and_removes_files(daemon: Daemon) -> None:
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    assert daemon.stop() == 0
    assert not alive(worker)
    assert any(record.get("message", {}).get("do") == "stop" for record in seen(daemon))
    assert not (daemon.directory / "ctl").exists()
    assert [path.relative_to(daemon.run_directory) for path in daemon.run_directory.rglob("*")] == [Path("worker")]


def test_sigint_stops_as_well(daemon: Daemon) -> None:
    daemon.signal(signal.SIGINT)
    assert daemon.process is not None
    assert daemon.process.wait(10) == 0


def test_restart_after_sigkill_ends_old_workers_and_serves(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.order("disk1", ignore_stop=True)
    daemon.start()
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    assert daemon.process is not None
    os.kill(worker, signal.SIGSTOP)
    daemon.process.kill()
    daemon.process.wait(5)
    assert alive(worker)
    daemon.order("disk1")
    daemon.start()
    assert not alive(worker)
    assert daemon.role("primary")["error"] is None


def test_restart_after_sigkill_in_the_middle_of_a_promotion_begins_clean(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.order("disk1", ready_after_s=60)
    daemon.start()
    daemon.role("primary", wait=False)
    worker = wait_for(lambda: starts(daemon), "worker start")[0]["pid"]
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait(5)
    assert alive(worker)
    daemon.order("disk1")
    daemon.start()
    assert not alive(worker)
    assert daemon.status()["role"] == "init"
    assert daemon.role("primary")["error"] is None


def test_sync_rate_reaches_the_worker_and_its_replacement(daemon: Daemon) -> None:
    daemon.role("primary")
    reply = daemon.ask({"command": "sync-rate", "resources": ["disk1"], "bytes_s": 1 << 20})
    assert reply["resources"] == [{"name": "disk1", "error": None}]
    os.kill(daemon.status()["workerpid"], signal.SIGKILL)

    def rates() -> int:
        return [record["message"]["do"] for record in seen(daemon) if "message" in record].count("sync-rate")

    wait_for(lambda: rates() == 2, "sync rate after restart")
    assert daemon.status()["sync_rate_bytes_s"] == 1 << 20
    daemon.ask({"command": "sync-rate", "resources": ["disk1"], "bytes_s": "auto"})
    assert daemon.status()["sync_rate_bytes_s"] == "auto"


def test_second_hastd_with_the_same_pidfile_is_refused(daemon: Daemon) -> None:
    pidfile = str(daemon.directory / "pid2")
    one = Daemon(daemon.directory / "other")
    try:
        one.start("-P", pidfile)
        assert one.process is not None
        command = [sys.executable, "-m", "hast.cli.hastd", "-F", "-c", str(one.config), "-P", pidfile]
        done = subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=20)
        assert done.returncode == 75
        text = f"Another hastd is already running, pidfile: {pidfile}, pid: {one.process.pid}."
        assert text in done.stderr
    finally:
        one.stop()
    assert not Path(pidfile).exists()


@pytest.mark.parametrize("name", ["data/disk:1", "x" * 254])
def test_odd_names_of_resources_work_like_others(make_daemon: MakeDaemon, name: str) -> None:
    daemon = make_daemon()
    daemon.write_config({name: f"local {daemon.directory}/disk1.img remote none"})
    daemon.start()
    result = daemon.role("primary", name)
    assert result["error"] is None
    status = daemon.status(name)
    socket = Path(status["nbd_socket"])
    assert socket.parent == daemon.run_directory
    assert socket.is_socket()
    os.kill(status["workerpid"], signal.SIGKILL)
    wait_for(lambda: daemon.status(name)["restarts"] == 1, "restart")
    assert daemon.role("init", name)["error"] is None


def standbys(daemon: Daemon) -> list[int]:
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task").glob("*/children")
    pids = [int(word) for file in children for word in file.read_text().split()]
    return [pid for pid in pids if b"hastd: standby" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_standby_is_used_and_a_dead_one_does_no_harm(daemon: Daemon) -> None:
    first = wait_for(lambda: standbys(daemon), "standby")
    daemon.role("primary")
    assert daemon.status()["workerpid"] == first[0]
    second = wait_for(lambda: [pid for pid in standbys(daemon) if pid != first[0]], "next standby")
    os.kill(second[0], signal.SIGKILL)
    daemon.role("init")
    assert daemon.role("primary")["error"] is None
    assert daemon.status()["workerpid"] not in (0, first[0], second[0])
    daemon.stop()
    assert not [pid for pid in (*first, *second) if alive(pid)]


def test_process_title_of_the_supervisor(daemon: Daemon) -> None:
    assert daemon.process is not None
    title = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes().rstrip(b"\0 ")
    assert title == b"hastd"


def test_hung_worker_is_killed_and_replaced(make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAST_WATCH_INTERVAL_S", "0.2")
    daemon = make_daemon().start()
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: daemon.status()["restarts"] == 1, "replacement")
    assert not alive(worker)
    assert "has not answered for" in daemon.log()
