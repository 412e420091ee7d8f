"""SIGHUP and the reload command (specification section 8.6), and the hooks of `exec` (8.7)."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, alive, free_port, wait_for
from hast.cli.client import ControlError


def reload(daemon: Daemon) -> None:
    daemon.ask({"command": "reload"})


def messages(daemon: Daemon, name: str = "disk1") -> list[dict[str, Any]]:
    path = daemon.directory / "orders" / f"{name}.seen"
    lines = path.read_text().splitlines() if path.exists() else []
    return [record["message"] for record in map(json.loads, lines) if "message" in record]


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def test_sighup_reloads(daemon: Daemon) -> None:
    daemon.write_config({"disk1": "remote none", "disk2": "remote none"})
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: daemon.status("disk2").get("role") == "init", "new resource")


def test_bad_configuration_keeps_the_old_state_and_says_why(daemon: Daemon) -> None:
    daemon.role("primary")
    daemon.config.write_text("resource {")
    with pytest.raises(ControlError, match=r"Configuration not reloaded: .*hast\.conf:1:10: syntax error"):
        reload(daemon)
    assert daemon.status()["role"] == "primary"
    assert "Configuration not reloaded." in daemon.log()


@pytest.mark.slow
def test_a_configuration_that_cannot_be_read_in_time_is_not_waited_for_and_holds_up_no_stop(daemon: Daemon) -> None:
    text = daemon.config.read_text()
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    with pytest.raises(ControlError, match=r"Configuration not reloaded: .*hast\.conf was not read within 10 s"):
        reload(daemon)
    daemon.config.unlink()
    daemon.config.write_text(text)
    reload(daemon)
    assert daemon.stop(10.0) == 0


def test_added_remote_reaches_a_primary_live(daemon: Daemon) -> None:
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    daemon.write_config({"disk1": "remote tcp4://127.0.0.1:1"})
    reload(daemon)
    status = daemon.status()
    assert (status["workerpid"], status["remoteaddr"]) == (worker, "tcp4://127.0.0.1:1")
    sent = [message for message in messages(daemon) if message["do"] == "reload"]
    assert sent[0]["resource"]["remotes"] == ["tcp4://127.0.0.1:1"]


def test_changed_provider_name_restarts_a_primary(daemon: Daemon) -> None:
    daemon.role("primary")
    worker = daemon.status()["workerpid"]
    daemon.write_config({"disk1": "remote none name other"})
    reload(daemon)
    status = daemon.status()
    assert (status["role"], status["provname"]) == ("primary", "other")
    assert status["workerpid"] not in (0, worker)


def test_changed_secondary_goes_through_init_with_two_hooks(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    hook = f"exec {daemon.write_hook()}"
    daemon.write_config({"disk1": "remote none"}, inside=hook)
    daemon.start()
    daemon.role("secondary")
    daemon.write_config({"disk1": "remote none"}, inside=f"{hook} timeout 7")
    reload(daemon)
    wait_for(lambda: len(daemon.hooks()) == 3, "hooks")
    expected = ["role disk1 init secondary", "role disk1 secondary init", "role disk1 init secondary"]
    assert daemon.hooks() == expected
    assert daemon.status()["timeout_s"] == 7


def test_removed_resource_is_stopped_and_forgotten(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"}).start()
    daemon.role("primary", "disk2")
    worker = daemon.status("disk2")["workerpid"]
    daemon.write_config({"disk1": "remote none"})
    reload(daemon)
    assert not alive(worker)
    assert daemon.status("disk2")["code"] == 1


def test_role_change_that_queues_behind_a_removal_starts_nothing(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"})
    daemon.order("disk2", ready_after_s=0.5)
    daemon.start()
    daemon.role("primary", "disk2", wait=False)
    daemon.role("init", "disk2", wait=False)
    daemon.role("primary", "disk2", wait=False)
    daemon.write_config({"disk1": "remote none"})
    reload(daemon)
    time.sleep(1.5)
    path = daemon.directory / "orders" / "disk2.seen"
    pids = {json.loads(line)["pid"] for line in path.read_text().splitlines()} if path.exists() else set()
    assert not [pid for pid in pids if alive(pid)]


def test_unchanged_primary_is_left_alone(daemon: Daemon) -> None:
    daemon.role("primary")
    reload(daemon)
    assert [message["do"] for message in messages(daemon)] == []


def test_listen_addresses_move(daemon: Daemon) -> None:
    old, daemon.port = daemon.port, free_port()
    assert listens(old)
    daemon.write_config({"disk1": "remote none"})
    reload(daemon)
    assert listens(daemon.port)
    assert not listens(old)


def test_no_usable_listen_address_keeps_the_old_ones(daemon: Daemon) -> None:
    daemon.write_config({"disk1": "remote none"}, listen="listen tcp4://192.0.2.1:9999")
    assert daemon.hastctl("reload").returncode == 70
    assert listens(daemon.port)


def test_control_socket_and_pidfile_move(daemon: Daemon) -> None:
    text = daemon.config.read_text().replace("/ctl", "/ctl2")
    daemon.config.write_text(text)
    reload(daemon)
    assert daemon.hastctl("status").returncode == 0
    assert not (daemon.directory / "ctl").exists()


def test_every_event_runs_the_hook_in_order(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside=f"exec {daemon.write_hook('sleep 0.05')}")
    names = ["connect", "syncstart", "syncintr", "disconnect", "connect", "syncstart", "syncdone", "split-brain"]
    daemon.order("disk1", events=names)
    daemon.start()
    daemon.role("primary")
    wait_for(lambda: len(daemon.hooks()) == 9, "hooks")
    assert [line for line in daemon.hooks() if not line.startswith("role")] == [f"{name} disk1" for name in names]
    assert "role disk1 init primary" in daemon.hooks()


def test_slow_hook_holds_up_nothing_and_failing_hooks_are_logged(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside=f"exec {daemon.write_hook('sleep 2; exit 3')}")
    daemon.start()
    began = time.monotonic()
    daemon.role("secondary", timeout_s=10)
    daemon.role("init")
    assert time.monotonic() - began < 2
    wait_for(lambda: "failed: exit code 3" in daemon.log(), "log line")


def test_missing_hook_is_logged(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.write_config({"disk1": "remote none"}, inside="exec /nonexistent/hook")
    daemon.start()
    assert daemon.role("secondary")["error"] is None
    wait_for(lambda: "Unable to run hook /nonexistent/hook role disk1 init secondary" in daemon.log(), "log line")


@pytest.mark.parametrize("number", [signal.SIGHUP])
def test_many_reloads_at_once_are_harmless(daemon: Daemon, number: int) -> None:
    daemon.role("primary")
    for _ in range(20):
        daemon.signal(number)
    assert daemon.status()["role"] == "primary"
