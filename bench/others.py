"""Contestants that are not ours: the floor in C, qemu's quorum, and one copy alone; the latter also past the cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.contestant import SIZE_BYTES, Contestant
from hast.lab.loopback import free_ports
from hast.lab.processes import LabError, bound

START_TIMEOUT_S = 20.0
COMPILE_TIMEOUT_S = 60.0
CACHED = {"driver": "file"}
DIRECT = {"driver": "file", "aio": "io_uring", "cache": {"direct": True}}
"""Of a file, for qemu-storage-daemon."""
FLOOR_SOURCE = Path(__file__).with_name("floor") / "floor.c"


def qemu_quorum(directory: Path) -> Contestant:
    """qemu-storage-daemon: quorum of a file and of a file served by nbdkit over TCP; a write needs both. LabError."""
    (port,) = map(str, free_ports(1))
    ready = directory / "replica.pid"
    command = ["nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", port, "--pidfile", str(ready), "file"]
    replica = start_program([*command, str(_file(directory, "remote"))], ready)
    return _quorum("quorum", directory, replica, {"type": "inet", "host": "127.0.0.1", "port": port}, CACHED)


def qemu_quorum_unix(directory: Path) -> Contestant:
    """The same with the replica on a UNIX socket, which spares it the TCP that replication needs. Raises LabError."""
    replica = directory / "replica.sock"
    command = ["nbdkit", "--foreground", "--unix", str(replica), "file", str(_file(directory, "remote"))]
    return _quorum(
        "quorum-unix", directory, start_program(command, replica), {"type": "unix", "path": str(replica)}, CACHED
    )


def qemu_quorum_direct(directory: Path, name: str) -> Contestant:
    """A quorum whose two files are used past the page cache; the replica is another qemu-storage-daemon. LabError."""
    (port,) = map(str, free_ports(1))
    ready = directory / "replica.pid"
    file = {**DIRECT, "node-name": "remote", "filename": str(_file(directory, "remote"))}
    command = _storage_daemon([file], f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}")
    replica = start_program([*command, "--pidfile", str(ready)], ready)
    return _quorum(name, directory, replica, {"type": "inet", "host": "127.0.0.1", "port": port}, DIRECT)


def qemu_single_direct(directory: Path, name: str) -> Contestant:
    """qemu-storage-daemon with one file past the page cache: no replication. Raises LabError."""
    front = directory / "single.sock"
    file = {**DIRECT, "node-name": "one", "filename": str(_file(directory, "single"))}
    return _contestant(
        name, [front], [start_program(_storage_daemon([file], f"addr.type=unix,addr.path={front}"), front)]
    )


def _storage_daemon(nodes: Sequence[Mapping[str, object]], address: str) -> list[str]:
    """The command that serves the last of these nodes by NBD."""
    command = ["qemu-storage-daemon"]
    for node in nodes:
        command += ["--blockdev", json.dumps(node)]
    command += ["--nbd-server", address]
    return [*command, "--export", f"type=nbd,id=export,node-name={nodes[-1]['node-name']},name=,writable=on"]


def _quorum(
    name: str,
    directory: Path,
    replica: subprocess.Popen[bytes],
    server: dict[str, str],
    local_options: Mapping[str, object],
) -> Contestant:
    local = _file(directory, "local")
    front = directory / "quorum.sock"
    programs = [replica]
    nodes: list[Mapping[str, object]] = [
        {**local_options, "node-name": "local", "filename": str(local)},
        {"driver": "nbd", "node-name": "remote", "server": server},
        {
            "driver": "quorum",
            "node-name": "both",
            "children": ["local", "remote"],
            "vote-threshold": 2,
            "read-pattern": "fifo",
        },
    ]
    try:
        programs.append(start_program(_storage_daemon(nodes, f"addr.type=unix,addr.path={front}"), front))
    except LabError:
        end(programs)
        raise
    return _contestant(name, [front], programs)


def nbdkit_single(directory: Path, name: str = "single", disks: int = 1) -> Contestant:
    """nbdkit with one file: no replication, the ceiling of this machine. Raises LabError."""

    def start(number: int, front: Path) -> subprocess.Popen[bytes]:
        disk = _file(directory, f"single{number}")
        return start_program(["nbdkit", "--foreground", "--unix", str(front), "file", str(disk)], front)

    return _several(name, directory, disks, start)


def floor(directory: Path, name: str = "floor", disks: int = 1) -> Contestant:
    """Our data path in C and without any safety (floor/floor.c), compiled here. Raises LabError."""
    program = compiled_floor(directory)

    def start(number: int, front: Path) -> subprocess.Popen[bytes]:
        files = [str(_file(directory, f"{side}{number}")) for side in ("local", "remote")]
        return start_program([str(program), str(front), *files, str(SIZE_BYTES)], front)

    return _several(name, directory, disks, start)


def compiled_floor(directory: Path) -> Path:
    """The program. Raises LabError where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise LabError("floor: there is no C compiler (cc)")
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [compiler, "-O2", "-o", str(directory / "floor"), str(FLOOR_SOURCE)],
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise LabError(f"floor: {done.stderr.strip()}")
    return directory / "floor"


def _several(
    name: str, directory: Path, disks: int, start: Callable[[int, Path], subprocess.Popen[bytes]]
) -> Contestant:
    fronts = [directory / f"front{number}.sock" for number in range(disks)]
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for number, front in enumerate(fronts):
            programs.append(start(number, front))
    except LabError:
        end(programs)
        raise
    return _contestant(name, fronts, programs)


def _contestant(name: str, fronts: Sequence[Path], programs: list[subprocess.Popen[bytes]]) -> Contestant:
    pids = tuple(program.pid for program in programs)
    return Contestant(name, tuple(f"nbd+unix:///?socket={front}" for front in fronts), lambda: end(programs), pids)


def _file(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.img"
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return path


def start_program(command: Sequence[str], ready: Path) -> subprocess.Popen[bytes]:
    """Start it and wait until this file is there; it dies with this process. Raises LabError."""
    if shutil.which(command[0]) is None:
        raise LabError(f"{command[0]} is not installed (see packages.apt)")
    program = subprocess.Popen([*bound(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not ready.exists():
        if program.poll() is not None or time.monotonic() > deadline_s:
            end([program])
            raise LabError(f"{command[0]} did not start: {ready} did not appear")
        time.sleep(0.05)
    return program


def end(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    """In reverse order, in order or by force."""
    for program in reversed(programs):
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
