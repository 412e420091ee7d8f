"""Replies on connection B, secondary to primary (specification section 5.3), in batches.

errno numbers are FreeBSD's on the wire and Linux's in the tuples. The same split as in request.py: the common replies
cost one precompiled struct, all others go through the general codec. No I/O, no state but `ReplyDecoder.needed`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

from hast.format import nv
from hast.format.compression import is_prefix_of_zeros
from hast.format.constants import MAX_BODY_BYTES, PROTOCOL_VERSION, Checksum, Compression
from hast.format.errnos import to_freebsd, to_linux
from hast.format.frame import HEADER, HEADER_BYTES, check_header, data_size, decode_body, pack_data, unpack_data
from hast.format.layout import Layout
from hast.format.nv import Buffer, NvType

WireReply: TypeAlias = tuple[int, int, bool, Buffer | None]
"""(seq, error, received, data): error is a Linux errno, 0 for success; seq is 0 where the message has none."""

_NO_CHECKSUM, _NO_COMPRESSION, _LZF = Checksum.NONE, Compression.NONE, Compression.LZF
"""Looked up here: in Python 3.11 a member of an enumeration costs as much as packing a message."""
_SEQ = nv.u64("seq", 0)
_RECEIVED = nv.i8("received", 1)
_SIZE = nv.u32("size", 0)

_PLAIN_LAYOUT = Layout([_SEQ])
_RECEIVED_LAYOUT = Layout([_SEQ, _RECEIVED])
_DATA_LAYOUT = Layout([_SEQ, _SIZE])

_PLAIN_BYTES = _PLAIN_LAYOUT.size
_RECEIVED_BYTES = _RECEIVED_LAYOUT.size
_DATA_BYTES = _DATA_LAYOUT.size

_SEQ_HEAD = nv.encode([_SEQ])[:-8]
_RECEIVED_FIELD = nv.encode([_RECEIVED])
_SIZE_HEAD = nv.encode([_SIZE])[:-8]

_PLAIN = struct.Struct("<19sQ")
_PACK_PLAIN = _PLAIN.pack
_UNPACK_PLAIN = _PLAIN.unpack_from
_PLAIN_MESSAGE_BYTES = _PLAIN.size
_PACK_RECEIVED = struct.Struct("<19sQ30s").pack
_PACK_DATA = struct.Struct("<19sQ14sI4x").pack

_VERSIONS = range(PROTOCOL_VERSION + 1)
_PLAIN_PREFIXES = [HEADER.pack(version, _PLAIN_BYTES) + _SEQ_HEAD for version in _VERSIONS]
_OUR_PLAIN_PREFIX = _PLAIN_PREFIXES[PROTOCOL_VERSION]
"""Of most messages of a peer of our kind; others may fill what stands between a name and its value otherwise."""
_RECEIVED_PREFIXES = [HEADER.pack(version, _RECEIVED_BYTES) + _SEQ_HEAD for version in _VERSIONS]
_DATA_PREFIXES = [HEADER.pack(version, _DATA_BYTES) + _SEQ_HEAD for version in _VERSIONS]


def encode_replies(
    batch: Sequence[WireReply],
    version: int = PROTOCOL_VERSION,
    checksum: Checksum = Checksum.NONE,
    compression: Compression = Compression.NONE,
) -> list[Buffer]:
    """The messages of a batch as buffers for sendmsg, payloads untouched where nothing had to be compressed."""
    out: list[Buffer] = []
    append = out.append
    plain_prefix = _PLAIN_PREFIXES[version]
    received_prefix = _RECEIVED_PREFIXES[version]
    raw = checksum == _NO_CHECKSUM
    uncompressed = compression == _NO_COMPRESSION
    holes_only = compression != _LZF
    for seq, error, received, data in batch:
        if error == 0 and data is None:
            if received:
                append(_PACK_RECEIVED(received_prefix, seq, _RECEIVED_FIELD))
            else:
                append(_PACK_PLAIN(plain_prefix, seq))
        elif (raw and data and error == 0 and not received) and (
            uncompressed or (holes_only and not is_prefix_of_zeros(data))
        ):
            append(_PACK_DATA(_DATA_PREFIXES[version], seq, _SIZE_HEAD, len(data)))
            append(data)
        else:
            out += _encode_other((seq, error, received, data), version, checksum, compression)
    return out


def _encode_other(reply: WireReply, version: int, checksum: Checksum, compression: Compression) -> list[Buffer]:
    seq, error, received, data = reply
    fields = [nv.u64("seq", seq)]
    if received:
        fields.append(_RECEIVED)
    if error:
        fields.append(nv.i16("error", to_freebsd(error)))
    body = nv.encode(fields)
    if not data or error:
        return [HEADER.pack(version, len(body)) + body]
    announcement, wire = pack_data(data, checksum, compression)
    return [HEADER.pack(version, len(body) + len(announcement)) + body + announcement, wire]


class ReplyDecoder:
    """Cuts what a receive buffer holds into replies."""

    __slots__ = ("_max_data_bytes", "needed")

    def __init__(self, max_data_bytes: int) -> None:
        self._max_data_bytes = max_data_bytes
        self.needed = 0
        """Bytes that the incomplete message at the tail has in all, as far as is known; 0 if there is none."""

    def decode(self, buffer: memoryview, start: int, end: int) -> tuple[list[WireReply], int]:
        """The whole replies in `buffer[start:end]` and the number of bytes they took.

        Payloads are views into `buffer` where nothing had to be decompressed. Raises FrameError.
        """
        out: list[WireReply] = []
        append = out.append
        position = start
        unpack_header = HEADER.unpack_from
        read_plain = _PLAIN_LAYOUT.read
        while end - position >= HEADER_BYTES:
            if end - position >= _PLAIN_MESSAGE_BYTES:
                prefix, seq = _UNPACK_PLAIN(buffer, position)
                if prefix == _OUR_PLAIN_PREFIX:
                    append((seq, 0, False, None))
                    position += _PLAIN_MESSAGE_BYTES
                    continue
            version, body_bytes = unpack_header(buffer, position)
            body_at = position + HEADER_BYTES
            data_at = body_at + body_bytes
            if version > PROTOCOL_VERSION or not 0 < body_bytes <= MAX_BODY_BYTES:
                check_header(version, body_bytes, MAX_BODY_BYTES)
            if data_at > end:
                self.needed = HEADER_BYTES + body_bytes
                return out, position - start
            if body_bytes == _PLAIN_BYTES:
                seq = read_plain(buffer, body_at)
                if seq is not None:
                    append((seq, 0, False, None))
                    position = data_at
                    continue
            reply, size = self._decode_other(buffer, body_at, data_at, end)
            if reply is None:
                self.needed = HEADER_BYTES + body_bytes + size
                return out, position - start
            append(reply)
            position = data_at + size
        self.needed = HEADER_BYTES if position < end else 0
        return out, position - start

    def _decode_other(self, buffer: memoryview, body_at: int, data_at: int, end: int) -> tuple[WireReply | None, int]:
        """Any message with a whole body: the reply, None if its data is not all there, and the size of the data."""
        body_bytes = data_at - body_at
        max_data_bytes = self._max_data_bytes
        if body_bytes == _DATA_BYTES:
            values = _DATA_LAYOUT.read(buffer, body_at)
            if values is not None and 0 < values[1] <= max_data_bytes:
                seq, size = values
                if data_at + size > end:
                    return None, size
                return (seq, 0, False, buffer[data_at : data_at + size]), size
        elif body_bytes == _RECEIVED_BYTES:
            values = _RECEIVED_LAYOUT.read(buffer, body_at)
            if values is not None:
                return (values[0], 0, True, None), 0
        fields = decode_body(buffer[body_at:data_at])
        size = data_size(fields, max_data_bytes)
        if data_at + size > end:
            return None, size
        data = unpack_data(fields, buffer[data_at : data_at + size], max_data_bytes) if size else None
        error = to_linux(fields.get("error", NvType.INT16) or 0)
        return (fields.get("seq", NvType.UINT64) or 0, error, "received" in fields, data), size
