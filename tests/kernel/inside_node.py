"""Inside the virtual machine: hastd as a node of its own, and what the stories share. Imported, not run.

Two nodes in one machine differ in their address, directories and configuration; both are `on machine`.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hast.cli.client import ControlClient

PATIENCE_S = 120.0
POLL_S = 0.3
PROBE_STEP_S = 0.05
"""Leaves an emulated machine time for everything else."""
COMMAND_S = 300.0
MOST_PAUSE_S = 30.0

_began = time.monotonic()


def step(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.2f}] {text}", flush=True)


def run(*words: str, timeout_s: float = COMMAND_S, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def until(what: str, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited in vain for {what}"
        time.sleep(POLL_S)


def processes(title: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().rstrip("\0").replace("\0", " ")
            except OSError:
                continue
            if words.startswith(title):
                found.append(int(entry.name))
    return found


def standbys_wait() -> None:
    """None is being started any more: on a busy host that takes an emulated machine longer than anything is allowed."""
    before: list[int] = []

    def waiting() -> bool:
        nonlocal before
        now, starting = processes("hastd: standby"), processes(f"{sys.executable} -P -m hast.supervisor.standby")
        settled, before = bool(now) and now == before and not starting, now
        return settled

    until("standbys", waiting, 2 * PATIENCE_S)


def sleepers(title: str) -> str:
    """Where in the kernel the threads of these processes sleep, for a story that failed."""
    lines = []
    for pid in processes(title):
        lines.append(f"{pid}: {Path('/proc', str(pid), 'cmdline').read_bytes().decode(errors='replace')}")
        for task in Path("/proc", str(pid), "task").iterdir():
            stack = (task / "stack").read_text().split("\n")
            frames = [line.split()[-1].partition("+")[0] for line in stack if line.strip()]
            lines.append(f"  {task.name} {(task / 'comm').read_text().strip()}: {' < '.join(frames[:12])}")
    return "\n".join(lines)


def device_gone(node: str) -> bool:
    size = Path("/sys/block", Path(node).name, "size")
    return not size.exists() or size.read_text().strip() == "0"


class Node:
    """One hastd, started in the foreground."""

    def __init__(self, number: int, configuration: str) -> None:
        self.directory = Path(f"/tmp/node{number}")
        self.devices = Path("/dev/hast" if number == 1 else f"/dev/hast{number}")
        self._control = self.directory / "hastctl"
        self._configuration = self.directory / "hast.conf"
        self._log = self.directory / "hastd.log"
        self.environment = {
            **os.environ,
            "HAST_RUN": str(self.directory / "run"),
            "HAST_DEV": str(self.devices),
            "HAST_STATE": str(self.directory / "state"),
        }
        self.directory.mkdir()
        files = f"control {self._control}\npidfile {self.directory}/hastd.pid\n"
        self._configuration.write_text(files + configuration)
        self._hastd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "hast.cli.hastd", "-F", "-c", str(self._configuration)]
        with self._log.open("ab") as file:
            self._hastd = subprocess.Popen(words, stdout=file, stderr=file, env=self.environment)
        until("hastd", self._answers)

    def kill(self) -> None:
        """kill -9 of the supervisor."""
        assert self._hastd is not None
        self._hastd.kill()
        self._hastd.wait()

    def stop(self) -> None:
        assert self._hastd is not None
        self._hastd.terminate()
        assert self._hastd.wait(PATIENCE_S) == 0, self.log()

    def reconfigure(self, old: str, new: str) -> None:
        self._configuration.write_text(self._configuration.read_text().replace(old, new))
        self.hastctl("reload")

    def hastctl(self, verb: str, *words: str) -> str:
        program = [sys.executable, "-m", "hast.cli.hastctl", verb, "-c", str(self._configuration), *words]
        return run(*program, environment=self.environment)

    def status(self, *resources: str) -> dict[str, dict[str, object]]:
        """Asked without hastctl: an emulated machine takes seconds to start an interpreter."""
        request = {"command": "status", "resources": list(resources) or ["all"], "fresh": True}
        found = ControlClient(str(self._control)).ask(request, COMMAND_S)["resources"]
        return {str(entry["name"]): dict(entry) for entry in found}

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self._control))
            except OSError:
                return False
        return True


class Prober:
    """Writes and reads one block of a file without end; notes each pause."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(4096))
        os.sync()
        self._notes = Path(f"/tmp/pauses.{time.monotonic_ns()}")
        with self._notes.open("wb") as file:
            words = [sys.executable, "-m", "hast.lab.pauses", str(path), "0", "write", str(PROBE_STEP_S)]
            self._running = subprocess.Popen(words, stdout=file, stderr=subprocess.PIPE, text=True)

    def check(self) -> None:
        assert self._running.poll() is None, self._running.communicate()

    def pauses(self) -> list[tuple[float, float]]:
        """The pauses that are over, as (moment, seconds)."""
        lines = self._notes.read_text().splitlines()
        return [(float(at), float(took)) for at, took in map(str.split, lines)]

    def end(self) -> list[tuple[float, float]]:
        self.check()
        self._running.kill()
        self._running.wait()
        return self.pauses()


def longest_pauses(struck: Sequence[float], pauses: Sequence[tuple[float, float]], end_s: float) -> list[float]:
    """The longest pause after each strike."""
    ends = [*struck[1:], end_s]
    return [
        max((took for at, took in pauses if began - took <= at < end), default=0.0)
        for began, end in zip(struck, ends, strict=True)
    ]


def tell(what: str, struck: Sequence[float], pauses: Sequence[tuple[float, float]], end_s: float) -> None:
    """The longest pause after each strike, in machine time: this machine is an emulated one."""
    longest = longest_pauses(struck, pauses, end_s)
    median_s, most_s = statistics.median(longest), max(longest)
    assert most_s < MOST_PAUSE_S, f"{what}: a pause of {most_s:.2f} s"
    step(f"{what}: {len(struck)} times, longest pause median {median_s:.2f} s, most {most_s:.2f} s")
