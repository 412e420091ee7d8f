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


def reads_first(fd: int, offset: int, size_bytes: int) -> bool:
    """Whether a plain write sleeps until the disk has read a page of which it covers a part only. A block device is
    read by pages, whatever its sectors are."""
    end = offset + size_bytes
    if not (offset | end) & _IN_PAGE:
        return False
    last_page = (end - 1) & ~_IN_PAGE
    if last_page - mmap.PAGESIZE < offset < last_page and end & _IN_PAGE:
        return not _are_cached(fd, _TWO_BYTES, last_page - 1, 2)  # of two pages side by side, both in part
    parts = [at for at, edge in ((offset, offset), (end - 1, end)) if edge & _IN_PAGE]
    return not all(_are_cached(fd, _ONE_BYTE, at, 1) for at in parts)


def _are_cached(fd: int, into: list[bytearray], offset: int, size_bytes: int) -> bool:
    try:
        return os.preadv(fd, into, offset, os.RWF_NOWAIT) == size_bytes
    except OSError:
        return False
