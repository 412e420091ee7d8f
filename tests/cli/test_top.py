"""hastctl top on a real terminal: keys, plans, the end of hastd, and the terminal as it was afterwards. No root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from daemon_fixtures import MakeDaemon

from daemon import Daemon

LEAVE = b"\x1b[?1049l"
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """hastctl top in a pseudo-terminal of 80 by 24."""

    def __init__(self, daemon: Daemon) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave: int | None = slave
        environment = daemon.environment | {"TERM": "xterm", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "hast.cli.hastctl", "-c", str(daemon.config), "top"]
        self.process = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave)
        self.seen = b""

    def until(self, text: str, limit_s: float = 30.0) -> None:
        """Wait until this is drawn after what was waited for before."""
        until_s = time.monotonic() + limit_s
        while text not in (plain := CONTROL.sub(b"", self.seen).decode(errors="replace")):
            left_s = until_s - time.monotonic()
            assert left_s > 0, f"no {text!r} in {plain[-3000:]}"
            if select.select([self.master], [], [], left_s)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = b""

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Exit code; reads what is drawn meanwhile."""
        until_s = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < until_s:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0.05)[0]:
            self.seen += os.read(self.master, 65536)
        return self.process.wait(1)

    def close(self) -> None:
        for descriptor in (self.master, self.slave):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)


@pytest.fixture
def screen(make_daemon: MakeDaemon) -> Iterator[tuple[Screen, Daemon]]:
    daemon = make_daemon({"disk1": "remote none", "disk2": "remote none"}).start()
    made = Screen(daemon)
    yield made, daemon
    made.close()


def test_top_shows_plans_asks_survives_hastd_and_leaves_the_terminal_as_it_was(screen: tuple[Screen, Daemon]) -> None:
    top, daemon = screen
    top.until("> disk1")
    top.type("\x1b[B")
    top.until("> disk2")
    top.type("d")
    top.until("would be refused: Resource disk2 has role init")
    top.type("x")
    assert daemon.role("primary", "disk2")["error"] is None
    top.until("> disk2         primary")
    top.type("s")
    top.until("the plan of: failover leave")
    top.until("no other host is told to take over")
    top.type("y")
    top.until("> disk2         primary")
    top.type("d")
    top.until("do this?")
    top.type("n")
    top.until("> disk2")
    assert daemon.status("disk2")["role"] == "primary"
    assert daemon.status("disk2")["problems"] == []
    daemon.stop()
    top.until("is it running?")
    daemon.start()
    top.until("> disk")
    top.type("q")
    assert top.ended() == 0
    assert LEAVE in top.seen
    assert b"Traceback" not in top.seen
    assert top.slave is not None
    assert termios.tcgetattr(top.slave) == top.before


@pytest.mark.slow
def test_a_signal_ends_top_with_the_terminal_as_it_was(screen: tuple[Screen, Daemon]) -> None:
    top, _daemon = screen
    top.until("disk1")
    top.process.send_signal(signal.SIGTERM)
    assert top.ended() == 0
    assert LEAVE in top.seen
    assert top.slave is not None
    assert termios.tcgetattr(top.slave) == top.before


@pytest.mark.slow
def test_a_closed_terminal_ends_top(screen: tuple[Screen, Daemon]) -> None:
    top, _daemon = screen
    top.until("disk1")
    assert top.slave is not None
    os.close(top.slave)
    top.slave = None
    os.close(top.master)
    top.master = -1
    top.process.wait(20)


def test_one_frame_goes_to_a_pipe_without_control_characters(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    done = daemon.hastctl("top", "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "disk1" in done.stdout
    assert "\x1b" not in done.stdout
    daemon.stop()
    assert "is it running?" in daemon.hastctl("top").stdout
