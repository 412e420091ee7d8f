"""io_uring by its system calls: a ring of submissions and one of completions, shared with the kernel.

As much as ublk and disks need: commands, reads and writes to a descriptor, many in one system call, completions read
without any. The descriptor of a ring is readable (epoll) while completions wait. No polling thread of the kernel: it
looks at the submissions only inside `submit`. Used by one thread. No library that Debian packages does this for Python.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import threading
from collections.abc import Iterator

_SETUP, _ENTER = 425, 426
_ENTER_GETEVENTS = 1
_SQ_CQ_OVERFLOW = 2
_SETUP_SQE128 = 1 << 10
_FEATURE_SINGLE_MMAP = 1
_OFFSET_RINGS, _OFFSET_ENTRIES = 0, 0x10000000
_NOP, _READ, _WRITE, _URING_CMD = 0, 22, 23, 46

_PARAMETERS = struct.Struct("=10I8IQ8IQ")
"""sq_entries, cq_entries, flags, 7 unused here; sq: head, tail, ring_mask, ring_entries, flags, dropped, array, 0, 0;
cq: head, tail, ring_mask, ring_entries, overflow, cqes, flags, 0, 0."""
_FEATURES_INDEX = 5
_ENTRY = struct.Struct("=BBHiIIQIIQ8x")
"""opcode, flags, ioprio, fd, cmd_op, 0, addr, len, rw_flags, user_data; the command follows at byte 48."""
_COMMAND_OFFSET = 48
_WORD = 4
_TRANSFER = struct.Struct("=BBHiQQIIQ8x")
"""opcode, flags, ioprio, fd, offset, addr, len, rw_flags, user_data."""
_COMPLETION = struct.Struct("=QiI")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_ORDERS_LOADS = platform.machine() in ("x86_64", "AMD64", "i686")


def unavailable() -> str:
    """Why there is no io_uring for this process; empty when there is."""
    try:
        with open("/proc/sys/kernel/io_uring_disabled", encoding="ascii") as file:
            if file.read().strip() == "2":
                return "io_uring is switched off (sysctl kernel.io_uring_disabled)"
    except OSError:
        pass
    try:
        Ring(1).close()
    except OSError as error:
        return f"io_uring cannot be used ({error.strerror})"
    return ""


class Ring:
    """Room for `entries` submissions. `wide`: commands of up to 80 bytes instead of 16."""

    def __init__(self, entries: int, wide: bool = False) -> None:
        """Raises OSError."""
        flags = _SETUP_SQE128 if wide else 0
        parameters = ctypes.create_string_buffer(_PARAMETERS.pack(0, 0, flags, *[0] * 25), _PARAMETERS.size)
        self.fd = _checked(_libc.syscall(_SETUP, entries, parameters), "io_uring_setup")
        try:
            self._map(list(_PARAMETERS.unpack(parameters.raw)), 128 if wide else 64)
        except BaseException:
            os.close(self.fd)
            raise
        self._fence = threading.Lock()
        self._queued = 0

    def _map(self, values: list[int], entry_bytes: int) -> None:
        if not values[_FEATURES_INDEX] & _FEATURE_SINGLE_MMAP:
            raise OSError(95, "this io_uring is too old")
        sq, cq = values[10:19], values[19:28]
        self._sq_tail, self._sq_flags, self._sq_array = sq[1] // _WORD, sq[4] // _WORD, sq[6] // _WORD
        self._cq_head, self._cq_tail, self._cqes = cq[0] // _WORD, cq[1] // _WORD, cq[5]
        self.entries, completions = values[0], values[1]
        self._entry_bytes = entry_bytes
        size = max(sq[6] + _WORD * self.entries, self._cqes + _COMPLETION.size * completions)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._rings = mmap.mmap(self.fd, size, flags, offset=_OFFSET_RINGS)
        self._slots = mmap.mmap(self.fd, self.entries * entry_bytes, flags, offset=_OFFSET_ENTRIES)
        self._words = memoryview(self._rings).cast("I")
        """What the kernel looks at while it changes, each number in one store: `pack_into` clears the place first."""
        self._sq_mask, self._cq_mask = self.entries - 1, completions - 1
        self._tail = self._words[self._sq_tail]
        self._head = self._words[self._cq_head]

    def close(self) -> None:
        """Cancel what is under way and give everything back."""
        self._words.release()
        self._rings.close()
        self._slots.close()
        os.close(self.fd)

    def nop(self, user_data: int) -> None:
        """Queue nothing, to be completed with 0."""
        self._queue(_NOP, -1, 0, b"", user_data)

    def command(self, fd: int, operation: int, payload: bytes, user_data: int) -> None:
        """Queue a command to the driver behind `fd`. At most `entries` between two calls of `submit`."""
        self._queue(_URING_CMD, fd, operation, payload, user_data)

    def transfer(self, to_fd: bool, fd: int, address: int, size_bytes: int, offset: int, user_data: int) -> None:
        """Queue a write of this memory, or a read into it, which stays where it is until that is completed.

        What would sleep is done by a thread of the kernel. Completed with how many bytes went, or with -errno.
        """
        opcode = _WRITE if to_fd else _READ
        _TRANSFER.pack_into(self._slots, self._entry(), opcode, 0, 0, fd, offset, address, size_bytes, 0, user_data)

    def _queue(self, opcode: int, fd: int, operation: int, payload: bytes, user_data: int) -> None:
        slots, at = self._slots, self._entry()
        _ENTRY.pack_into(slots, at, opcode, 0, 0, fd, operation, 0, 0, 0, 0, user_data)
        slots[at + _COMMAND_OFFSET : at + _COMMAND_OFFSET + len(payload)] = payload

    def _entry(self) -> int:
        """Where the next submission goes, which counts as queued."""
        assert self._queued < self.entries, "more submissions than the ring has room for"
        index = self._tail & self._sq_mask
        self._words[self._sq_array + index] = index
        self._tail = (self._tail + 1) & 0xFFFFFFFF
        self._queued += 1
        return index * self._entry_bytes

    def submit(self, wait: int = 0) -> None:
        """Hand over what is queued, in one system call; wait for so many completions. Raises OSError."""
        if not self._queued and not wait:
            return
        self._words[self._sq_tail] = self._tail
        while self._queued or wait:
            flags = _ENTER_GETEVENTS if wait else 0
            taken = _libc.syscall(_ENTER, self.fd, self._queued, wait, flags, None, 0)
            if taken < 0:
                number = ctypes.get_errno()
                if number == 4:
                    continue
                raise OSError(number, f"io_uring_enter: {os.strerror(number)}")
            self._queued -= taken
            wait = 0

    def completions(self, limit: int) -> Iterator[tuple[int, int]]:
        """(user_data, result) of what is completed, at most `limit`; each is gone as soon as it was given."""
        words = self._words
        tail = words[self._cq_tail]
        if tail == self._head and words[self._sq_flags] & _SQ_CQ_OVERFLOW:
            _libc.syscall(_ENTER, self.fd, 0, 0, _ENTER_GETEVENTS, None, 0)  # what found no room before comes now
            tail = words[self._cq_tail]
        if not _ORDERS_LOADS:
            self._order_loads()
        for _ in range(min(limit, (tail - self._head) & 0xFFFFFFFF)):
            at = self._cqes + (self._head & self._cq_mask) * _COMPLETION.size
            user_data, result, _flags = _COMPLETION.unpack_from(self._rings, at)
            self._head = (self._head + 1) & 0xFFFFFFFF
            words[self._cq_head] = self._head
            yield user_data, result

    def _order_loads(self) -> None:
        """What is read after this was written before the tail was: taking a lock twice is a full fence."""
        for _ in range(2):
            self._fence.acquire()
            self._fence.release()


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
