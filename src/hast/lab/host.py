"""One lab host: power, programs, processes, files, its cables.

A host is a set of namespaces (network, mount, UTS, IPC, process ids) around one process (`hast.lab.init`), which ends
when the process that made the lab ends, and takes everything in the host with it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hast.lab.network import NETWORKS, Cable, Switch
from hast.lab.processes import LabError, Running, enter, wait_until

__all__ = ["Host", "HostProcess", "LabError", "Running"]

NAMESPACES = ("mount", "uts", "ipc", "net", "pid")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A process of a host: its id as seen by the machine, and its command line or title."""

    pid: int
    title: str

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it, quietly if it has ended."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What a host is made of. `addresses` are last octets by network name; `disks` device numbers by name."""

    name: str
    hostname: str
    addresses: Mapping[str, int]
    etc: Mapping[str, str]
    disks: Mapping[str, int]
    state: Path
    sealed: bool = False
    """The machine's directories are read-only, and its devices are not there."""


class Host:
    """A host that can be switched on and off. Everything has a deadline; nothing outlives `power_off`."""

    def __init__(self, plan: HostPlan, switch: Switch) -> None:
        self.plan = plan
        self.name = plan.name
        self.disks = tuple(f"/dev/{name}" for name in plan.disks)
        self._switch = switch
        self._init: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._running: list[Running] = []

    def power_on(self) -> None:
        """Make the namespaces and connect the cables. Raises LabError."""
        root = self.plan.state / "root"
        root.mkdir(parents=True, exist_ok=True)
        plan = {
            "hostname": self.plan.hostname,
            "state": str(self.plan.state),
            "etc": dict(self.plan.etc),
            "disks": dict(self.plan.disks),
            "visible": _visible(),
            "root": str(root),
            "sealed": self.plan.sealed,
        }
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"]
        with (self.plan.state / "init.log").open("ab") as log:
            self._init = subprocess.Popen(
                [*unshare, "--propagation", "private", sys.executable, "-m", "hast.lab.init"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        self._init.stdin.write(json.dumps(plan).encode() + b"\n")
        self._init.stdin.flush()
        if self._init.stdout.readline() != b"ready\n":
            said = (self.plan.state / "init.log").read_text()[-2000:].strip()
            self.power_off()
            raise LabError(f"host {self.name} does not start: {said or 'no message'}")
        self._pid = _only_child(self._init.pid)
        self.run(["ip", "link", "set", "lo", "up"], check=True)
        for network, last in self.plan.addresses.items():
            self._switch.connect(self.name, self._pid, NETWORKS[network], last)

    @property
    def is_on(self) -> bool:
        return self._init is not None

    def power_off(self) -> None:
        """A power cut: everything on the host is killed at once; what is in page cache is the disk's and stays."""
        if self._init is None:
            return
        init, self._init = self._init, None
        assert init.stdin is not None
        assert init.stdout is not None
        init.stdin.close()
        try:
            init.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            init.kill()
            init.wait()
        init.stdout.close()
        self._switch.disconnect(self.name)
        for running in self._running:
            running.close()
        self._running.clear()
        self._pid = 0

    def kill_all(self) -> None:
        """kill -9 of every process on the host; the host itself stays up."""
        self.run(["sh", "-c", "kill -9 -1"], timeout_s=STOP_TIMEOUT_S)
        for _ in wait_until(f"the end of all processes of {self.name}", STOP_TIMEOUT_S):
            if not self.processes():
                break

    def run(
        self,
        command: str | Sequence[str],
        timeout_s: float = 30.0,
        check: bool = False,
        text: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a string is split as a shell would. Raises LabError on timeout, and if `check`."""
        running = self.spawn(command, text=text, environment=environment)
        try:
            done = running.wait(timeout_s)
        finally:
            running.close()
            self._running.remove(running)
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise LabError(f"{self.name}# {shlex.join(running.argv)}: exit {done.returncode}: {said}")
        return done

    def spawn(
        self, command: str | Sequence[str], text: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start a command; it is killed at the latest when the host is switched off."""
        if self._init is None:
            raise LabError(f"host {self.name} is off")
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        running = Running(enter(self._pid, NAMESPACES), argv, {**_environment(), **(environment or {})}, text)
        self._running.append(running)
        return running

    def processes(self, pattern: str = "") -> list[HostProcess]:
        """Processes of this host (without process 1) whose title or command line matches, as `pgrep -f` would."""
        if self._init is None:
            return []
        mine = os.stat(f"/proc/{self._pid}/ns/pid").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self._pid:
                continue
            try:
                if (entry / "ns/pid").stat().st_ino != mine:
                    continue
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if title and re.search(pattern, title):
                found.append(HostProcess(int(entry.name), title))
        return sorted(found, key=lambda process: process.pid)

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float) -> float:
        """Wait until the condition holds; returns the seconds it took. Raises LabError after `timeout_s`."""
        start_s = time.monotonic()
        for _ in wait_until(f"{what} on {self.name}", timeout_s):
            if condition():
                break
        return time.monotonic() - start_s

    def path(self, inside: str) -> Path:
        """Where a file of this host's own directories (/run, /dev, /etc, /var, /) is seen from outside."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def log(self) -> str:
        """The host's /var/log/debug.log so far."""
        path = self.plan.state / "var/log/debug.log"
        return path.read_text() if path.exists() else ""

    def timeline(self) -> list[tuple[float, str]]:
        """The same lines, `host tag: text`, each with the monotonic clock's seconds, which all hosts share."""
        path = self.plan.state / "var/log/timeline.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(at), text) for at, _, text in (line.partition(" ") for line in lines if " " in line)]

    def cable(self, network: str) -> Cable:
        """The host's cable to a network."""
        return self._switch.cable(self.name, network)


def _environment() -> dict[str, str]:
    programs = f"{Path(sys.prefix) / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    users = {name: os.environ[name] for name in ("HAST_USER", "HAST_DEVD_USER") if name in os.environ}
    return {"PATH": programs, "HOME": "/root", "LANG": "C.UTF-8", "TZ": os.environ.get("TZ", "UTC")} | users


def _visible() -> list[str]:
    """Machine directories that a host must see wherever they are: this package, its Python, the work directory."""
    source = Path(__file__).resolve().parents[2]
    return [str(path) for path in (source, Path(sys.prefix), Path(sys.base_prefix), Path.cwd())]


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
