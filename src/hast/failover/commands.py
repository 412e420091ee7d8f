"""Runs other programs with a deadline, collects what they print, and finds those that a killed run left behind.

A program that does not end is told to (TERM, then KILL, the whole process group). One that cannot be killed (state D)
is left alone after that, so that the caller goes on with a clear error and never hangs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MARK = "HAST_FAILOVER_RUN"
"""Environment variable of every program started for a step; its value is the state file of the run."""
MAX_OUTPUT_BYTES = 64 * 1024
TERM_S = 1.0
KILL_S = 1.0
LATE = 124
NOT_FOUND = 127


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `code` is its exit code, negative for a signal, LATE or NOT_FOUND."""

    argv: tuple[str, ...]
    code: int
    output: str
    """stdout and stderr together, at most MAX_OUTPUT_BYTES, stripped."""
    note: str = ""

    def problem(self) -> str:
        """One line for an error text."""
        text = " | ".join(line.strip() for line in self.output.splitlines() if line.strip())
        program = Path(self.argv[0]).name
        if self.note:
            return f"{program}: {self.note}" + (f" ({text})" if text else "")
        ending = f"ended by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
        return text or f"{program}: {ending}"


class Commands:
    """Starts programs for one run of the fail-over program."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float,
        *,
        marked: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Run to the end. Never raises; a program that cannot be started has code NOT_FOUND.

        `marked` programs are waited for by the next run when this one is killed. Services are started unmarked, since
        what they leave running is meant to stay.
        """
        if timeout_s <= 0:
            return Result(tuple(argv), LATE, "", "not run: the time for this step is over")
        variables = {**os.environ, **(environment or {}), **({MARK: self._mark} if marked else {})}
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )
        except OSError as error:
            return Result(tuple(argv), NOT_FOUND, "", f"cannot be started: {error.strerror}")
        reader = _Reader(process.stdout)
        try:
            code = process.wait(timeout_s)
            note = ""
        except subprocess.TimeoutExpired:
            gone = end_group(process.pid, lambda: process.poll() is not None)
            note = f"did not end within {timeout_s:.1f} s and was killed"
            if not gone:
                note = f"did not end within {timeout_s:.1f} s and cannot be killed (process {process.pid})"
            code = LATE
        return Result(tuple(argv), code, reader.text(), note)

    def leftovers(self) -> list[int]:
        """Processes that an earlier, killed run of the same state file started and that still run."""
        return [pid for pid in _processes() if pid != os.getpid() and _mark_of(pid) == self._mark]

    def end_leftovers(self, timeout_s: float) -> list[int]:
        """Wait for them, then end them; returns those that cannot be ended."""
        for number, wait_s in ((0, timeout_s), (signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
            until = time.monotonic() + wait_s
            left = self.leftovers()
            for pid in left if number else ():
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
            while left and time.monotonic() < until:
                time.sleep(0.05)
                left = self.leftovers()
            if not left:
                return []
        return left


class _Reader:
    """Collects output in a thread, which does not wait for descendants that keep the pipe open."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            while block := os.read(self._stream.fileno(), 65536):
                self._data += block[: MAX_OUTPUT_BYTES - len(self._data)]

    def text(self) -> str:
        """What came so far; waits a moment for the end of it."""
        self._thread.join(0.2)
        return bytes(self._data).decode(errors="replace").strip()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def end_group(pid: int, gone: Callable[[], bool]) -> bool:
    """TERM, wait, KILL, wait: the process and its group. Returns whether it is gone."""
    for number, wait_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        try:
            os.killpg(pid, number)
        except OSError:
            pass
        until = time.monotonic() + wait_s
        while not gone() and time.monotonic() < until:
            time.sleep(0.01)
    return gone()


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def _mark_of(pid: int) -> str | None:
    prefix = f"{MARK}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix) and alive(pid):
            return entry[len(prefix) :].decode(errors="replace")
    return None
