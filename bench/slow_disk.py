"""A disk that takes a given time for each write: an nbdkit with a delay, seen as a file by nbdfuse."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from bench.others import end, start_program
from hast.lab.processes import LabError, bound

PROGRAMS = ("nbdkit", "nbdfuse", "fusermount")
MOUNT_TIMEOUT_S = 20.0


class SlowDisk:
    """In the place of the file `path`, whose content it has, until it is closed."""

    def __init__(self, path: Path, write_ms: float) -> None:
        """Raises LabError."""
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise LabError(f"a slow disk needs {', '.join(missing)}")
        self._path = path
        size_bytes = path.stat().st_size
        backing, served = path.with_suffix(".backing"), path.with_suffix(".sock")
        path.rename(backing)
        path.touch()
        command = ["nbdkit", "--foreground", "--unix", str(served), "--filter=delay", "file", str(backing)]
        self._programs = [start_program([*command, f"wdelay={write_ms:g}ms"], served)]
        try:
            self._mount(served, size_bytes)
        except LabError:
            self.close()
            raise

    def _mount(self, served: Path, size_bytes: int) -> None:
        command = [*bound(), "nbdfuse", str(self._path), "--unix", str(served)]
        nothing = subprocess.DEVNULL
        self._programs.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))
        deadline_s = time.monotonic() + MOUNT_TIMEOUT_S
        while self._path.stat().st_size != size_bytes:
            if self._programs[-1].poll() is not None or time.monotonic() > deadline_s:
                raise LabError(f"nbdfuse did not mount {self._path}")
            time.sleep(0.05)

    def close(self) -> None:
        """Once nobody has it open."""
        subprocess.run(["fusermount", "-u", str(self._path)], capture_output=True, timeout=MOUNT_TIMEOUT_S)
        end(self._programs)
