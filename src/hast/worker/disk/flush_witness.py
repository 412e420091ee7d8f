"""A second hearer of failed flushes: did one fail of which a dead worker can tell nobody?

The kernel tells each open file description of a failed flush once, whoever else was told. So a worker opens its disk a
second time and leaves that for the next one, which flushes by it, should its predecessor have died in the middle of a
flush (`flush_mark.py`), and hears what that one heard. What only the disk's own answer to a flush said, not the writing
before it, is asked of the disk again.

It lies, as a message that nobody has received, between two sockets that the supervisor keeps: no process has it open,
for a process that forks or ends over a disk that hangs would hang as well.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable

from hast.worker.disk.last_close import last_close, let_go


class Locker:
    """Two connected sockets, and what lies between them. `ends` are their descriptors, which stay the caller's."""

    def __init__(self, ends: Iterable[int]) -> None:
        self.ends = list(ends)

    @classmethod
    def make(cls) -> Locker:
        """A new one. Raises OSError."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (first, second):
            end.setblocking(False)
        return cls([first.detach(), second.detach()])

    def put(self, witness: int) -> None:
        """Leave this opening of the disk in place of what was there. Takes the descriptor; -1 leaves nothing."""
        self.drop()
        if witness < 0:
            return
        with socket.socket(fileno=os.dup(self.ends[0])) as end:
            try:
                socket.send_fds(end, [b"witness"], [witness])
            except OSError:
                pass
        let_go([witness])

    def take(self) -> int:
        """What was left; the caller's from now on. -1 when there is nothing."""
        found: list[int] = []
        with socket.socket(fileno=os.dup(self.ends[1])) as end:
            try:
                while True:
                    message, descriptors, _flags, _address = socket.recv_fds(end, 16, 4)
                    found += descriptors
                    if not message:
                        break
            except OSError:
                pass
        let_go(found[:-1])
        return found[-1] if found else -1

    def drop(self) -> None:
        """Nobody keeps the disk open any more."""
        witness = self.take()
        if witness >= 0:
            let_go([witness])

    def close(self) -> None:
        """Give up the ends, and what lies between."""
        ends, self.ends = self.ends, []
        let_go(ends)


def nothing_failed(witness_fd: int, provider_fd: int, limit_s: float) -> bool:
    """Whether no flush of this disk failed since the witness was opened, or asked last. False when it is another disk,
    or does not answer in time (`limit_s`, 0 for any time). The witness is closed."""
    said: list[bool] = []

    def ask() -> None:
        try:
            if _identity(witness_fd) == _identity(provider_fd):
                os.fsync(witness_fd)
                said.append(True)
        except OSError:
            pass
        finally:
            last_close(witness_fd)

    thread = threading.Thread(target=ask, name="witness", daemon=True)
    thread.start()
    thread.join(limit_s or None)
    return said == [True]


def _identity(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_rdev
