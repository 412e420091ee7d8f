"""Hosts in network namespaces on one bridge, for tests that need real sockets. Unique names; everything is undone, also
what a run that was killed left, by the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

_serial = itertools.count()
VIP = "10.10.10.180"
VIP6 = "fd00:10::180"
PYTHON = sys.executable


def run(*command: str, check: bool = True, deadline_s: float = 20.0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def wait_for(what: Callable[[], Any], deadline_s: float, text: str = "") -> float:
    """Wait until `what()` is true; the seconds it took. Fails at the deadline."""
    started = time.monotonic()
    while not what():
        took = time.monotonic() - started
        if took > deadline_s:
            raise AssertionError(f"{text or what} not within {deadline_s} s")
        time.sleep(0.02)
    return time.monotonic() - started


class Host:
    """One namespace with an interface `pub`; processes started here are killed at the end."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench = bench
        self.number = number
        self.namespace = f"{bench.prefix}h{number}"
        self.port = f"{bench.prefix}p{number}"
        self.address = f"10.10.10.{180 + number}"
        self.directory = bench.directory / f"h{number}"
        self.directory.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.carpd_process: subprocess.Popen[bytes] | None = None

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str, check: bool = True) -> str:
        return run(*self.command(*command), check=check)

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HAST_RUN": str(self.directory), "HAST_STATE": str(self.directory / "state")}
        with (self.directory / log).open("ab") as output:
            process = subprocess.Popen(
                self.command(*command), stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
            )
        self.processes.append(process)
        return process

    def carpd(self, config: str, *extra: str) -> subprocess.Popen[bytes]:
        path = self.directory / "carp.conf"
        path.write_text(config)
        self.carpd_process = self.start(
            PYTHON, "-m", "hast.cli.carpd", "-F", "-d", "-c", str(path), "-P", str(self.directory / "carpd.pid"),
            "-S", str(self.directory / "hastctl"), *extra, log="carpd.log",
        )  # fmt: skip
        wait_for(
            lambda: self.try_ask({"command": "status"}) is not None, 25, f"carpd of {self.namespace}: {self.log()}"
        )
        return self.carpd_process

    def log(self, name: str = "carpd.log") -> str:
        path = self.directory / name
        return path.read_text(errors="replace") if path.exists() else ""

    def try_ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self.ask(request)
        except (OSError, ValueError):
            return None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.connect() as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def connect(self) -> Any:
        import socket

        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5)
        try:
            sock.connect(str(self.directory / "carpd.sock"))
        except OSError:
            sock.close()
            raise
        return sock

    def carpctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "hast.cli.carpctl", "-s", str(self.directory / "carpd.sock"), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
        )

    def state(self, vhid: int = 1) -> str:
        return next(each["state"] for each in self.ask({"command": "status"})["vhids"] if each["vhid"] == vhid)

    def vhid(self) -> dict[str, Any]:
        return self.ask({"command": "status"})["vhids"][0]

    def has(self, address: str = VIP) -> bool:
        return f" {address}/" in self.run("ip", "addr", "show", "dev", "pub")

    def kill(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        process.send_signal(number)
        process.wait(10)

    def cable(self, plugged: bool) -> None:
        """Set the switch's side of the cable up or down."""
        run("ip", "-n", self.bench.switch, "link", "set", self.port, "up" if plugged else "down")


class Bench:
    """`hosts` hosts on one bridge."""

    def partition(self, cut: bool) -> None:
        """Keep the links up but let no host hear another."""
        for host in self.hosts:
            on = "on" if cut else "off"
            run("ip", "-n", self.switch, "link", "set", host.port, "type", "bridge_slave", "isolated", on)

    def __init__(self, hosts: int = 2) -> None:
        self.prefix = f"hc{os.getpid()}-{next(_serial)}"
        self.switch = f"{self.prefix}s"
        self.directory = Path(tempfile.mkdtemp(prefix="hast-carp-"))
        self.hosts: list[Host] = []
        self._count = hosts

    def __enter__(self) -> Bench:
        remove_orphans()
        try:
            run("ip", "netns", "add", self.switch)
            s = ("ip", "-n", self.switch)
            run(
                *s,
                "link",
                "add",
                "br-pub",
                "type",
                "bridge",
                "stp_state",
                "0",
                "forward_delay",
                "0",
                "mcast_snooping",
                "0",
            )
            run(*s, "link", "set", "br-pub", "up")
            for number in range(1, self._count + 1):
                host = Host(self, number)
                self.hosts.append(host)
                run("ip", "netns", "add", host.namespace)
                run(*s, "link", "add", host.port, "type", "veth", "peer", "name", "pub", "netns", host.namespace)
                run(*s, "link", "set", host.port, "master", "br-pub", "up")
                h = ("ip", "-n", host.namespace)
                run(*h, "link", "set", "lo", "up")
                run(*h, "addr", "add", f"{host.address}/24", "dev", "pub")
                run(*h, "link", "set", "pub", "up", "addrgenmode", "eui64")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self.hosts:
            for process in host.processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait(10)
            remove(host.namespace)
        remove(self.switch)
        shutil.rmtree(self.directory, ignore_errors=True)


def remove(namespace: str) -> None:
    """With all that runs in it; it need not exist."""
    for pid in run("ip", "netns", "pids", namespace, check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", namespace, check=False)


def remove_orphans() -> None:
    """What runs that were killed have left."""
    for line in run("ip", "netns", "list").splitlines():
        owner = re.match(r"(hc(\d+)-\d+[sh]\d*)\b", line)
        if owner and not Path("/proc", owner[2]).exists():
            remove(owner[1])


@contextlib.contextmanager
def bench(hosts: int = 2) -> Iterator[Bench]:
    with Bench(hosts) as made:
        yield made


def config(
    advskew: int = 0, preempt: bool = False, password: str = "secretpw", extra: str = "", v6: bool = False
) -> str:
    second = f"address {VIP6}/64\n" if v6 else ""
    return f"""
interface pub
pass {password}
vhid 1 {{
    name carp0
    advbase 1
    advskew {advskew}
    preempt {"on" if preempt else "off"}
    address {VIP}/24
    {second}{extra}
}}
"""
