"""Two real hastd on loopback with real workers and `device none`; needs no root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon, wait_for

QEMU_IO = shutil.which("qemu-io")
DATA_OFFSET = 4608
needs_qemu_io = pytest.mark.skipif(QEMU_IO is None, reason="qemu-io (package qemu-utils) is not installed")


class Pair:
    """Resource disk1; with the fixture `one` is primary and `two` secondary, connected and in step at first."""

    complete_s = 40.0
    """How long the copies may take to be in step."""

    def __init__(self, one: Daemon, two: Daemon) -> None:
        self.one, self.two = one, two

    def bring_up(self) -> None:
        """Create, start, give the roles, wait until the copies are in step."""
        for daemon in self.both:
            done = daemon.hastctl("create", "disk1")
            assert done.returncode == 0, done.stderr
            daemon.start()
        assert self.two.role("secondary")["error"] is None
        assert self.one.role("primary")["error"] is None
        self.wait_complete()

    def check_logs(self) -> None:
        """Nothing unforeseen happened."""
        for daemon in self.both:
            assert "Traceback" not in daemon.log()
            assert "Internal error" not in daemon.log(), daemon.log()

    @property
    def both(self) -> tuple[Daemon, Daemon]:
        return self.one, self.two

    def words(self) -> list[str]:
        return [str(daemon.status()["status"]) for daemon in self.both]

    def wait_complete(self, deadline_s: float | None = None) -> None:
        def complete() -> bool:
            states = [daemon.status() for daemon in self.both]
            return all(state["status"] == "complete" and state["dirty"] == 0 and not state["sync"] for state in states)

        wait_for(complete, "both nodes complete and in step", deadline_s or self.complete_s)

    def images(self) -> tuple[bytes, bytes]:
        """The two data areas."""
        first, second = ((daemon.directory / "disk1.img").read_bytes()[DATA_OFFSET:] for daemon in self.both)
        return first, second


def io(daemon: Daemon, *commands: str) -> None:
    """Run qemu-io commands on the NBD socket of a primary, which serves whether hastd lives or not."""
    assert QEMU_IO is not None
    argv = [QEMU_IO, "-f", "raw", *(part for command in commands for part in ("-c", command))]
    path = daemon.run_directory / "disk1.nbd"
    done = subprocess.run([*argv, f"nbd+unix:///?socket={path}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout.lower(), done.stdout


def told(daemon: Daemon, *names: str) -> list[dict[str, Any]]:
    """The events of these names, oldest first."""
    return [event for event in daemon.status()["history"] if event["event"] in names]


def problems(daemon: Daemon, kind: str) -> str:
    return " ".join(each["text"] for each in daemon.status()["problems"] if each["kind"] == kind)


@pytest.fixture
def pair(make_daemon: MakeDaemon) -> Iterator[Pair]:
    made = Pair(make_daemon(fake=False), make_daemon(fake=False))
    for daemon, other in (made.both, made.both[::-1]):
        exec_line = f"exec {daemon.write_hook()}"
        daemon.write_config({"disk1": f"remote tcp4://127.0.0.1:{other.port}"}, inside=f"timeout 5\n{exec_line}")
    made.bring_up()
    yield made
    made.check_logs()
