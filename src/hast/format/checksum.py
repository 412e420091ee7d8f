"""Checksums over a data block as it stands on the wire (specification section 3). No I/O, no state."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

from hast.format.constants import Checksum
from hast.format.nv import Buffer

_CRC32 = struct.Struct("<I")

SIZES_BYTES = {Checksum.CRC32: 4, Checksum.SHA256: 32}


class ChecksumError(ValueError):
    """The data is not what was sent, or the algorithm is unknown."""


def compute(algorithm: Checksum, data: Buffer) -> bytes:
    """The `hash` field for `data`: 4 bytes little-endian for crc32, 32 bytes for sha256. Not for NONE (KeyError)."""
    if algorithm == Checksum.CRC32:
        return _CRC32.pack(zlib.crc32(data))
    if algorithm == Checksum.SHA256:
        return hashlib.sha256(data).digest()
    raise KeyError(algorithm)


def verify(name: str, expected: bytes | None, data: Buffer) -> None:
    """Check `data` against the fields `checksum` and `hash` of its message. Raises ChecksumError."""
    if name not in _BY_NAME:
        raise ChecksumError(f"unknown checksum {name!r}")
    if expected is None or not hmac.compare_digest(compute(_BY_NAME[name], data), expected):
        raise ChecksumError(f"{name} of {len(data)} bytes of data does not match")


_BY_NAME: dict[str, Checksum] = {algorithm.value: algorithm for algorithm in SIZES_BYTES}
