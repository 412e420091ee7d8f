"""Two real hastd on loopback with real workers and `device none`: create, roles, writes, switches, kills. No root."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from daemon_fixtures import MakeDaemon
from daemon_pair import DATA_OFFSET, Pair, io, needs_qemu_io, problems

from daemon import wait_for

pytestmark = needs_qemu_io


def test_what_is_written_on_one_is_read_on_the_other_after_a_switch_and_back(pair: Pair) -> None:
    io(pair.one, "write -P 0x5a 0 1M", "write -P 0xa5 3M 64k", "flush")
    for old, new in ((pair.one, pair.two), (pair.two, pair.one)):
        done = old.hastctl("role", "secondary", "disk1")
        assert (done.returncode, done.stderr) == (0, "")
        assert new.hastctl("role", "primary", "disk1").returncode == 0
        io(new, "read -P 0x5a 0 1M", "read -P 0xa5 3M 64k", "write -P 0x11 5M 4k")
    pair.wait_complete()
    first, second = pair.images()
    assert first == second
    assert first[:4] == b"\x5a" * 4


def test_titles_are_those_the_article_greps_for(pair: Pair) -> None:
    pids = {daemon.status()["workerpid"]: daemon.status()["role"] for daemon in (pair.one, pair.two)}
    for pid, role in pids.items():
        assert Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ") == f"hastd: disk1 ({role})".encode()


def test_killed_primary_worker_is_replaced_and_resynchronized(pair: Pair) -> None:
    io(pair.one, "write -P 0x22 0 2M")
    os.kill(pair.one.status()["workerpid"], signal.SIGKILL)
    wait_for(lambda: pair.one.status()["restarts"] == 1, "restart")
    pair.wait_complete()
    io(pair.one, "read -P 0x22 0 2M")
    first, second = pair.images()
    assert first == second


def test_killed_secondary_worker_comes_back(pair: Pair) -> None:
    os.kill(pair.two.status()["workerpid"], signal.SIGKILL)
    wait_for(lambda: pair.two.status()["status"] == "-" or pair.one.status()["status"] == "degraded", "loss")
    io(pair.one, "write -P 0x33 1M 1M")
    pair.wait_complete(40.0)
    first, second = pair.images()
    assert first == second


def test_secondary_daemon_killed_and_started_again_is_filled(pair: Pair) -> None:
    pair.two.die()
    io(pair.one, "write -P 0x44 0 8M")
    assert pair.one.status()["status"] == "degraded"
    pair.two.start()
    assert pair.two.status()["role"] == "secondary"
    pair.wait_complete(40.0)
    first, second = pair.images()
    assert first == second


def test_second_node_added_later_by_reload_is_filled_online(make_daemon: MakeDaemon) -> None:
    one, two = make_daemon(fake=False), make_daemon(fake=False)
    one.write_config({"disk1": "remote none"})
    two.write_config({"disk1": f"remote tcp4://127.0.0.1:{one.port}"})
    for daemon in (one, two):
        daemon.hastctl("create", "disk1")
        daemon.start()
    assert one.role("primary")["error"] is None
    io(one, "write -P 0x55 0 4M")
    two.role("secondary")
    worker = one.status()["workerpid"]
    time.sleep(0.02)
    one.write_config({"disk1": f"remote tcp4://127.0.0.1:{two.port}"})
    one.ask({"command": "reload"})
    made = Pair(one, two)
    made.wait_complete(30.0)
    assert one.status()["workerpid"] == worker
    first, second = made.images()
    assert first == second
    assert first[: 4 << 20] == b"\x55" * (4 << 20)


def test_orderly_stop_of_both_leaves_identical_clean_copies(pair: Pair) -> None:
    io(pair.one, "write -P 0x66 2M 2M")
    assert pair.one.stop() == 0
    assert pair.two.stop() == 0
    first, second = pair.images()
    assert first == second
    assert (pair.one.directory / "disk1.img").read_bytes()[4096:DATA_OFFSET] == bytes(512)


def test_wrong_size_of_the_peer_is_said_in_status(make_daemon: MakeDaemon) -> None:
    one, two = make_daemon(fake=False), make_daemon(fake=False)
    one.write_config({"disk1": f"remote tcp4://127.0.0.1:{two.port}"}, inside="timeout 3")
    two.write_config({"disk1": f"remote tcp4://127.0.0.1:{one.port}"}, inside="timeout 3")
    one.hastctl("create", "disk1")
    two.hastctl("create", "-m", "8M", "disk1")
    for daemon in (one, two):
        daemon.start()
    two.role("secondary")
    one.role("primary")
    wait_for(lambda: "size differs" in str(one.status()["problems"]).lower(), "problem in status", 15.0)
    assert one.status()["status"] == "degraded"


def test_primary_without_metadata_is_refused_with_advice(make_daemon: MakeDaemon) -> None:
    one = make_daemon(fake=False).start()
    done = one.hastctl("role", "primary", "disk1")
    assert done.returncode == 69
    assert "hastctl create disk1" in done.stderr
    assert one.status()["role"] == "init"


def test_configurations_that_differ_are_named_where_it_matters(pair: Pair) -> None:
    text = pair.two.config.read_text()
    pair.two.config.write_text(text.replace("timeout 5", "timeout 5\nreplication memsync", 1))
    assert pair.two.process is not None
    pair.two.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "differs" in problems(pair.two, "configuration"), "the problem")
    said = problems(pair.two, "configuration")
    assert "the primary replicates in fullsync mode, this node is configured for memsync" in said
    pair.two.config.write_text(text)
    pair.two.process.send_signal(signal.SIGHUP)
    wait_for(lambda: not problems(pair.two, "configuration"), "its end")
    pair.wait_complete()
