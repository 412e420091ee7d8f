"""Whether a plain write to a provider ends in this kernel's page cache, or waits for a server or a disk that may not
answer."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

_WRITES_THROUGH = frozenset((0x65735546, 0x6969, 0x01021997, 0xFF534D42, 0xFE534D42, 0x00C36400))
"""FUSE, NFS, 9p, CIFS, SMB 2 and Ceph, as in statfs(2)."""
_STATFS_BYTES = 256
_IN_PAGE = mmap.PAGESIZE - 1
_PAGE_SHIFT = _IN_PAGE.bit_length()
FRESH_S = 1.0
MAX_PAGES = 65536
"""Remembered in each half of FRESH_S."""
_ONE_BYTE, _TWO_BYTES = [bytearray(1)], [bytearray(2)]
"""Where pages are read into that are only asked for: what comes there is nobody's."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_char_p)


def has_writeback(fd: int) -> bool:
    """False where a write goes to a server first, or may; a file system that does not tell counts as such."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer) != 0:
        return False
    (kind,) = struct.unpack_from("=l" if ctypes.sizeof(ctypes.c_long) == 4 else "=q", buffer)
    return kind & 0xFFFFFFFF not in _WRITES_THROUGH


class CachedPages:
    """The pages of a provider that a plain write would have to read first, were they not in the page cache.

    The kernel reads a page of which a write covers a part only, and the writer sleeps until the disk has answered. A
    block device is read by pages, whatever its sectors are. Each question costs as much as a third of the write itself,
    so pages written within the last `FRESH_S`, or half as much again, are not asked about: until the disk has taken
    what was written into them they cannot leave the cache, and after that they are the last to.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._turn_s = 0.0
        """When the young ones become the old ones, and the old ones are forgotten."""

    def reads_first(self, offset: int, size_bytes: int, now_s: float) -> bool:
        """Whether the write of these bytes, which follows if not, would sleep until the disk has read a page."""
        end = offset + size_bytes
        if not (offset | end) & _IN_PAGE:
            return False
        if now_s >= self._turn_s or len(self._young) >= MAX_PAGES:
            self._turn(now_s)
        first, last = offset >> _PAGE_SHIFT, (end - 1) >> _PAGE_SHIFT
        young = self._young
        if first in young and last in young:
            return False
        if not (first in self._old and last in self._old) and self._is_to_be_read(offset, end, first, last):
            return True
        young.add(first)
        young.add(last)
        return False

    def forget(self) -> None:
        """Pages left the cache on purpose: zeroing a range of a device drops them."""
        self._young, self._old = set(), set()

    def _turn(self, now_s: float) -> None:
        self._old = self._young if now_s < self._turn_s + FRESH_S / 2 else set()
        self._young = set()
        self._turn_s = now_s + FRESH_S / 2

    def _is_to_be_read(self, offset: int, end: int, first: int, last: int) -> bool:
        if last == first + 1 and offset & _IN_PAGE and end & _IN_PAGE:  # both in part: one question for the two
            return not _are_cached(self._fd, _TWO_BYTES, (last << _PAGE_SHIFT) - 1, 2)
        parts = [at for at, edge in ((offset, offset), (end - 1, end)) if edge & _IN_PAGE]
        return not all(_are_cached(self._fd, _ONE_BYTE, at, 1) for at in parts)


def _are_cached(fd: int, into: list[bytearray], offset: int, size_bytes: int) -> bool:
    try:
        return os.preadv(fd, into, offset, os.RWF_NOWAIT) == size_bytes
    except OSError:
        return False
