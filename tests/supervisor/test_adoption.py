"""hastd is killed: its workers go on, and the next hastd takes them over. Two real hastd on loopback, `device none`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import QEMU_IO, Pair, io, needs_qemu_io

from daemon import Daemon, alive, wait_for
from hast.worker import messages

pytestmark = needs_qemu_io


def history(daemon: Daemon) -> list[str]:
    return [event["event"] for event in daemon.status()["history"]]


def test_primary_serves_and_replicates_while_hastd_is_dead_and_is_taken_over_as_it_was(pair: Pair) -> None:
    one = pair.one
    one.ask({"command": "sync-rate", "resources": ["disk1"], "bytes_s": 77 << 20})
    before = one.status()
    one.kill()
    io(one, "write -P 0x5a 0 1M", "flush", "read -P 0x5a 0 1M")
    assert pair.two.status()["status"] == "complete"
    began = time.monotonic()
    one.start()
    after = one.status()
    took_s = time.monotonic() - began
    assert (after["role"], after["status"], after["workerpid"]) == ("primary", "complete", before["workerpid"])
    assert after["restarts"] == 0
    assert after["sync_rate_bytes_s"] == 77 << 20
    assert history(one)[-1] == "adopted"
    assert "connect" in history(one)
    io(one, "write -P 0x5b 1M 1M", "flush")
    pair.wait_complete()
    first, second = pair.images()
    assert first == second
    assert first[: 1 << 20] == b"\x5a" * (1 << 20)
    assert took_s < 20, took_s


def test_secondary_takes_every_write_while_its_hastd_is_dead_and_is_taken_over(pair: Pair) -> None:
    two = pair.two
    worker = two.status()["workerpid"]
    two.kill()
    io(pair.one, "write -P 0x33 2M 1M", "flush")
    assert pair.one.status()["status"] == "complete"
    two.start()
    state = two.status()
    assert (state["role"], state["status"], state["workerpid"]) == ("secondary", "complete", worker)
    assert pair.one.status()["status"] == "complete"
    first, second = pair.images()
    assert first == second


def test_switch_of_roles_after_both_hastd_were_killed_and_came_back(pair: Pair) -> None:
    for daemon in (pair.one, pair.two):
        daemon.kill()
    io(pair.one, "write -P 0x44 0 64k", "flush")
    for daemon in (pair.one, pair.two):
        daemon.start()
    assert pair.one.role("secondary")["error"] is None
    assert not (pair.one.run_directory / "disk1.nbd").exists()
    assert pair.two.role("primary")["error"] is None
    io(pair.two, "read -P 0x44 0 64k")
    pair.wait_complete()


def test_worker_taken_over_that_dies_is_replaced_under_the_same_socket(pair: Pair) -> None:
    one = pair.one
    one.kill()
    one.start()
    worker = one.status()["workerpid"]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: one.status()["restarts"] == 1, "restart")
    assert one.status()["workerpid"] != worker
    io(one, "write -P 0x55 0 64k", "flush")
    pair.wait_complete()
    one.kill()
    one.start()
    assert one.status()["restarts"] == 1, "what was counted is remembered"


def test_secondary_whose_worker_died_with_hastd_is_a_secondary_again(pair: Pair) -> None:
    two = pair.two
    worker = two.status()["workerpid"]
    two.kill()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not alive(worker), "its end")
    io(pair.one, "write -P 0x66 0 64k")
    two.start()
    assert two.status()["role"] == "secondary"
    pair.wait_complete(40.0)
    first, second = pair.images()
    assert first == second


def test_primary_whose_worker_died_with_hastd_is_none_any_more_and_says_why(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not alive(worker), "its end")
    one.start()
    state = one.status()
    assert state["role"] == "init"
    assert "The worker of this primary ended with the hastd before this one" in json.dumps(state)
    assert one.role("primary")["error"] is None


def test_configuration_changed_while_hastd_was_dead_is_followed_after_the_take_over(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    one.write_config({"disk1": f"remote tcp4://127.0.0.1:{pair.two.port}"}, inside="timeout 5\n sync-rate 9M")
    one.start()
    wait_for(lambda: one.status()["sync_rate_bytes_s"] == 9 << 20, "the changed rate")
    assert one.status()["workerpid"] == worker


def test_resource_that_left_the_configuration_while_hastd_was_dead_lets_go(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    one.write_config({"disk2": "remote none"})
    one.start()
    wait_for(lambda: not alive(worker), "its end in order")
    assert "Not drained" not in one.log()
    assert [each["name"] for each in one.ask({"command": "status", "resources": ["all"]})["resources"]] == ["disk2"]


def test_after_an_orderly_stop_no_role_is_remembered(pair: Pair) -> None:
    for daemon in (pair.one, pair.two):
        assert daemon.stop() == 0
        assert not list(daemon.run_directory.glob("*.role"))
        daemon.start()
        assert daemon.status()["role"] == "init"
        assert "adopted" not in history(daemon)


LATER_STATE = "import hast.worker.successor\nhast.worker.successor.STATE_VERSION = 99\n"
WITHOUT_A_SETTING = """
import dataclasses
import hast.daemon.release
from hast.config import model
hast.daemon.release.RELEASE = "0.0.9+earlier"
fields = [(each.name, each.type, each) for each in dataclasses.fields(model.Resource) if each.name != "crash_loop"]
model.Resource = dataclasses.make_dataclass("Resource", fields)
"""


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (LATER_STATE, "hands over state of version 1, and this release knows 99"),
        (WITHOUT_A_SETTING, "hands over what this release does not know (Resource.__init__() got an unexpected"),
    ],
)
def test_worker_of_a_release_that_is_not_understood_is_left_alone_and_hastd_does_not_start(
    pair: Pair, tmp_path: Path, release: str, said: str
) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    (tmp_path / "sitecustomize.py").write_text(release)
    one.environment_more = {"PYTHONPATH": str(tmp_path)}
    process = one.spawn()
    assert process.wait(20) == 78
    assert said in one.log()
    assert alive(worker)
    io(one, "write -P 0x77 0 64k", "flush")
    one.environment_more = {}
    one.start()
    assert one.status()["workerpid"] == worker


def test_whoever_serves_the_socket_of_a_worker_and_is_not_that_worker_is_not_believed(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    door = one.run_directory / "worker" / "disk1.adopt"
    wait_for(door.exists, "the worker's socket")
    door.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as liar:
        liar.bind(str(door))
        liar.listen(4)
        one.start()
    assert "not believed" in one.log()
    assert not alive(worker), "it cannot be reached, so it is ended in order"
    assert one.status()["role"] == "init"


def test_who_looks_at_the_offer_and_goes_changes_nothing(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    one.kill()
    door = one.run_directory / "worker" / "disk1.adopt"
    wait_for(door.exists, "the worker's socket")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(5)
            sock.connect(str(door))
            offer, descriptors = messages.receive(sock)
            assert offer is not None
            assert (offer["say"], offer["role"], len(descriptors)) == ("offer", "primary", 1)
            assert "sync_rate_bytes_s" not in offer, (
                "a release that knows no auto would take it for a rate, and copy nothing"
            )
            assert not messages.LATER & offer["resource"].keys()
            os.close(descriptors[0])
    io(one, "write -P 0x78 0 64k", "flush")
    one.start()
    assert one.status()["workerpid"] == worker


def test_killed_again_and_again_under_load_nothing_is_lost_and_nothing_is_interrupted(pair: Pair) -> None:
    one = pair.one
    worker = one.status()["workerpid"]
    for round_number in range(4):
        one.kill()
        io(one, *(f"write -P {16 * round_number + n:#x} {n * 64}k 64k" for n in range(1, 9)), "flush")
        one.start()
        assert one.status()["workerpid"] == worker
    io(one, *(f"read -P {48 + n:#x} {n * 64}k 64k" for n in range(1, 9)))
    pair.wait_complete()
    first, second = pair.images()
    assert first == second


def test_upgrade_replaces_hastd_and_then_each_worker_under_load_without_an_error(pair: Pair) -> None:
    one = pair.one
    before = {daemon: (daemon.process.pid, daemon.status()["workerpid"]) for daemon in (pair.one, pair.two)}  # type: ignore[union-attr]
    load = writing(one)
    for daemon in (pair.one, pair.two):
        done = daemon.hastctl("upgrade")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr + daemon.log()
        assert "run release" in done.stdout
        process, worker = before[daemon]
        assert daemon.ask({"command": "version"})["pid"] == process, "the service manager sees the same process"
        assert daemon.status()["workerpid"] != worker
    assert load.wait(60) == 0, (one.directory / "load").read_text()[-2000:]
    pair.wait_complete()
    first, second = pair.images()
    assert first == second
    assert pair.one.role("secondary")["error"] is None
    assert pair.two.role("primary")["error"] is None


def test_an_upgrade_leaves_no_process_behind(pair: Pair) -> None:
    one = pair.one
    assert one.process is not None
    for _ in range(2):
        assert one.hastctl("upgrade").returncode == 0
    wait_for(lambda: "Z" not in states_of_children(one.process.pid), "no zombie")  # type: ignore[union-attr]
    assert one.stop() == 0


def states_of_children(pid: int) -> str:
    out = subprocess.run(["ps", "-o", "stat=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return "".join(line.strip()[:1] for line in out.splitlines())


def writing(daemon: Daemon) -> subprocess.Popen[bytes]:
    """Many writes and flushes, one after the other, that go on while others look; fails at the first error."""
    assert QEMU_IO is not None
    commands = [f"write -P {n % 250 + 1:#x} {n % 96 * 64}k 64k" for n in range(1500)]
    image = f"driver=nbd,server.type=unix,server.path={daemon.run_directory}/disk1.nbd,reconnect-delay=30"
    argv = [QEMU_IO, *(part for command in commands for part in ("-c", command)), "--image-opts", image]
    return subprocess.Popen(argv, stdout=(daemon.directory / "load").open("wb"), stderr=subprocess.STDOUT)


def test_an_upgrade_of_a_hastd_without_workers_comes_to_its_end(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    done = daemon.hastctl("upgrade", "--timeout", "20")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run release" in done.stdout
