"""Two hastd on this machine's loopback address, for those without root: files as disks, NBD sockets as devices.

Each node has a directory of its own with its configuration, control socket, run directory, disks and log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from hast.daemon.asking import ask
from hast.daemon.conversation import ConversationError
from hast.lab.processes import LabError, bound, wait_until

START_TIMEOUT_S = 20.0
PEER = "the-other-node"
STOP_TIMEOUT_S = 20.0


class Node:
    """One hastd of the pair."""

    def __init__(self, name: str, directory: Path, port: int, peer_port: int, disks: Sequence[str]) -> None:
        self.name = name
        self.directory = directory
        self.port = port
        self.peer_port = peer_port
        self.disk_names = tuple(disks)
        self.configuration = directory / "hast.conf"
        self.keys = self.peer_section = ""
        self.source: Path | None = None
        """Where the package lies that this node runs; None: where this process has it from."""
        self.programs: Path | None = None
        """A folder whose hastd and hastctl this node runs; None: those of this process."""
        self._daemon: subprocess.Popen[bytes] | None = None
        (directory / "run").mkdir(parents=True)

    def write_configuration(self, size_bytes: int, extra: str = "") -> None:
        """Write hast.conf and make the disk files. `extra` goes into every resource."""
        lines = [
            self.keys,
            f"control {self.directory}/run/hastctl",
            f"pidfile {self.directory}/run/hastd.pid",
            f"listen tcp4://127.0.0.1:{self.port}",
        ]
        for disk in self.disk_names:
            path = self.disk_file(disk)
            with path.open("ab") as file:
                file.truncate(size_bytes)
            lines.append(
                f"resource {disk} {{\n\tdevice none\n{extra}\ton {socket.gethostname()} {{\n"
                f"\t\tlocal {path}\n\t\tremote tcp4://127.0.0.1:{self.peer_port}\n\t}}\n{self.peer_section}}}"
            )
        self.configuration.write_text("\n".join(lines) + "\n")

    def make_key(self) -> str:
        """hastctl keygen; the fingerprint of this node. Raises LabError."""
        self.hastctl("keygen")
        return self.hastctl("keygen", "--show").split()[0]

    def know(self, own: str, peer: str) -> None:
        """Both fingerprints, for the configuration that is written next."""
        self.keys = f"on {socket.gethostname()} {{ fingerprint {own} }}\non {PEER} {{ fingerprint {peer} }}"
        self.peer_section = f"\ton {PEER} {{\n\t\tlocal /dev/null\n\t\tremote none\n\t}}\n"

    def disk_file(self, disk: str) -> Path:
        return self.directory / f"{disk}.img"

    def nbd_socket(self, disk: str) -> Path:
        """Where the primary serves NBD."""
        return self.directory / "run" / f"{disk}.nbd"

    def nbd_uri(self, disk: str) -> str:
        return f"nbd+unix:///?socket={self.nbd_socket(disk)}"

    @property
    def environment(self) -> dict[str, str]:
        """For every program of this node."""
        programs = f"{self.programs or Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        run = str(self.directory / "run")
        source = {"PYTHONPATH": str(self.source)} if self.source is not None else {}
        places = {"HAST_RUN": run, "HAST_DEV": f"{run}/dev", "HAST_STATE": f"{run}/state"}
        return {**os.environ, "PATH": programs, **places, **source}

    def start(self) -> None:
        """Start hastd in the foreground and wait until it answers. It stops, and its workers with it, when this process
        ends. Raises LabError."""
        with (self.directory / "hastd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*bound("TERM"), "hastd", "-F", "-c", str(self.configuration)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in wait_until(f"hastd of {self.name}", START_TIMEOUT_S):
            if self._daemon.poll() is not None:
                raise LabError(f"hastd of {self.name} ended: {self.log()[-2000:]}")
            if self._answers():
                return

    def _answers(self) -> bool:
        path = str(self.directory / "run" / "hastctl")
        try:
            return asyncio.run(ask(path, {"command": "version"}, START_TIMEOUT_S, START_TIMEOUT_S)) is not None
        except (OSError, ConversationError, ValueError):
            return False

    @property
    def pid(self) -> int:
        """Of hastd. Raises LabError where it was not started."""
        if self._daemon is None:
            raise LabError(f"hastd of {self.name} does not run")
        return self._daemon.pid

    def hastctl(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run hastctl; returns what it printed. Raises LabError unless it exits 0."""
        done = self.run(["hastctl", arguments[0], "-c", str(self.configuration), *arguments[1:]], timeout_s)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise LabError(f"{self.name}: hastctl {' '.join(arguments)}: exit {done.returncode}: {said}")
        return done.stdout

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in this node's environment. Raises LabError on timeout."""
        try:
            return subprocess.run(
                argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: {' '.join(argv)}: no end after {timeout_s:g} s") from None

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float) -> float:
        """Wait until the condition holds; returns the seconds it took. Raises LabError after `timeout_s`."""
        start_s = time.monotonic()
        for _ in wait_until(f"{what} on {self.name}", timeout_s):
            if condition():
                break
        return time.monotonic() - start_s

    def log(self) -> str:
        path = self.directory / "hastd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """kill -9 of the daemon and its workers."""
        if self._daemon is None:
            return
        daemon, self._daemon = self._daemon, None
        for pid in (*_descendants(daemon.pid), daemon.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        daemon.wait()

    def stop(self) -> None:
        """End the daemon in order; kill it if it does not end."""
        if self._daemon is None:
            return
        self._daemon.terminate()
        try:
            self._daemon.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()


class LoopbackPair:
    """Nodes `one` and `two` in `directory`, not started. On exit both are stopped; the directory stays."""

    def __init__(
        self,
        directory: Path,
        disks: Sequence[str] = ("disk1",),
        size_bytes: int = 256 << 20,
        extra: str = "",
        secure: bool = False,
        source: Path | None = None,
        programs: Path | None = None,
        through: Callable[[int], int] = lambda port: port,
    ) -> None:
        """`secure`: with keys, and so with TLS between them. `source`, `programs`: see Node. `through`: for the port of
        a node, that by which the other one reaches it, where something lies in between."""
        ports = free_ports(2)
        self.one = Node("node1", directory / "node1", ports[0], through(ports[1]), disks)
        self.two = Node("node2", directory / "node2", ports[1], through(ports[0]), disks)
        for node in (self.one, self.two):
            node.source, node.programs = source, programs
            node.write_configuration(size_bytes, extra)
        if secure:
            first, second = self.one.make_key(), self.two.make_key()
            self.one.know(first, second)
            self.two.know(second, first)
            for node in (self.one, self.two):
                node.write_configuration(size_bytes, extra)

    def __enter__(self) -> LoopbackPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.one.stop()
        self.two.stop()

    def bring_up(self, timeout_s: float = 60.0) -> None:
        """Start both, create all disks, make node1 primary and wait for `complete`. Raises LabError."""
        for node in (self.one, self.two):
            node.start()
            node.hastctl("create", *node.disk_names)
        self.two.hastctl("role", "secondary", "all")
        self.one.hastctl("role", "primary", "all")
        wanted = len(self.one.disk_names)
        self.one.wait_for("status: complete", lambda: status_count(self.one) == wanted, timeout_s)


def status_count(node: Node, word: str = "status: complete") -> int:
    """How many resources of a node show this line."""
    return node.hastctl("status").count(word)


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(grandchild for child in children for grandchild in _descendants(child))]
