"""Checksums of data blocks."""

from __future__ import annotations

import hashlib

import pytest

from hast.format import checksum
from hast.format.checksum import ChecksumError
from hast.format.constants import Checksum


def test_crc32_is_the_common_one_in_little_endian() -> None:
    assert checksum.compute(Checksum.CRC32, b"123456789") == (0xCBF43926).to_bytes(4, "little")


def test_sha256_is_the_plain_digest() -> None:
    assert checksum.compute(Checksum.SHA256, memoryview(b"abc")) == hashlib.sha256(b"abc").digest()


def test_none_computes_nothing() -> None:
    with pytest.raises(KeyError):
        checksum.compute(Checksum.NONE, b"abc")


@pytest.mark.parametrize("algorithm", [Checksum.CRC32, Checksum.SHA256])
def test_a_right_hash_is_accepted(algorithm: Checksum) -> None:
    checksum.verify(algorithm.value, checksum.compute(algorithm, b"data"), b"data")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("crc32", b"\0\0\0\0"),
        ("crc32", checksum.compute(Checksum.CRC32, b"data")[:3]),
        ("crc32", None),
        ("sha256", checksum.compute(Checksum.CRC32, b"data")),
        ("md5", bytes(16)),
        ("none", b""),
        ("", b""),
    ],
)
def test_a_wrong_missing_or_unknown_hash_is_refused(name: str, digest: bytes | None) -> None:
    with pytest.raises(ChecksumError):
        checksum.verify(name, digest, b"data")
