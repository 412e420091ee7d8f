"""SIGTERM of hastd beside a peer that wants to take over: real daemons and workers on loopback. No root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, wait_for
from hast.config.model import Resource
from hast.supervisor import ask_peer
from hast.supervisor.decisions.departure import PeerAnswer
from hast.supervisor.decisions.role_change import leave_limit_s

QEMU_IO = shutil.which("qemu-io")
pytestmark = pytest.mark.skipif(QEMU_IO is None, reason="qemu-io (package qemu-utils) is not installed")
TIMEOUT_S = 6


class Pair:
    """Resources disk1 and disk2 of one pool; `one` is primary and `two` secondary, connected and in step at first."""

    def __init__(self, one: Daemon, two: Daemon) -> None:
        self.one, self.two = one, two

    def wait_complete(self, primary: Daemon) -> None:
        def complete() -> bool:
            states = [primary.status(name) for name in ("disk1", "disk2")]
            return all(each["status"] == "complete" and not each["dirty"] and not each["sync"] for each in states)

        wait_for(complete, "both copies in step", 20.0)

    def hold_up(self) -> None:
        """The peer of disk1 does not answer: the drain of the primary has to wait."""
        os.kill(self.two.status()["workerpid"], signal.SIGSTOP)

    def let_on(self) -> None:
        os.kill(self.two.status()["workerpid"], signal.SIGCONT)


def io(daemon: Daemon, *commands: str, name: str = "disk1") -> subprocess.CompletedProcess[str]:
    assert QEMU_IO is not None
    argv = [QEMU_IO, "-f", "raw", *(part for command in commands for part in ("-c", command))]
    socket = daemon.status(name)["nbd_socket"]
    return subprocess.run([*argv, f"nbd+unix:///?socket={socket}"], capture_output=True, text=True, timeout=60)


def asked(daemon: Daemon) -> PeerAnswer:
    """What this daemon answers to message 1."""
    return asyncio.run(ask_peer.ask(Resource("disk1", "disk1", "/none", (f"tcp4://127.0.0.1:{daemon.port}",))))


def told(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return [event for event in daemon.status()["history"] if event["event"] == name]


@pytest.fixture
def pair(make_daemon: MakeDaemon) -> Iterator[Pair]:
    one, two = make_daemon(fake=False), make_daemon(fake=False)
    for daemon, peer in ((one, two), (two, one)):
        remote = f"remote tcp4://127.0.0.1:{peer.port}"
        daemon.write_config({"disk1": remote, "disk2": remote}, inside=f"timeout {TIMEOUT_S}")
        (daemon.directory / "failover.conf").write_text("resources disk1 disk2\npool tank {}\n")
        assert daemon.hastctl("create", "disk1", "disk2").returncode == 0
        daemon.start()
    assert two.role("secondary", "disk1", "disk2")["error"] is None
    assert one.role("primary", "disk1", "disk2")["error"] is None
    made = Pair(one, two)
    made.wait_complete(one)
    try:
        yield made
    finally:
        for daemon in (one, two):
            print(daemon.log())
    for daemon in (one, two):
        assert "Traceback" not in daemon.log(), daemon.log()
        assert "Split-brain" not in daemon.log(), daemon.log()


def test_peer_may_take_over_at_once_after_an_ordered_stop_and_nothing_is_copied(pair: Pair) -> None:
    assert "failed" not in io(pair.one, "write -P 0x5a 0 1M").stdout
    assert pair.one.stop() == 0
    assert told(pair.two, "peer-left")
    began_s = time.monotonic()
    assert pair.two.role("primary", "disk1", "disk2")["error"] is None
    assert time.monotonic() - began_s < 3.0
    assert "failed" not in io(pair.two, "read -P 0x5a 0 1M").stdout
    pair.one.start()
    pair.one.role("secondary", "disk1", "disk2")
    pair.wait_complete(pair.two)
    assert not told(pair.two, "syncstart")


def begin_a_write_that_hangs(pair: Pair) -> threading.Thread:
    """Until `let_on`, so that a stop of the first node has something to wait for."""
    pair.hold_up()
    writing = threading.Thread(target=io, args=(pair.one, "write -P 0x77 0 64k"))
    writing.start()
    time.sleep(0.3)
    return writing


def test_host_that_stops_answers_its_peer_and_its_operator_until_it_has_let_go(pair: Pair) -> None:
    writing = begin_a_write_that_hangs(pair)
    pair.one.signal(signal.SIGTERM)
    wait_for(lambda: pair.one.status()["stopping"], "the stop")
    assert asked(pair.one) is PeerAnswer.PRIMARY

    def awaited() -> bool:
        reply = pair.one.ask({"command": "status", "resources": ["all"]})
        assert reply["stopping"]
        return any(text.startswith("disk1: ") for text in reply["awaited"])

    wait_for(awaited, "disk1 among what is awaited")
    refused = pair.one.role("primary", "disk2")
    assert "stopping" in str(refused["error"])
    pair.let_on()
    assert pair.one.process is not None
    assert pair.one.process.wait(20) == 0
    writing.join(10)


def test_takeover_that_is_asked_for_during_the_stop_waits_for_it(pair: Pair) -> None:
    writing = begin_a_write_that_hangs(pair)
    pair.one.signal(signal.SIGTERM)
    wait_for(lambda: pair.one.status()["stopping"], "the stop")
    threading.Timer(1.0, pair.let_on).start()
    assert pair.two.role("primary", "disk2", "disk1")["error"] is None
    assert pair.one.process is not None
    assert pair.one.process.wait(10) == 0
    writing.join(10)
    assert "failed" not in io(pair.two, "write -P 0x11 0 4k").stdout
    pair.one.start()
    pair.one.role("secondary", "disk1", "disk2")
    pair.wait_complete(pair.two)


@pytest.mark.slow
def test_host_that_dies_while_it_stops_is_waited_for_no_longer_than_it_told(pair: Pair) -> None:
    writing = begin_a_write_that_hangs(pair)
    worker, other = pair.one.status()["workerpid"], pair.one.status("disk2")["workerpid"]
    pair.one.signal(signal.SIGTERM)
    wait_for(lambda: pair.one.status()["stopping"], "the stop")
    pair.let_on()
    wait_for(lambda: told(pair.two, "peer-leaves"), "the word of it")
    assert pair.one.process is not None
    for pid in (pair.one.process.pid, worker, other):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    pair.one.process.wait(5)
    writing.join(10)
    began_s = time.monotonic()
    assert pair.two.role("primary", "disk1", "disk2")["error"] is None
    assert time.monotonic() - began_s < leave_limit_s(TIMEOUT_S) + 5.0


def test_secondary_that_stops_takes_no_new_connection_and_says_so_to_its_primary(pair: Pair) -> None:
    assert pair.two.stop() == 0
    wait_for(lambda: told(pair.one, "peer-stops"), "the word of it")
    assert pair.one.status()["not_connected"]["reason"] == "the peer stopped in order"
    assert "failed" not in io(pair.one, "write -P 0x12 0 4k").stdout
    pair.two.start()
    pair.two.role("secondary", "disk1", "disk2")
    pair.wait_complete(pair.one)
