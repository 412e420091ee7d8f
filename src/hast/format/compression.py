"""Compression of data blocks: `hole` for blocks of zeros, `lzf` for the rest (specification section 3).

The lzf stream is LibLZF's; the `lzf` module (python-lzf) does it at full speed where it is installed, plain Python
elsewhere. No I/O, no state.
"""

from __future__ import annotations

import struct

from hast.format.constants import MAX_DATA_BYTES, Compression
from hast.format.nv import Buffer

try:
    import lzf as _accelerator
except ImportError:
    _accelerator = None

ACCELERATED = _accelerator is not None

LZF_MIN_BYTES = 1024
"""lzf is tried on blocks larger than this, and used only if it saves at least this much."""

_LENGTH = struct.Struct("<I")
_ZEROS = bytes(MAX_DATA_BYTES)
_ZEROS_VIEW = memoryview(_ZEROS)
_MAX_OFFSET = 1 << 13
_MAX_MATCH = 264
_MAX_LITERALS = 32

is_prefix_of_zeros = _ZEROS.startswith
"""True for a block of at most MAX_DATA_BYTES zero bytes; decides on the first bytes that differ, without a copy."""


class CompressionError(ValueError):
    """A block that cannot be decompressed to what it claims to be."""


def is_hole(data: Buffer) -> bool:
    """Whether `data` is sent as a hole: only zeros, and a multiple of eight bytes (the reference asserts both)."""
    size = len(data)
    if size == 0 or size & 7:
        return False
    if size <= MAX_DATA_BYTES:
        return is_prefix_of_zeros(data)
    return bytes(data).count(0) == size


def zeros(size: int) -> Buffer:
    """`size` zero bytes, shared and read-only up to MAX_DATA_BYTES."""
    return _ZEROS_VIEW[:size] if size <= MAX_DATA_BYTES else bytes(size)


def compress(data: Buffer, compression: Compression) -> tuple[Compression, Buffer]:
    """What was used (NONE when it does not pay) and the bytes for the wire."""
    if compression == Compression.NONE:
        return Compression.NONE, data
    if is_hole(data):
        return Compression.HOLE, _LENGTH.pack(len(data))
    if compression == Compression.LZF and len(data) > LZF_MIN_BYTES:
        stream = lzf_compress(data, len(data) - LZF_MIN_BYTES)
        if stream is not None:
            return Compression.LZF, _LENGTH.pack(len(data)) + stream
    return Compression.NONE, data


def decompress(name: str, wire: Buffer, max_bytes: int) -> Buffer:
    """The block that `wire` stands for, by the message's field `compression`. Raises CompressionError.

    `max_bytes` bounds what is made of it; the claim inside the block is checked before anything is allocated.
    """
    if name not in ("hole", "lzf"):
        raise CompressionError(f"unknown compression {name!r}")
    if len(wire) < _LENGTH.size:
        raise CompressionError(f"{name} block of {len(wire)} bytes has no length")
    size: int = _LENGTH.unpack_from(wire)[0]
    if size > max_bytes:
        raise CompressionError(f"{name} block of {size} bytes, at most {max_bytes} are taken")
    if name == "hole":
        if size == 0 or len(wire) != _LENGTH.size:
            raise CompressionError(f"hole of {size} bytes in {len(wire)} bytes of data")
        return zeros(size)
    if size <= LZF_MIN_BYTES:
        raise CompressionError(f"lzf block of {size} bytes, only larger ones than {LZF_MIN_BYTES} may be compressed")
    return lzf_decompress(memoryview(wire)[_LENGTH.size :], size)


def lzf_compress(data: Buffer, max_bytes: int) -> bytes | None:
    """The lzf stream of `data`, or None if it takes more than `max_bytes`."""
    if _accelerator is not None:
        stream: bytes | None = _accelerator.compress(bytes(data), max_bytes)
        return stream
    return python_lzf_compress(bytes(data), max_bytes)


def lzf_decompress(stream: Buffer, size: int) -> bytes:
    """The `size` bytes of an lzf stream, exactly. Raises CompressionError."""
    data: bytes | None
    if _accelerator is not None:
        try:
            data = _accelerator.decompress(bytes(stream), size)
        except ValueError as error:
            raise CompressionError(f"bad lzf stream: {error}") from None
    else:
        data = python_lzf_decompress(bytes(stream), size)
    if data is None or len(data) != size:
        raise CompressionError(f"lzf stream of {len(stream)} bytes does not hold the {size} bytes it claims")
    return data


def python_lzf_compress(data: bytes, max_bytes: int) -> bytes | None:
    """`lzf_compress` without the accelerator. Skips ahead faster the longer nothing repeats."""
    out = bytearray()
    seen: dict[bytes, int] = {}
    end = len(data)
    literals_at = position = 0
    while position < end - 2:
        key = data[position : position + 3]
        reference = seen.get(key)
        seen[key] = position
        if reference is None or position - reference > _MAX_OFFSET:
            position += 1 + (position - literals_at >> 6)
            continue
        length = _match_length(data, reference, position, min(_MAX_MATCH, end - position))
        _put_literals(out, data[literals_at:position])
        _put_match(out, position - reference - 1, length - 2)
        if len(out) > max_bytes:
            return None
        position += length
        literals_at = position
        seen[data[position - 2 : position + 1]] = position - 2
    _put_literals(out, data[literals_at:])
    return bytes(out) if len(out) <= max_bytes else None


def _match_length(data: bytes, reference: int, position: int, limit: int) -> int:
    """How many bytes at `position` repeat those at `reference`, from 3 to `limit`, by halving."""
    if data[reference : reference + limit] == data[position : position + limit]:
        return limit
    low, high = 3, limit
    while high - low > 1:
        middle = (low + high) // 2
        if data[reference + low : reference + middle] == data[position + low : position + middle]:
            low = middle
        else:
            high = middle
    return low


def _put_literals(out: bytearray, literals: bytes) -> None:
    for at in range(0, len(literals), _MAX_LITERALS):
        run = literals[at : at + _MAX_LITERALS]
        out.append(len(run) - 1)
        out += run


def _put_match(out: bytearray, offset: int, length: int) -> None:
    if length < 7:
        out.append((length << 5) | (offset >> 8))
    else:
        out.append((7 << 5) | (offset >> 8))
        out.append(length - 7)
    out.append(offset & 0xFF)


def python_lzf_decompress(stream: bytes, size: int) -> bytes:
    """`lzf_decompress` without the accelerator. Stops as soon as more than `size` bytes come out."""
    out = bytearray()
    position = 0
    end = len(stream)
    try:
        while position < end and len(out) <= size:
            control = stream[position]
            position += 1
            if control < _MAX_LITERALS:
                run = stream[position : position + control + 1]
                if len(run) != control + 1:
                    raise CompressionError("bad lzf stream: it ends inside literals")
                out += run
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += stream[position]
                position += 1
            offset = ((control & 31) << 8) + stream[position] + 1
            position += 1
            _copy_match(out, offset, length + 2)
    except IndexError:
        raise CompressionError("bad lzf stream: it ends inside a match") from None
    if len(out) != size:
        raise CompressionError(f"lzf stream of {end} bytes does not hold the {size} bytes it claims")
    return bytes(out)


def _copy_match(out: bytearray, offset: int, length: int) -> None:
    start = len(out) - offset
    if start < 0:
        raise CompressionError("bad lzf stream: a match begins before the data")
    source = bytes(out[start : start + length])
    while len(source) < length:
        source += source
    out += source[:length]
