"""The NBD protocol as a server speaks it: numbers, the fixed newstyle handshake, requests, replies. No I/O, no state.

Follows the NetworkBlockDevice project's doc/proto.md. All integers are big-endian. Transmission requests are decoded
in batches straight into tuples; payloads are memoryviews into the receive buffer.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple, TypeAlias

GREETING = b"NBDMAGICIHAVEOPT"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

HANDSHAKE_FLAG_FIXED_NEWSTYLE = 1
HANDSHAKE_FLAG_NO_ZEROES = 2
SERVER_GREETING = GREETING + struct.pack(">H", HANDSHAKE_FLAG_FIXED_NEWSTYLE | HANDSHAKE_FLAG_NO_ZEROES)
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">8sII")
"""Magic, option, length of the data that follows."""
REQUEST = struct.Struct(">IHHQQI")
"""Magic, flags, type, cookie, offset, length."""
REQUEST_SIZE_BYTES = REQUEST.size
SIMPLE_REPLY = struct.Struct(">IIQ")
"""Magic, error, cookie."""
STRUCTURED_REPLY = struct.Struct(">IHHQI")
"""Magic, flags, type, cookie, length of the chunk that follows."""
READ_CHUNK = struct.Struct(">IHHQIQ")
"""A structured reply header and the offset that starts an OFFSET_DATA chunk."""
ERROR_CHUNK = struct.Struct(">IHHQIIH")
"""A structured reply header, error, and the length of the message (0)."""

MAX_OPTION_BYTES = 16 * 1024
"""Longest option data that is listened to."""
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
REPLY_FLAG_DONE = 1


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8


class OptionReply(IntEnum):
    """Reply types; errors have bit 31 set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_PLATFORM = 0x80000004
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_BLOCK_SIZE_REQD = 0x80000008
    ERR_TOO_BIG = 0x80000009


class Info(IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    ROTATIONAL = 16
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64
    SEND_DF = 128
    CAN_MULTI_CONN = 256


class CommandType(IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    FUA = 1
    NO_HOLE = 2
    DF = 4


class ReplyType(IntEnum):
    """Chunk types of structured replies."""

    NONE = 0
    OFFSET_DATA = 1
    ERROR = 0x8001


ERRORS = {1: 1, 5: 5, 12: 12, 22: 22, 28: 28, 75: 75, 95: 95, 108: 108}
"""Linux errnos that NBD knows (EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN); others go as EIO."""


class NbdError(ValueError):
    """Bytes that are not NBD; the connection is of no more use."""


class OptionRequest(NamedTuple):
    """One option haggled over: its number and its data."""

    option: int
    data: bytes


NbdRequest: TypeAlias = tuple[int, int, int, int, int, memoryview | None]
"""(flags, type, cookie, offset, length, data); `data` is the payload of a WRITE, None otherwise."""


def decode_option(buffer: bytes | bytearray | memoryview, start: int, end: int) -> tuple[OptionRequest | None, int]:
    """One option at `start`, and how many bytes it took or, when it is incomplete (None), how many it needs.

    Raises NbdError for a bad magic or more than MAX_OPTION_BYTES of data.
    """
    if end - start < OPTION.size:
        return None, OPTION.size
    magic, option, length = OPTION.unpack_from(buffer, start)
    if magic != OPTION_MAGIC:
        raise NbdError("option does not start with IHAVEOPT")
    if length > MAX_OPTION_BYTES:
        raise NbdError(f"option {option} carries {length} bytes, at most {MAX_OPTION_BYTES}")
    size = OPTION.size + length
    if end - start < size:
        return None, size
    return OptionRequest(option, bytes(buffer[start + OPTION.size : start + size])), size


def option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    """Answer to an option."""
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def decode_info_request(data: bytes) -> tuple[bytes, list[int]]:
    """Export name and information types of an INFO or GO option. Raises NbdError."""
    try:
        (name_length,) = struct.unpack_from(">I", data)
        (count,) = struct.unpack_from(">H", data, 4 + name_length)
        wanted = list(struct.unpack_from(f">{count}H", data, 6 + name_length))
    except struct.error:
        raise NbdError(f"INFO or GO data of {len(data)} bytes is cut short") from None
    if len(data) != 6 + name_length + 2 * count:
        raise NbdError("INFO or GO data is longer than it says")
    return data[4 : 4 + name_length], wanted


def export_information(size_bytes: int, flags: int) -> bytes:
    """Data of an INFO reply of type EXPORT."""
    return struct.pack(">HQH", Info.EXPORT, size_bytes, flags)


def block_size_information(minimum: int, preferred: int, maximum: int) -> bytes:
    """Data of an INFO reply of type BLOCK_SIZE; sizes in bytes."""
    return struct.pack(">HIII", Info.BLOCK_SIZE, minimum, preferred, maximum)


def name_information(name: bytes) -> bytes:
    """Data of an INFO reply of type NAME: the canonical name of the export."""
    return struct.pack(">H", Info.NAME) + name


def export_name_reply(size_bytes: int, flags: int, no_zeroes: bool) -> bytes:
    """Answer to EXPORT_NAME, which has no reply header."""
    return struct.pack(">QH", size_bytes, flags) + (b"" if no_zeroes else bytes(124))


def server_reply_data(name: bytes) -> bytes:
    """Data of a SERVER reply to LIST."""
    return struct.pack(">I", len(name)) + name


def decode_requests(
    view: memoryview, start: int, end: int, budget_bytes: int, max_requests: int
) -> tuple[list[NbdRequest], int, int]:
    """Whole requests in view[start:end]: (requests, bytes consumed, bytes the next one needs; 0 if unknown).

    Stops before a request once the lengths of READs and WRITEs so far reach `budget_bytes`, or after `max_requests`.
    Raises NbdError for a bad magic or a WRITE longer than MAX_PAYLOAD_BYTES, when no good request stands before it.
    """
    requests: list[NbdRequest] = []
    unpack, append, size = REQUEST.unpack_from, requests.append, REQUEST_SIZE_BYTES
    position, needed = start, 0
    while end - position >= size and budget_bytes > 0 and len(requests) < max_requests:
        magic, flags, kind, cookie, offset, length = unpack(view, position)
        if magic != REQUEST_MAGIC or (kind == 1 and length > MAX_PAYLOAD_BYTES):
            if requests:
                break
            raise NbdError(
                f"request does not start with the magic number but with {magic:#010x}"
                if magic != REQUEST_MAGIC
                else f"WRITE of {length} bytes, at most {MAX_PAYLOAD_BYTES}"
            )
        data = None
        if kind <= 1:
            if kind == 1:
                data_end = position + size + length
                if data_end > end:
                    needed = size + length
                    break
                data = view[position + size : data_end]
                position += length
            budget_bytes -= length
        position += size
        append((flags, kind, cookie, offset, length, data))
    return requests, position - start, needed


def simple_reply(error: int, cookie: int) -> bytes:
    """Header of a simple reply; the data of a READ follows it. `error` is an NBD error number."""
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def read_chunk(cookie: int, offset: int, length: int) -> bytes:
    """Header of a structured reply that carries all `length` bytes of a READ, which follow it."""
    return READ_CHUNK.pack(STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, ReplyType.OFFSET_DATA, cookie, length + 8, offset)


def error_chunk(cookie: int, error: int) -> bytes:
    """A structured reply that ends a READ with an error and no message."""
    return ERROR_CHUNK.pack(STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, ReplyType.ERROR, cookie, 6, error, 0)
