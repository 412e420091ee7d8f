"""The files by which runs of the fail-over program know of each other: who runs, what was asked last, how far it got.

    failover.lock    locked by the run in progress, which writes its pid and verb into it. One run at a time.
    failover.wanted  the newest request: a number that only grows, and its verb. A run that finds a newer request for
                     the other verb there gives way.
    failover.state   what the last run did, for `failover status` and for people. Nothing is decided by it.
All are replaced or written whole, so that a run killed at any moment leaves files that can be read.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hast.daemon.paths import failover_record, parts_record
from hast.daemon.record_file import parse_object, read_object
from hast.election.failover import Verb
from hast.failover.commands import alive


class StateError(Exception):
    """The run directory cannot be used. `str()` is one line."""


class RunFiles:
    """The three files in one directory, which is created when missing."""

    def __init__(self, directory: Path) -> None:
        """Raises StateError."""
        self.directory = directory
        self.state_path = directory / failover_record().name
        self._lock_path = directory / "failover.lock"
        self._wanted_path = directory / "failover.wanted"
        self._lock: int | None = None
        self.request = 0
        self._verb: Verb | None = None
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{directory} cannot be made: {error.strerror}; run failover as root") from None

    def ask(self, verb: Verb, *, again: bool = False) -> bool:
        """Record a new request. With `again` only if `verb` is what was asked last; else False. Raises StateError."""
        try:
            descriptor = os.open(self._wanted_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{self._wanted_path} cannot be opened: {error.strerror}; run failover as root") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            known = (parse_object(os.pread(descriptor, 4096, 0)) or {}, (read_object(self._lock_path) or {}))
            if again and max(known, key=_number).get("verb") != verb:
                return False
            self.request = max(_number(record) for record in known) + 1
            self._verb = verb
            data = json.dumps({"request": self.request, "verb": verb}).encode()
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)
        return True

    def newest(self) -> tuple[int, str, float]:
        """Number and verb of the newest request, and its age in seconds; (0, "", inf) when there was none."""
        record = read_object(self._wanted_path) or {}
        try:
            age_s = time.time() - self._wanted_path.stat().st_mtime
        except OSError:
            return 0, "", math.inf
        return _number(record), str(record.get("verb")), age_s

    def overruled(self) -> bool:
        """Whether a newer request asks for the other verb."""
        newest = read_object(self._wanted_path) or {}
        return _number(newest) > self.request and newest.get("verb") != self._verb

    def try_lock(self) -> bool:
        """Become the run in progress. Raises StateError when the file cannot be opened."""
        if self._lock is None:
            try:
                self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StateError(
                    f"{self._lock_path} cannot be opened: {error.strerror}; run failover as root"
                ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        record = {"pid": os.getpid(), "start": start_time(os.getpid()), "verb": self._verb, "request": self.request}
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(record).encode(), 0)
        return True

    def unlock(self) -> None:
        """End being the run in progress."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def holder(self) -> dict[str, Any]:
        """What the run in progress wrote about itself; its `pid` is 0 when that process is gone."""
        record = read_object(self._lock_path) or {}
        pid = record.get("pid")
        if not isinstance(pid, int) or not alive(pid) or start_time(pid) != record.get("start"):
            return {**record, "pid": 0}
        return record

    def kill_holder(self) -> int:
        """KILL the run in progress, which did not give way; returns its pid, 0 when there is none to kill."""
        pid = self.holder()["pid"]
        if isinstance(pid, int) and pid > 1:
            os.kill(pid, signal.SIGKILL)
            return pid
        return 0

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state file. A failure is not an error: the state is for people."""
        _replace(self.state_path, state)

    def note_parts(self, parts: Mapping[str, Any]) -> None:
        """What was just found of the parts of this host's service, for who looks at it. A failure is not an error."""
        _replace(self.directory / parts_record().name, {"time": time.time(), "parts": dict(parts)})

    def load(self) -> dict[str, Any]:
        """The state file, empty when there is none or it cannot be read."""
        return read_object(self.state_path) or {}


def _replace(path: Path, record: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(record))
        temporary.replace(path)
    except OSError:
        pass


def start_time(pid: int) -> str:
    """When a process was started, in the kernel's clock ticks; tells a process from a later one of the same pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _number(record: dict[str, Any]) -> int:
    number = record.get("request")
    return number if isinstance(number, int) else 0
