"""Those that are measured: each serves one replicated disk of the same size on an NBD socket."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hast.lab.loopback import LoopbackPair
from hast.lab.processes import LabError

SIZE_BYTES = 1 << 30
START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server. `close` ends it; `pids` are its processes, without those that they started."""

    name: str
    uri: str
    close: Callable[[], None]
    pids: tuple[int, ...]


def hast_pair(directory: Path, name: str = "hast", secure: bool = False, source: Path | None = None) -> Contestant:
    """Two hastd on loopback, fullsync, `device none`, files; `secure`: with TLS. Raises LabError."""
    pair = LoopbackPair(directory, size_bytes=SIZE_BYTES, secure=secure, source=source)

    def close() -> None:
        pair.one.stop()
        pair.two.stop()

    try:
        pair.bring_up()
    except LabError:
        close()
        raise
    return Contestant(name, pair.one.nbd_uri("disk1"), close, (pair.one.pid, pair.two.pid))


def hast_pair_with_tls(directory: Path) -> Contestant:
    """The same under TLS 1.3. Raises LabError."""
    return hast_pair(directory, "hast-tls", secure=True)


def hast_from(name: str) -> Callable[[Path], Contestant]:
    """`hast=FOLDER`: the pair over the package in another folder, a build or another commit's src/. Raises LabError."""
    source = Path(name.partition("=")[2]).resolve()
    if not (source / "hast" / "__init__.py").exists():
        raise LabError(f"{source} holds no package hast")
    return partial(hast_pair, name=name, source=source)


def qemu_quorum(directory: Path) -> Contestant:
    """qemu-storage-daemon: quorum of a file and of a file served by nbdkit over TCP; a write needs both. LabError."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    ready = directory / "replica.pid"
    command = ["nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", port, "--pidfile", str(ready), "file"]
    return _quorum("quorum", directory, command, ready, {"type": "inet", "host": "127.0.0.1", "port": port})


def qemu_quorum_unix(directory: Path) -> Contestant:
    """The same with the replica on a UNIX socket, which spares it the TCP that replication needs. Raises LabError."""
    replica = directory / "replica.sock"
    command = ["nbdkit", "--foreground", "--unix", str(replica), "file"]
    return _quorum("quorum-unix", directory, command, replica, {"type": "unix", "path": str(replica)})


def _quorum(name: str, directory: Path, replica_command: list[str], ready: Path, server: dict[str, str]) -> Contestant:
    local, remote = _file(directory, "local"), _file(directory, "remote")
    front = directory / "quorum.sock"
    programs = [_start([*replica_command, str(remote)], ready)]
    children = [
        {"driver": "file", "node-name": "local", "filename": str(local)},
        {"driver": "nbd", "node-name": "remote", "server": server},
        {
            "driver": "quorum",
            "node-name": "both",
            "children": ["local", "remote"],
            "vote-threshold": 2,
            "read-pattern": "fifo",
        },
    ]
    command = ["qemu-storage-daemon"]
    for child in children:
        command += ["--blockdev", json.dumps(child)]
    command += ["--nbd-server", f"addr.type=unix,addr.path={front}"]
    command += ["--export", "type=nbd,id=export,node-name=both,name=,writable=on"]
    try:
        programs.append(_start(command, front))
    except LabError:
        _end(programs)
        raise
    return _contestant(name, front, programs)


def nbdkit_single(directory: Path) -> Contestant:
    """nbdkit with one file: no replication, the ceiling of this machine. Raises LabError."""
    front = directory / "single.sock"
    disk = _file(directory, "single")
    programs = [_start(["nbdkit", "--foreground", "--unix", str(front), "file", str(disk)], front)]
    return _contestant("single", front, programs)


def _contestant(name: str, front: Path, programs: list[subprocess.Popen[bytes]]) -> Contestant:
    pids = tuple(program.pid for program in programs)
    return Contestant(name, f"nbd+unix:///?socket={front}", lambda: _end(programs), pids)


def _file(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.img"
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return path


def _start(command: Sequence[str], ready: Path) -> subprocess.Popen[bytes]:
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed (see packages.apt)") from None
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not ready.exists():
        if program.poll() is not None or time.monotonic() > deadline_s:
            _end([program])
            raise LabError(f"{command[0]} did not start: {ready} did not appear")
        time.sleep(0.05)
    return program


def _end(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    for program in reversed(programs):
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
