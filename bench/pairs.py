"""Our pair as a contestant: two hastd on loopback, `device none`, files as disks; in any build, with any options."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.contestant import SIZE_BYTES, Contestant
from bench.machine import REPOSITORY
from bench.others import end
from bench.slow_disk import SlowDisk
from hast.lab.loopback import LoopbackPair, free_ports
from hast.lab.processes import LabError, bound

PAST_CACHE = ("disk-cache off",)
RELAY_TIMEOUT_S = 10.0
SHIM = """#!{python}
import sys
from hast.cli.{program} import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """Calling it starts it. `settings`: lines of each resource in hast.conf; `source`: the folder in which the package
    lies, None: this process's; `python`: the interpreter that runs it, None: this process's; `delay_ms`: of one way
    between the nodes; `write_ms`: what each disk takes for a write, which is then past the page cache."""

    name: str = "hast"
    settings: tuple[str, ...] = ()
    source: Path | None = None
    python: str | None = None
    secure: bool = False
    disks: int = 1
    delay_ms: float = 0.0
    size_bytes: int = SIZE_BYTES
    write_ms: float = 0.0

    def __call__(self, directory: Path) -> Contestant:
        """Raises LabError."""
        running = RunningPair(self, directory)
        try:
            running.nodes.bring_up()
        except LabError:
            running.close()
            raise
        nodes = running.nodes
        uris = tuple(nodes.one.nbd_uri(disk) for disk in nodes.one.disk_names)
        return Contestant(self.name, uris, running.close, (nodes.one.pid, nodes.two.pid))


class RunningPair:
    """The nodes of a pair, not started, and what lies between them."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        """Raises LabError."""
        self._relays: list[subprocess.Popen[bytes]] = []
        self._slow: list[SlowDisk] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._delay_ms = pair.delay_ms
        source = pair.source
        programs = None
        if pair.python is not None:
            source = source or REPOSITORY / "src"
            programs = write_programs(directory / "bin", pair.python)
        self.nodes = LoopbackPair(
            directory,
            disks=[f"disk{number + 1}" for number in range(pair.disks)],
            size_bytes=pair.size_bytes,
            extra="".join(f"\t{line}\n" for line in (*pair.settings, *(PAST_CACHE if pair.write_ms else ()))),
            secure=pair.secure,
            source=source,
            programs=programs,
            through=self._reached if pair.delay_ms else lambda port: port,
        )
        if pair.write_ms:
            self._slow_down(pair.write_ms)

    def _reached(self, port: int) -> int:
        (own,) = free_ports(1)
        command = [*bound(), sys.executable, "-m", "bench.relay", str(own), str(port), f"{self._delay_ms:g}"]
        self._relays.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=REPOSITORY))
        return own

    def _slow_down(self, write_ms: float) -> None:
        for node in (self.nodes.one, self.nodes.two):
            for disk in node.disk_names:
                try:
                    self._slow.append(SlowDisk(node.disk_file(disk), write_ms))
                except LabError:
                    self.close()
                    raise

    def close(self) -> None:
        """End all of it; the files stay."""
        self.nodes.one.stop()
        self.nodes.two.stop()
        for disk in self._slow:
            disk.close()
        end(self._relays)


def write_programs(directory: Path, python: str) -> Path:
    """hastd and hastctl for an interpreter that has no installed package of ours; the folder."""
    directory.mkdir(parents=True)
    for program in ("hastd", "hastctl"):
        path = directory / program
        path.write_text(SHIM.format(python=python, program=program))
        path.chmod(0o755)
    return directory


def why_not(source: Path, python: str = sys.executable, compiled: bool = False) -> str | None:
    """Why this interpreter cannot run the package that lies there, or is not as said; None when it can."""
    test = "import lark, setproctitle, click, hast.cli.hastd; from hast.replication import plain"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [python, "-c", f"{test}; print(plain.__file__.endswith('.so'), hast.__file__)"],
            env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode != 0:
            return f"{python}: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        is_compiled, _space, path = done.stdout.strip().partition(" ")
        if not path.startswith(f"{source}/"):
            return f"{python} takes the package from {path}"
        return None if is_compiled == str(compiled) else f"{source.name} is {'not ' * compiled}compiled for {python}"
    return f"{python} does not run"
