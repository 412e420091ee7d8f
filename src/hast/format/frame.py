"""Messages: a 5-byte header, a name-value body, an optional data block (specification section 3).

Data is compressed, then checksummed over the bytes as they go out; a receiver undoes both as the fields of the message
say, whatever its own configuration. No I/O; `FrameDecoder` keeps only the bytes of one stream that are not used yet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from hast.format import checksum as checksums
from hast.format import compression as compressions
from hast.format import nv
from hast.format.checksum import ChecksumError
from hast.format.compression import CompressionError
from hast.format.constants import PROTOCOL_VERSION, Checksum, Compression
from hast.format.nv import Buffer, Field, Nv, NvError, NvType

HEADER = struct.Struct("<BI")
"""Version, length of the body in bytes."""
HEADER_BYTES = HEADER.size


class FrameError(ValueError):
    """A message that cannot be taken; the stream cannot be trusted any more and has to be closed."""


class Frame(NamedTuple):
    """One message. `data` is verified and decompressed, None where there is none."""

    version: int
    nv: Nv
    data: Buffer | None


_COMPRESSION_FIELD = {
    Compression.NONE: b"",
    Compression.HOLE: nv.encode([nv.string("compression", "hole")]),
    Compression.LZF: nv.encode([nv.string("compression", "lzf")]),
}
_HASH_FIELDS = {
    algorithm: (nv.encode([nv.string("checksum", algorithm), nv.u8s("hash", bytes(size))])[: -nv.padded(size)], size)
    for algorithm, size in checksums.SIZES_BYTES.items()
}
"""The fields `checksum` and `hash` up to the hash itself, and the size of the hash in bytes."""
_SIZE_FIELD = struct.Struct("<14sI4x")
_SIZE_HEAD = nv.encode([nv.u32("size", 0)])[:14]


def pack_data(data: Buffer, checksum: Checksum, compression: Compression) -> tuple[bytes, Buffer]:
    """The fields that announce a non-empty data block, encoded, and the block as it goes on the wire."""
    used, wire = compressions.compress(data, compression)
    size_field = _SIZE_FIELD.pack(_SIZE_HEAD, len(wire))
    if checksum == Checksum.NONE:
        return _COMPRESSION_FIELD[used] + size_field, wire
    head, size = _HASH_FIELDS[checksum]
    digest = checksums.compute(checksum, wire).ljust(nv.padded(size), b"\0")
    return _COMPRESSION_FIELD[used] + head + digest + size_field, wire


def unpack_data(fields: Nv, wire: Buffer, max_data_bytes: int) -> Buffer:
    """Verify and decompress the block that came with `fields`. Raises FrameError."""
    return restore_data(
        wire,
        fields.get("compression", NvType.STRING),
        fields.get("checksum", NvType.STRING),
        fields.get("hash", NvType.UINT8_ARRAY),
        max_data_bytes,
    )


def restore_data(
    wire: Buffer, compression: str | None, checksum: str | None, digest: bytes | None, max_data_bytes: int
) -> Buffer:
    """`unpack_data` with the values of the fields, None for a field that is absent. Raises FrameError."""
    try:
        if checksum is not None:
            checksums.verify(checksum, digest, wire)
        if compression is not None:
            return compressions.decompress(compression, wire, max_data_bytes)
    except (ChecksumError, CompressionError) as error:
        raise FrameError(str(error)) from None
    return wire


def encode(
    version: int,
    fields: Iterable[Field],
    data: Buffer | None = None,
    checksum: Checksum = Checksum.NONE,
    compression: Compression = Compression.NONE,
) -> list[Buffer]:
    """One message as buffers for sendmsg. Empty data is no data. Raises NvError for fields that cannot be sent."""
    body = nv.encode(fields)
    if data is not None and len(data):
        announcement, wire = pack_data(data, checksum, compression)
        body += announcement
        return [HEADER.pack(version, len(body)) + body, wire]
    if not body:
        raise NvError("a message needs at least one field")
    return [HEADER.pack(version, len(body)) + body]


def check_header(version: int, body_bytes: int, max_body_bytes: int) -> None:
    """Raises FrameError for a header whose message cannot be taken."""
    if version > PROTOCOL_VERSION:
        raise FrameError(f"message of protocol version {version}, at most {PROTOCOL_VERSION} is understood")
    if not 0 < body_bytes <= max_body_bytes:
        raise FrameError(f"message body of {body_bytes} bytes, from 1 to {max_body_bytes} are taken")


def decode_body(body: Buffer) -> Nv:
    """The fields of a message. Raises FrameError."""
    try:
        return nv.decode(body)
    except NvError as error:
        raise FrameError(f"bad message body: {error}") from None


def data_size(fields: Nv, max_data_bytes: int) -> int:
    """Bytes of data on the wire behind these fields, 0 for none. Raises FrameError beyond `max_data_bytes`."""
    return check_data_size(fields.get("size", NvType.UINT32) or 0, max_data_bytes)


def check_data_size(size: int, max_data_bytes: int) -> int:
    """`size` if it may be taken. Raises FrameError."""
    if size > max_data_bytes:
        raise FrameError(f"data block of {size} bytes, at most {max_data_bytes} are taken")
    return size


class FrameDecoder:
    """Cuts one stream into messages. After a FrameError the stream is lost: every later call raises it again."""

    def __init__(self, max_body_bytes: int, max_data_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._max_data_bytes = max_data_bytes
        self._buffer = bytearray()
        self._fields: tuple[int, Nv, int] | None = None
        self._error: FrameError | None = None

    def feed(self, data: Buffer) -> None:
        """Add received bytes; call `next` until it returns None before feeding more."""
        self._buffer += data

    @property
    def needed(self) -> int:
        """Bytes missing to the end of the next message, as far as is known yet; at least 1 unless it is complete."""
        if self._fields is not None:
            return max(self._fields[2] - len(self._buffer), 0)
        if len(self._buffer) < HEADER.size:
            return HEADER.size - len(self._buffer)
        body_bytes: int = HEADER.unpack_from(self._buffer)[1]
        return max(HEADER.size + body_bytes - len(self._buffer), 0)

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet returned as part of a message."""
        return len(self._buffer)

    def next(self) -> Frame | None:
        """The next whole message, or None until more bytes are fed. Raises FrameError."""
        if self._error is not None:
            raise self._error
        try:
            return self._next()
        except FrameError as error:
            self._error = error
            self._buffer.clear()
            raise

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if self._fields is None and not self._read_fields():
            return None
        assert self._fields is not None
        version, fields, size = self._fields
        if len(buffer) < size:
            return None
        data: Buffer | None = None
        if size:
            data = unpack_data(fields, bytes(buffer[:size]), self._max_data_bytes)
            del buffer[:size]
        self._fields = None
        return Frame(version, fields, data)

    def _read_fields(self) -> bool:
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return False
        version, body_bytes = HEADER.unpack_from(buffer)
        check_header(version, body_bytes, self._max_body_bytes)
        if len(buffer) < HEADER.size + body_bytes:
            return False
        fields = decode_body(buffer[HEADER.size : HEADER.size + body_bytes])
        self._fields = version, fields, data_size(fields, self._max_data_bytes)
        del buffer[: HEADER.size + body_bytes]
        return True
