"""A real hastd in a directory of its own, for tests; by default with fake workers (fake_worker.py) that obey files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hast.cli.client import ControlClient
from hast.lab.processes import bound

HERE = Path(__file__).parent
START_S = 20.0
DIES_WITH_THE_TESTS = tuple(bound())
"""A run of tests that is killed undoes nothing: the kernel ends what it has started."""


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 10.0) -> Any:
    """The first true value of `condition()`; fails after the deadline."""
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"{what}: not within {deadline_s} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Daemon:
    """hastd -F with its own run directory, control socket and port. Stop it with `stop` (the fixture does)."""

    def __init__(self, directory: Path, resources: dict[str, str] | None = None, fake: bool = True) -> None:
        self.directory = directory
        self.port = free_port()
        self.config = directory / "hast.conf"
        self.log_path = directory / "log"
        self.run_directory = directory / "run"
        self.hook_log = directory / "hooks"
        self.fake = fake
        self.process: subprocess.Popen[bytes] | None = None
        self.environment_more: dict[str, str] = {}
        directory.mkdir(exist_ok=True)
        (directory / "orders").mkdir(exist_ok=True)
        self.write_config(resources or {"disk1": "remote none"})

    def write_config(self, resources: dict[str, str], head: str = "", inside: str = "", listen: str = "") -> None:
        """`resources`: name to the lines of its `on` section; `inside` goes into every resource."""
        lines = [f"control {self.directory}/ctl", f"pidfile {self.directory}/pid"]
        lines.append(listen or f"listen tcp4://127.0.0.1:{self.port}")
        lines.append(head)
        for name, lines_of_node in resources.items():
            disk = self.directory / f"{name}.img"
            if "local " not in lines_of_node and not disk.exists():
                with disk.open("wb") as file:
                    file.truncate(16 << 20)
            local = "" if "local " in inside or "local " in lines_of_node else f"local {disk}"
            lines.append(f"resource {name} {{\n device none\n {local}\n {inside}")
            lines.append(f" on {socket.gethostname()} {{ {lines_of_node} }}\n}}")
        self.config.write_text("\n".join(lines) + "\n")

    def write_hook(self, body: str = "") -> str:
        """An executable hook that notes its arguments, then runs `body`. Returns its path."""
        path = self.directory / "hook"
        path.write_text(f'#!/bin/sh\necho "$@" >> {self.hook_log}\n{body}\n')
        path.chmod(0o755)
        return str(path)

    def hooks(self) -> list[str]:
        return self.hook_log.read_text().splitlines() if self.hook_log.exists() else []

    def order(self, name: str, **orders: Any) -> None:
        """What the fake worker of this resource does from its next start on."""
        path = self.directory / "orders" / name
        path.with_suffix(".new").write_text(json.dumps(orders))
        path.with_suffix(".new").replace(path)

    @property
    def environment(self) -> dict[str, str]:
        environment = {**os.environ, "HAST_RUN": str(self.run_directory), "HAST_DEV": str(self.directory / "dev")}
        environment["HAST_STATE"] = str(self.directory / "state")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
        if self.fake:
            environment |= {"HAST_WORKER_MODULE": "fake_worker", "PYTHONPATH": str(HERE)}
            environment["FAKE_WORKER_ORDERS"] = str(self.directory / "orders")
        return environment | self.environment_more

    def start(self, *arguments: str) -> Daemon:
        self.process = self.spawn(*arguments)
        self.wait_serving()
        return self

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The process alone, which may well refuse to serve."""
        options = ("-F", "-d", "-c", str(self.config))
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*DIES_WITH_THE_TESTS, sys.executable, "-m", "hast.cli.hastd", *options, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def wait_serving(self) -> None:
        def serving() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            try:
                return bool(self.ask({"command": "version"}))
            except Exception:
                return False

        wait_for(serving, "hastd to serve", START_S)

    @property
    def client(self) -> ControlClient:
        return ControlClient(str(self.directory / "ctl"))

    def ask(self, request: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        return self.client.ask(request, timeout_s)

    def role(self, role: str, *names: str, **more: Any) -> dict[str, Any]:
        """Change a role; the first resource's result."""
        request = {"command": "role", "role": role, "resources": list(names) or ["disk1"], **more}
        result: dict[str, Any] = self.ask(request)["resources"][0]
        return result

    def status(self, name: str = "disk1") -> dict[str, Any]:
        found: dict[str, Any] = self.ask({"command": "status", "resources": [name]})["resources"][0]
        return found

    def hastctl(self, command: str, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hast.cli.hastctl", command, "-c", str(self.config), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def events(self) -> Iterator[dict[str, Any]]:
        return self.client.events(0)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9 of hastd alone; its workers live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)

    def workers(self) -> list[int]:
        """Process ids on record in its run directory that are alive."""
        texts = [path.read_text().split() for path in self.run_directory.glob("*.worker")]
        return [int(words[0]) for words in texts if words and alive(int(words[0]))]

    def die(self) -> None:
        """kill -9 of hastd and its workers, as when the host dies."""
        workers = self.workers()
        self.kill()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for pid in workers:
            wait_for(lambda pid=pid: not alive(pid), "a worker's end")  # type: ignore[misc]

    def end_orphans(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def stop(self, deadline_s: float = 30.0) -> int | None:
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
                raise
        return self.process.returncode
