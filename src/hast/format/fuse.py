"""The FUSE kernel protocol, as far as one file of fixed size needs it (linux/fuse.h, protocol 7.45). No I/O, no state.

Integers are in the byte order of the machine. A request is `IN_HEADER`, then arguments that depend on the opcode; a
reply is `OUT_HEADER`, then its body. Every value that the kernel keeps over the life of a mount (node ids, handles,
negotiated flags and sizes) is a constant here, so that a worker can take over a mount it did not negotiate itself.
"""

from __future__ import annotations

import stat
import struct
from enum import IntEnum

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""length, opcode, unique, node id, uid, gid, pid, length of extensions, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""length, 0 or a negative errno, unique."""
READ_WRITE_IN = struct.Struct("=QQI")
"""Start of fuse_read_in and fuse_write_in (40 bytes each): handle, offset, size."""
HOT_IN = struct.Struct("=IIQ32xQI")
"""Header and read or write arguments in one: length, opcode, unique, offset, size."""
HOT_IN_SIZE_BYTES = IN_HEADER.size + 40
WRITE_REPLY = struct.Struct("=IiQII")
"""OUT_HEADER and fuse_write_out: bytes written, padding."""
FALLOCATE_IN = struct.Struct("=QQQI")
"""handle, offset, length, mode."""
READDIR_IN = struct.Struct("=QQI")
SETATTR_IN = struct.Struct("=IIQQ")
"""valid, padding, handle, size: the start of fuse_setattr_in."""

PAGE_BYTES = 4096
MAX_WRITE_BYTES = 1024 * 1024
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48
PROTOCOL_MAJOR = 7
PROTOCOL_MINOR = 31
ATTRIBUTES_VALID_S = 3600

ROOT_NODE = 1
FILE_NODE = 2
FILE_HANDLE = 5
DIRECTORY_HANDLE = 6
FILE_NAME = b"disk"

INIT_ASYNC_READ = 1 << 0
INIT_BIG_WRITES = 1 << 5
INIT_ASYNC_DIO = 1 << 15
INIT_PARALLEL_DIROPS = 1 << 18
INIT_MAX_PAGES = 1 << 22
INIT_EXT = 1 << 30
INIT_HAS_RESEND = 1 << 39
WANTED_FLAGS = (
    INIT_ASYNC_READ
    | INIT_BIG_WRITES
    | INIT_ASYNC_DIO
    | INIT_PARALLEL_DIROPS
    | INIT_MAX_PAGES
    | INIT_EXT
    | INIT_HAS_RESEND
)
OPEN_KEEP_CACHE = 1 << 1
SETATTR_SIZE = 1 << 3
FALLOCATE_KEEP_SIZE = 1
FALLOCATE_PUNCH_HOLE = 2
FALLOCATE_ZERO_RANGE = 16

NOTIFY_RESEND = 7
RESEND_MESSAGE = OUT_HEADER.pack(OUT_HEADER.size, NOTIFY_RESEND, 0)
"""Written to the descriptor it makes the kernel send again every request that was read and not answered."""

_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("=QQQQII")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_OPEN_OUT = struct.Struct("=QIi")
_STATFS_OUT = struct.Struct("=QQQQQIIII24x")
_DIRENT = struct.Struct("=QQII")


class Opcode(IntEnum):
    """Requests that are told apart; all others are answered with ENOSYS, which the kernel remembers."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    INTERRUPT = 36
    DESTROY = 38
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43


WITHOUT_REPLY = frozenset({Opcode.FORGET, Opcode.INTERRUPT, Opcode.DESTROY, Opcode.NOTIFY_REPLY, Opcode.BATCH_FORGET})
ACKNOWLEDGED = frozenset({Opcode.RELEASE, Opcode.FLUSH, Opcode.RELEASEDIR, Opcode.FSYNCDIR})
"""Answered with success and no body."""


def flags_offered(body: bytes) -> int:
    """The 64 flags of the kernel's INIT request. Raises struct.error when it is too short."""
    _major, _minor, _readahead, flags = _INIT_IN.unpack_from(body)
    if flags & INIT_EXT and len(body) >= _INIT_IN.size + 4:
        flags |= struct.unpack_from("=I", body, _INIT_IN.size)[0] << 32
    return int(flags)


def init_reply(body: bytes) -> bytes:
    """Body of the answer to INIT: our constants, less what the kernel did not offer. Raises struct.error."""
    flags = WANTED_FLAGS & flags_offered(body)
    return _INIT_OUT.pack(
        PROTOCOL_MAJOR,
        PROTOCOL_MINOR,
        MAX_WRITE_BYTES,
        flags & 0xFFFFFFFF,
        MAX_BACKGROUND,
        CONGESTION_THRESHOLD,
        MAX_WRITE_BYTES,
        1,
        MAX_WRITE_BYTES // PAGE_BYTES,
        0,
        flags >> 32,
    )


def attributes(node: int, size_bytes: int) -> bytes:
    """fuse_attr of the root directory or of the file."""
    is_file = node == FILE_NODE
    size = size_bytes if is_file else 0
    mode = stat.S_IFREG | 0o600 if is_file else stat.S_IFDIR | 0o700
    return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE_BYTES, 0)


def attributes_reply(node: int, size_bytes: int) -> bytes:
    """Body of the answer to GETATTR and SETATTR."""
    return struct.pack("=QII", ATTRIBUTES_VALID_S, 0, 0) + attributes(node, size_bytes)


def entry_reply(size_bytes: int) -> bytes:
    """Body of the answer to LOOKUP of the file."""
    entry = _ENTRY.pack(FILE_NODE, 0, ATTRIBUTES_VALID_S, ATTRIBUTES_VALID_S, 0, 0)
    return entry + attributes(FILE_NODE, size_bytes)


def open_reply() -> bytes:
    """Body of the answer to OPEN."""
    return _OPEN_OUT.pack(FILE_HANDLE, OPEN_KEEP_CACHE, 0)


def opendir_reply() -> bytes:
    """Body of the answer to OPENDIR."""
    return _OPEN_OUT.pack(DIRECTORY_HANDLE, 0, 0)


def readdir_reply(body: bytes) -> bytes:
    """Body of the answer to READDIR: the file, once. Raises struct.error."""
    _handle, position, _size = READDIR_IN.unpack_from(body)
    if position:
        return b""
    name = FILE_NAME + b"\0" * (-len(FILE_NAME) % 8)
    return _DIRENT.pack(FILE_NODE, 1, len(FILE_NAME), stat.S_IFREG >> 12) + name


def statfs_reply(size_bytes: int) -> bytes:
    """Body of the answer to STATFS: a full file system."""
    return _STATFS_OUT.pack(size_bytes // PAGE_BYTES, 0, 0, 2, 0, PAGE_BYTES, 255, PAGE_BYTES, 0)
