"""Making a range of a provider read as zeros, by the cheapest means its file system or device has.

Blocks until done; called from the provider's threads. Whatever the means, the range reads back as zeros, so that
discards leave the same contents on every copy.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

KEEP_SIZE = 1
PUNCH_HOLE = 2
ZERO_RANGE = 16
ZEROS = memoryview(mmap.mmap(-1, 1024 * 1024)).toreadonly()
"""At whole pages of memory, as a disk that is written past the cache wants it."""
_UNSUPPORTED = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2). Raises OSError."""
    while _libc.fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def write_zeros(fd: int, offset: int, length: int) -> None:
    """Write zeros as data. Raises OSError."""
    while length > 0:
        written = os.pwrite(fd, ZEROS[: min(length, len(ZEROS))], offset)
        if written == 0:
            raise OSError(errno.EIO, "short write")
        offset += written
        length -= written


class Zeroer:
    """Remembers which means a provider lacks: punching holes (gives space back), zeroing a range, writing zeros."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._modes = [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE]

    def zero(self, offset: int, length: int) -> None:
        """Make `length` bytes at `offset` of the provider read as zeros. Raises OSError."""
        for mode in tuple(self._modes):
            try:
                fallocate(self._fd, mode, offset, length)
                return
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                if mode in self._modes:
                    self._modes.remove(mode)
        write_zeros(self._fd, offset, length)
