"""Requests on connection A, primary to secondary (specification sections 5.1, 5.2), in batches.

A plain request costs one precompiled struct; every other valid message goes through the general codec, which is also
the oracle of the tests. What is malformed inside an intact frame is delivered, with zeros for what is missing, so that
the secondary can answer EINVAL; a broken frame raises FrameError. No I/O, no state but `RequestDecoder.needed`.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

from hast.format import nv
from hast.format.checksum import SIZES_BYTES
from hast.format.compression import is_prefix_of_zeros
from hast.format.constants import MAX_BODY_BYTES, PROTOCOL_VERSION, Checksum, Command, Compression
from hast.format.frame import (
    HEADER,
    HEADER_BYTES,
    check_data_size,
    check_header,
    data_size,
    decode_body,
    pack_data,
    restore_data,
    unpack_data,
)
from hast.format.layout import Layout
from hast.format.nv import Buffer, Nv, NvType

WireRequest: TypeAlias = tuple[int, int, int, int, Buffer | None, bool]
"""(command, seq, offset, length, data, memsync); numbers that a message lacks are 0.

`data` is None for a message without a data block, and for a WRITE whose block is not `length` bytes long.
"""

_NO_CHECKSUM, _NO_COMPRESSION, _LZF = Checksum.NONE, Compression.NONE, Compression.LZF
"""Looked up here: in Python 3.11 a member of an enumeration costs as much as packing a message."""
_WRITE = int(Command.WRITE)
_KEEPALIVE = int(Command.KEEPALIVE)

_PLAIN_FIELDS = [nv.u8("cmd", 0), nv.u64("seq", 0), nv.u64("offset", 0), nv.u64("length", 0)]
_MEMSYNC = nv.u8("memsync", 1)
_MEMSYNC_FIELD = nv.encode([_MEMSYNC])
_SIZE = nv.u32("size", 0)

_PLAIN_BYTES = len(nv.encode(_PLAIN_FIELDS))
_WRITE_BYTES = len(nv.encode([*_PLAIN_FIELDS, _SIZE]))
_MEMSYNC_WRITE_BYTES = len(nv.encode([*_PLAIN_FIELDS, _MEMSYNC, _SIZE]))

_PACK_PLAIN = struct.Struct("<41sQ14sQ14sQ").pack
_PACK_WRITE = struct.Struct("<41sQ14sQ14sQ14sI4x").pack
_PACK_MEMSYNC_WRITE = struct.Struct("<41sQ14sQ14sQ36sI4x").pack


def _head(field: nv.Field) -> bytes:
    """An element up to its value of at most eight bytes."""
    return nv.encode([field])[:-8]


_OFFSET_HEAD = _head(nv.u64("offset", 0))
_LENGTH_HEAD = _head(nv.u64("length", 0))
_SIZE_HEAD = _head(_SIZE)
_MEMSYNC_SIZE_HEAD = _MEMSYNC_FIELD + _SIZE_HEAD

_COMMANDS = {int(command) for command in Command}


@functools.cache
def _prefix(version: int, command: int, body_bytes: int) -> bytes:
    """A message up to the value of `seq`."""
    return HEADER.pack(version, body_bytes) + nv.encode([nv.u8("cmd", command)]) + _head(nv.u64("seq", 0))


_VERSIONS = range(PROTOCOL_VERSION + 1)
_PLAIN_PREFIXES = [{command: _prefix(version, command, _PLAIN_BYTES) for command in _COMMANDS} for version in _VERSIONS]
_WRITE_PREFIXES = [_prefix(version, _WRITE, _WRITE_BYTES) for version in _VERSIONS]
_MEMSYNC_WRITE_PREFIXES = [_prefix(version, _WRITE, _MEMSYNC_WRITE_BYTES) for version in _VERSIONS]
_KEEPALIVES = [
    HEADER.pack(version, len(body)) + body for version in _VERSIONS for body in [nv.encode([nv.u8("cmd", _KEEPALIVE)])]
]


def encode_requests(
    batch: Sequence[WireRequest],
    version: int = PROTOCOL_VERSION,
    checksum: Checksum = Checksum.NONE,
    compression: Compression = Compression.NONE,
) -> list[Buffer]:
    """The messages of a batch as buffers for sendmsg, payloads untouched where nothing had to be compressed.

    `memsync` is for the caller to leave out at protocol version 1. Raises ValueError for a WRITE without data.
    """
    out: list[Buffer] = []
    append = out.append
    plain_prefixes = _PLAIN_PREFIXES[version]
    write_prefix = _WRITE_PREFIXES[version]
    memsync_prefix = _MEMSYNC_WRITE_PREFIXES[version]
    raw = checksum == _NO_CHECKSUM
    uncompressed = compression == _NO_COMPRESSION
    holes_only = compression != _LZF
    for command, seq, offset, length, data, memsync in batch:
        if command != _WRITE:
            if command == _KEEPALIVE:
                append(_KEEPALIVES[version])
            else:
                append(_PACK_PLAIN(plain_prefixes[command], seq, _OFFSET_HEAD, offset, _LENGTH_HEAD, length))
            continue
        if not data:
            raise ValueError(f"WRITE {seq} at {offset} has no data")
        if raw and (uncompressed or (holes_only and not is_prefix_of_zeros(data))):
            if memsync:
                append(
                    _PACK_MEMSYNC_WRITE(
                        memsync_prefix,
                        seq,
                        _OFFSET_HEAD,
                        offset,
                        _LENGTH_HEAD,
                        length,
                        _MEMSYNC_SIZE_HEAD,
                        len(data),
                    )
                )
            else:
                append(
                    _PACK_WRITE(write_prefix, seq, _OFFSET_HEAD, offset, _LENGTH_HEAD, length, _SIZE_HEAD, len(data))
                )
            append(data)
            continue
        announcement, wire = pack_data(data, checksum, compression)
        body_bytes = _PLAIN_BYTES + (len(_MEMSYNC_FIELD) if memsync else 0) + len(announcement)
        header = _PACK_PLAIN(_prefix(version, _WRITE, body_bytes), seq, _OFFSET_HEAD, offset, _LENGTH_HEAD, length)
        append(header + _MEMSYNC_FIELD + announcement if memsync else header + announcement)
        append(wire)
    return out


class _KnownBody:
    """A layout of a WRITE with data, and what its constant fields say."""

    __slots__ = ("checksum", "compression", "layout", "memsync")

    def __init__(self, memsync: bool, compression: Compression, checksum: Checksum) -> None:
        self.memsync = memsync
        self.compression = None if compression == Compression.NONE else compression.value
        self.checksum = None if checksum == Checksum.NONE else checksum.value
        fields = [*_PLAIN_FIELDS]
        if memsync:
            fields.append(_MEMSYNC)
        if self.compression is not None:
            fields.append(nv.string("compression", self.compression))
        if self.checksum is not None:
            fields += [nv.string("checksum", self.checksum), nv.u8s("hash", bytes(SIZES_BYTES[checksum]))]
        self.layout = Layout([*fields, _SIZE])


def _known_bodies() -> dict[int, tuple[_KnownBody, ...]]:
    known: dict[int, tuple[_KnownBody, ...]] = {}
    for memsync, compression, checksum in itertools.product((False, True), Compression, Checksum):
        body = _KnownBody(memsync, compression, checksum)
        known[body.layout.size] = (*known.get(body.layout.size, ()), body)
    return known


_WRITE_HEAD = nv.encode([nv.u8("cmd", _WRITE)]) + _head(nv.u64("seq", 0))
_OUR_WRITES = {
    _WRITE_BYTES: (
        struct.Struct("<36sQ14sQ14sQ14sI4x").unpack_from,
        (_WRITE_HEAD, _OFFSET_HEAD, _LENGTH_HEAD, _SIZE_HEAD),
        False,
    ),
    _MEMSYNC_WRITE_BYTES: (
        struct.Struct("<36sQ14sQ14sQ36sI4x").unpack_from,
        (_WRITE_HEAD, _OFFSET_HEAD, _LENGTH_HEAD, _MEMSYNC_SIZE_HEAD),
        True,
    ),
}
"""Bodies of a WRITE byte for byte as `encode_requests` makes them, by size; others may fill what stands between a name
and its value otherwise (layout.py)."""
_PLAIN_LAYOUT = Layout(_PLAIN_FIELDS)
_KNOWN_BODIES = _known_bodies()


class RequestDecoder:
    """Cuts what a receive buffer holds into requests."""

    __slots__ = ("_max_data_bytes", "needed")

    def __init__(self, max_data_bytes: int) -> None:
        self._max_data_bytes = max_data_bytes
        self.needed = 0
        """Bytes that the incomplete message at the tail has in all, as far as is known; 0 if there is none."""

    def decode(self, buffer: memoryview, start: int, end: int) -> tuple[list[WireRequest], int]:
        """The whole requests in `buffer[start:end]` and the number of bytes they took.

        Payloads are views into `buffer` where nothing had to be decompressed. Raises FrameError.
        """
        out: list[WireRequest] = []
        append = out.append
        position = start
        max_data_bytes = self._max_data_bytes
        unpack_header = HEADER.unpack_from
        while end - position >= HEADER_BYTES:
            version, body_bytes = unpack_header(buffer, position)
            body_at = position + HEADER_BYTES
            data_at = body_at + body_bytes
            if version > PROTOCOL_VERSION or not 0 < body_bytes <= MAX_BODY_BYTES:
                check_header(version, body_bytes, MAX_BODY_BYTES)
            if data_at > end:
                self.needed = HEADER_BYTES + body_bytes
                return out, position - start
            ours = _OUR_WRITES.get(body_bytes)
            if ours is not None:
                unpack, constants, memsync = ours
                head, seq, offset_head, offset, length_head, length, size_head, size = unpack(buffer, body_at)
                next_at = data_at + size
                if (
                    (head, offset_head, length_head, size_head) == constants
                    and size == length
                    and next_at <= end
                    and 0 < size <= max_data_bytes
                ):
                    append((_WRITE, seq, offset, length, buffer[data_at:next_at], memsync))
                    position = next_at
                    continue
            elif body_bytes == _PLAIN_BYTES:
                values = _PLAIN_LAYOUT.read(buffer, body_at)
                if values is not None:
                    append((*values, None, False))
                    position = data_at
                    continue
            request, size = self._decode_other(buffer, body_at, data_at, end)
            if request is None:
                self.needed = HEADER_BYTES + body_bytes + size
                return out, position - start
            append(request)
            position = data_at + size
        self.needed = HEADER_BYTES if position < end else 0
        return out, position - start

    def _decode_other(self, buffer: memoryview, body_at: int, data_at: int, end: int) -> tuple[WireRequest | None, int]:
        """Any message with a whole body: the request, None if its data is not all there, and the size of the data."""
        for known in _KNOWN_BODIES.get(data_at - body_at, ()):
            values = known.layout.read(buffer, body_at)
            if values is not None:
                return self._decode_known(known, values, buffer, data_at, end)
        fields = decode_body(buffer[body_at:data_at])
        size = data_size(fields, self._max_data_bytes)
        if data_at + size > end:
            return None, size
        data = unpack_data(fields, buffer[data_at : data_at + size], self._max_data_bytes) if size else None
        return _request(fields, data), size

    def _decode_known(
        self, known: _KnownBody, values: tuple[Any, ...], buffer: memoryview, data_at: int, end: int
    ) -> tuple[WireRequest | None, int]:
        command, seq, offset, length = values[:4]
        size: int = values[-1]
        check_data_size(size, self._max_data_bytes)
        if data_at + size > end:
            return None, size
        data: Buffer | None = None
        if size:
            digest = values[-2] if known.checksum is not None else None
            data = restore_data(
                buffer[data_at : data_at + size], known.compression, known.checksum, digest, self._max_data_bytes
            )
            if len(data) != length and command == _WRITE:
                data = None
        return (command, seq, offset, length, data, known.memsync), size


def _request(fields: Nv, data: Buffer | None) -> WireRequest:
    command = fields.get("cmd", NvType.UINT8) or 0
    length = fields.get("length", NvType.UINT64) or 0
    if command == _WRITE and data is not None and len(data) != length:
        data = None
    return (
        command,
        fields.get("seq", NvType.UINT64) or 0,
        fields.get("offset", NvType.UINT64) or 0,
        length,
        data,
        "memsync" in fields,
    )
