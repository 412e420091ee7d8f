"""Two real hastd and a real witness on loopback: never two primaries, and nobody goes on alone without leave (S11)."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, free_port, wait_for
from hast.election.arbiter import LEASE_TTL_S

QEMU_IO = shutil.which("qemu-io")
pytestmark = [
    pytest.mark.skipif(QEMU_IO is None, reason="qemu-io (package qemu-utils) is not installed"),
    pytest.mark.timeout(180),
]


class WitnessProcess:
    """hast-witness in the foreground."""

    def __init__(self, daemon: Daemon) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", "hast.cli.hast_witness", "-F", "-l", f"tcp4://127.0.0.1:{self.port}"]
        self._command += ["-f", str(daemon.directory / "witness.json"), "-P", str(daemon.directory / "witness.pid")]
        self._log = daemon.directory / "witness.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(10)


def writer(daemon: Daemon, pattern: str) -> subprocess.Popen[bytes]:
    assert QEMU_IO is not None
    socket = daemon.run_directory / "disk1.nbd"
    command = [QEMU_IO, "-f", "raw", "-c", f"write -P {pattern} 0 64k", f"nbd+unix:///?socket={socket}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def trio(make_daemon: MakeDaemon) -> Iterator[tuple[Daemon, Daemon, WitnessProcess]]:
    one, two = make_daemon(fake=False), make_daemon(fake=False)
    witness = WitnessProcess(one)
    witness.start()
    for daemon, peer in ((one, two), (two, one)):
        inside = f"timeout 5 wait-for-peer 1 arbiter witness tcp4://127.0.0.1:{witness.port}"
        daemon.write_config({"disk1": f"remote tcp4://127.0.0.1:{peer.port}"}, inside=inside)
        assert daemon.hastctl("create", "disk1").returncode == 0
        daemon.start()
    assert two.role("secondary")["error"] is None
    assert one.role("primary")["error"] is None
    wait_for(lambda: one.status()["status"] == "complete", "connection", 20)
    yield one, two, witness
    witness.stop()


def test_lone_primary_goes_on_with_the_leave_of_the_witness(trio: tuple[Daemon, Daemon, WitnessProcess]) -> None:
    one, two, _witness = trio
    two.die()
    assert writer(one, "0x11").wait(30) == 0
    state = (one.directory / "witness.json").read_text()
    assert '"sole": "' in state
    two.start()
    two.role("secondary")
    wait_for(lambda: one.status()["status"] == "complete" and one.status()["dirty"] == 0, "resync", 40)
    wait_for(lambda: '"sole": ""' in (one.directory / "witness.json").read_text(), "record removed", 20)


@pytest.mark.slow
def test_primary_that_reaches_neither_side_holds_writes_and_then_steps_down(
    trio: tuple[Daemon, Daemon, WitnessProcess],
) -> None:
    one, two, witness = trio
    assert witness.process is not None
    witness.process.send_signal(signal.SIGSTOP)
    two.die()
    write = writer(one, "0x22")
    time.sleep(6)
    assert write.poll() is None, "a write was acknowledged alone"
    wait_for(lambda: one.status()["role"] != "primary", "stepping down", 60)
    write.kill()
    write.wait(5)


def test_s11_lone_primary_without_hastd_holds_writes_when_its_lease_has_ended_and_goes_on_with_the_next_hastd(
    trio: tuple[Daemon, Daemon, WitnessProcess],
) -> None:
    one, two, _witness = trio
    two.die()
    assert writer(one, "0x11").wait(30) == 0
    worker = one.status()["workerpid"]
    one.kill()
    time.sleep(LEASE_TTL_S + 0.7)
    write = writer(one, "0x33")
    time.sleep(1.5)
    assert write.poll() is None, "a write was acknowledged alone, and nobody renewed the lease"
    one.start()
    assert write.wait(20) == 0
    assert one.status()["workerpid"] == worker
    assert '"sole": "' in (one.directory / "witness.json").read_text()
    two.start()
    wait_for(lambda: one.status()["status"] == "complete" and one.status()["dirty"] == 0, "resync", 40)
    wait_for(lambda: '"sole": ""' in (one.directory / "witness.json").read_text(), "record removed", 20)


@pytest.mark.slow
def test_connected_primary_without_hastd_needs_no_lease_and_asks_before_it_goes_alone(
    trio: tuple[Daemon, Daemon, WitnessProcess],
) -> None:
    one, two, _witness = trio
    one.kill()
    time.sleep(LEASE_TTL_S + 0.5)
    assert writer(one, "0x44").wait(20) == 0
    two.die()
    write = writer(one, "0x55")
    time.sleep(6.5)
    assert write.poll() is None, "nobody was asked"
    one.start()
    assert write.wait(20) == 0
    assert '"sole": "' in (one.directory / "witness.json").read_text()


@pytest.mark.slow
def test_a_witness_that_is_silent_while_both_are_connected_is_told_and_so_is_its_return(
    trio: tuple[Daemon, Daemon, WitnessProcess],
) -> None:
    one, _two, witness = trio
    assert witness.process is not None

    def heard() -> list[str]:
        return [each["event"] for each in one.status()["history"] if each["event"].startswith("arbiter-")]

    assert heard() == []
    witness.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: heard() == ["arbiter-lost"], "the loss to be told", 30)
    assert writer(one, "0x66").wait(20) == 0, "a connected pair does not need it"
    witness.process.send_signal(signal.SIGCONT)
    wait_for(lambda: heard() == ["arbiter-lost", "arbiter-back"], "its return to be told", 30)
