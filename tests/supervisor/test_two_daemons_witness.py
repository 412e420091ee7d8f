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
    socket = daemon.status()["nbd_socket"]
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
    assert two.process is not None
    two.process.kill()
    two.process.wait(5)
    assert writer(one, "0x11").wait(30) == 0
    state = (one.directory / "witness.json").read_text()
    assert '"sole": "' in state
    two.start()
    two.role("secondary")
    wait_for(lambda: one.status()["status"] == "complete" and one.status()["dirty"] == 0, "resync", 40)
    wait_for(lambda: '"sole": ""' in (one.directory / "witness.json").read_text(), "record removed", 20)


def test_primary_that_reaches_neither_side_holds_writes_and_then_steps_down(
    trio: tuple[Daemon, Daemon, WitnessProcess],
) -> None:
    one, two, witness = trio
    assert witness.process is not None
    witness.process.send_signal(signal.SIGSTOP)
    assert two.process is not None
    two.process.kill()
    two.process.wait(5)
    write = writer(one, "0x22")
    time.sleep(6)
    assert write.poll() is None, "a write was acknowledged alone"
    wait_for(lambda: one.status()["role"] != "primary", "stepping down", 60)
    write.kill()
    write.wait(5)
