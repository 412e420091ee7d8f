"""Run programs inside the namespaces of a lab host, with deadlines, and without leaving any behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO


class LabError(Exception):
    """The lab could not do what it was told. `str()` is one line, or one line and the output of a command."""


def bound(signal_name: str = "KILL") -> list[str]:
    """The command line prefix of a program that gets this signal when its starter ends, however that ends."""
    return ["setpriv", f"--pdeathsig={signal_name}", "--"]


def enter(pid: int, namespaces: Iterable[str]) -> list[str]:
    """The command line prefix that runs a program in these namespaces of process `pid`; it dies with its starter."""
    return ["nsenter", f"--target={pid}", *(f"--{name}" for name in namespaces), *bound()]


def run_in(pid: int, namespaces: Iterable[str], command: Sequence[str], text: str, timeout_s: float) -> None:
    """Run a short command with `text` as its input. Raises LabError with what it printed."""
    argv = [*enter(pid, namespaces), *command]
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise LabError(f"{shlex.join(command)}: no end after {timeout_s:g} s; input was {text!r}") from None
    if done.returncode != 0:
        raise LabError(f"{shlex.join(command)}: exit {done.returncode}: {done.stderr.strip()}; input was {text!r}")


class Running:
    """A program running in a host; output goes to files, so that nothing it leaves behind can block the reader."""

    def __init__(
        self, prefix: Sequence[str], argv: Sequence[str], environment: Mapping[str, str], text: str | None = None
    ) -> None:
        self.argv = list(argv)
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as stdin:
            stdin.write((text or "").encode())
            stdin.seek(0)
            self._popen = subprocess.Popen(
                [*prefix, *argv],
                stdin=stdin,
                stdout=self._out,
                stderr=self._err,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The program's process id as seen from outside the host; None before it has started and after its end."""
        children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children")
        try:
            listed = children.read_text().split()
        except OSError:
            return None
        return int(listed[0]) if listed else None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the program, quietly if it has ended."""
        pid = self.pid
        try:
            if pid is not None:
                os.kill(pid, number)
            elif number == signal.SIGKILL:
                self._popen.kill()
        except ProcessLookupError:
            pass

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end. Raises LabError after `timeout_s` and kills it."""
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.kill()
            self._popen.wait()
            raise LabError(f"{shlex.join(self.argv)}: no end after {timeout_s:g} s; {self._said()}") from None
        return subprocess.CompletedProcess(self.argv, code, self.output(), self.errors())

    def output(self) -> str:
        """Its standard output so far."""
        return _content(self._out)

    def errors(self) -> str:
        """Its standard error output so far."""
        return _content(self._err)

    def _said(self) -> str:
        text = (self.output() + self.errors()).strip()
        return f"it said: {text[-2000:]}" if text else "it said nothing"

    def close(self) -> None:
        """Kill it if it still runs, and give up its output."""
        if self._popen.poll() is None:
            self.kill()
            self._popen.kill()
            self._popen.wait()
        self._out.close()
        self._err.close()


def _content(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")


def wait_until(what: str, timeout_s: float, step_s: float = 0.05) -> Iterable[float]:
    """Yield the seconds passed until the caller breaks. Raises LabError when `timeout_s` have passed."""
    start_s = time.monotonic()
    while True:
        passed_s = time.monotonic() - start_s
        yield passed_s
        if passed_s > timeout_s:
            raise LabError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(step_s)
