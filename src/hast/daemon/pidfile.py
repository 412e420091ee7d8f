"""The pidfile of a daemon: mode 0600, locked for as long as the process lives (specification section 8.1)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class PidfileError(Exception):
    """The pidfile cannot be used; `exit_code` is the sysexits code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Pidfile:
    """A locked pidfile. The lock survives fork: `write` again in the child that goes on."""

    def __init__(self, path: str, program: str = "hastd") -> None:
        """Open and lock. Raises PidfileError (75 when another `program` holds it, 71 when it cannot be opened)."""
        self.path = path
        self._descriptor = _open_locked(path, program)

    def write(self) -> None:
        """Put this process's id into the file."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Remove the file and the lock, unless somebody replaced the file."""
        try:
            if _same_file(self.path, self._descriptor):
                os.unlink(self.path)
        except OSError:
            pass
        os.close(self._descriptor)


def _open_locked(path: str, program: str) -> int:
    for _attempt in range(10):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PidfileError(f"Unable to open or create pidfile {path}: {error.strerror}.", 71) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            pid = _read_pid(path)
            raise PidfileError(f"Another {program} is already running, pidfile: {path}, pid: {pid}.", 75) from None
        if _same_file(path, descriptor):
            os.fchmod(descriptor, 0o600)
            return descriptor
        os.close(descriptor)
    raise PidfileError(f"Unable to lock pidfile {path}: it keeps changing.", 71)


def _same_file(path: str, descriptor: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _read_pid(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()[:20] or "unknown"
    except OSError:
        return "unknown"
