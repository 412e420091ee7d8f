"""Holes and lzf: what is compressed, that it comes back, that a bad stream is refused by both decoders."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.format import compression
from hast.format.compression import CompressionError
from hast.format.constants import MAX_DATA_BYTES, Compression

_PATTERN = bytearray(b"HASTHASThastfoob" * 256)
_PATTERN[100], _PATTERN[3000] = 1, 2
TEXT = bytes(_PATTERN)
NOISE = random.Random(1).randbytes(16384)

Decoder = Callable[[bytes, int], bytes]
DECODERS = [compression.lzf_decompress, compression.python_lzf_decompress]
ENCODERS = [compression.lzf_compress, compression.python_lzf_compress]
BLOCKS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), max_size=12).map(
    lambda pieces: b"".join(piece * count for piece, count in pieces)
)


@pytest.fixture(params=["accelerated", "plain"])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test that asks for it runs with python-lzf and without."""
    if request.param == "plain":
        monkeypatch.setattr(compression, "_accelerator", None)
    elif not compression.ACCELERATED:
        pytest.skip("python-lzf is not installed")


def test_none_leaves_data_alone() -> None:
    data = bytes(4096)
    assert compression.compress(data, Compression.NONE) == (Compression.NONE, data)


@pytest.mark.parametrize("wanted", [Compression.HOLE, Compression.LZF])
@pytest.mark.parametrize("size", [8, 512, 131072, MAX_DATA_BYTES, MAX_DATA_BYTES + 8])
def test_zeros_become_a_hole(wanted: Compression, size: int) -> None:
    used, wire = compression.compress(memoryview(bytes(size)), wanted)
    assert (used, wire) == (Compression.HOLE, struct.pack("<I", size))
    restored = compression.decompress("hole", wire, size)
    assert bytes(restored) == bytes(size)


@pytest.mark.parametrize("at", [0, 7, 8, 2048, 4095])
def test_one_byte_that_is_not_zero_makes_no_hole(at: int) -> None:
    data = bytearray(4096)
    data[at] = 1
    assert not compression.is_hole(memoryview(data))
    assert compression.compress(data, Compression.HOLE) == (Compression.NONE, data)


def test_a_large_block_with_data_makes_no_hole() -> None:
    assert not compression.is_hole(bytes(MAX_DATA_BYTES) + b"\1" * 8)


@pytest.mark.parametrize("size", [0, 4, 513])
def test_zeros_that_are_no_multiple_of_eight_make_no_hole(size: int) -> None:
    assert not compression.is_hole(bytes(size))


def test_zeros_of_a_hole_cannot_be_written_to() -> None:
    block = compression.decompress("hole", struct.pack("<I", 512), 512)
    with pytest.raises(TypeError):
        block[0] = 1  # type: ignore[index]


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize("size", [1025, 1536, 4096])
def test_lzf_is_used_where_it_saves_1024_bytes(size: int) -> None:
    data = TEXT[:size]
    used, wire = compression.compress(data, Compression.LZF)
    fits = compression.python_lzf_compress(data, size)
    assert fits is not None
    assert (used == Compression.LZF) == (len(fits) <= size - 1024)
    if used == Compression.LZF:
        assert len(wire) <= 4 + size - 1024
        assert compression.decompress("lzf", wire, size) == data


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize("data", [NOISE, b"x" * 1024, b"x" * 512], ids=["noise", "1024", "512"])
def test_noise_and_small_blocks_stay_as_they_are(data: bytes) -> None:
    assert compression.compress(data, Compression.LZF) == (Compression.NONE, data)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("encode", ENCODERS)
@pytest.mark.parametrize(
    "data",
    [TEXT, b"a" * 5000, NOISE[:3000] + NOISE[:3000], NOISE[:8192] + NOISE[:8192]],
    ids=["text", "run", "repeat", "farthest match"],
)
def test_each_decoder_reads_each_encoder(
    encode: Callable[[bytes, int], bytes | None], decode: Decoder, data: bytes
) -> None:
    stream = encode(data, len(data) - 1)
    assert stream is not None
    assert decode(stream, len(data)) == data


@settings(max_examples=100)
@given(BLOCKS)
def test_lzf_comes_back(data: bytes) -> None:
    stream = compression.python_lzf_compress(data, len(data) + len(data) // 32 + 1)
    assert stream is not None
    assert compression.python_lzf_decompress(stream, len(data)) == data
    if data:
        assert compression.lzf_decompress(stream, len(data)) == data


@given(BLOCKS, st.integers(0, 500))
def test_the_limit_of_the_encoder_holds(data: bytes, limit: int) -> None:
    stream = compression.python_lzf_compress(data, limit)
    assert stream is None or len(stream) <= limit


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(1, 300))
def test_both_decoders_agree_on_garbage(stream: bytes, size: int) -> None:
    results = []
    for decode in DECODERS:
        try:
            results.append(decode(stream, size))
        except CompressionError:
            results.append(b"refused")
    assert results[0] == results[1]


@pytest.mark.usefixtures("_either")
@pytest.mark.parametrize(
    ("name", "wire", "limit"),
    [
        pytest.param("zstd", bytes(8), 4096, id="unknown"),
        pytest.param("none", bytes(8), 4096, id="none is never named"),
        pytest.param("hole", b"\0\0\0", 4096, id="no length"),
        pytest.param("hole", struct.pack("<I", 0), 4096, id="hole of nothing"),
        pytest.param("hole", struct.pack("<II", 512, 0), 4096, id="hole with more behind"),
        pytest.param("hole", struct.pack("<I", 0xFFFFFFF8), MAX_DATA_BYTES, id="hole beyond the limit"),
        pytest.param("lzf", struct.pack("<I", 1024) + b"\x00x" + b"\xe0\xff\x00" * 4, 4096, id="lzf of 1024 bytes"),
        pytest.param("lzf", struct.pack("<I", 0xFFFFFFFF) + b"\x00x", MAX_DATA_BYTES, id="lzf beyond the limit"),
        pytest.param("lzf", struct.pack("<I", 2000), 4096, id="empty stream"),
        pytest.param("lzf", struct.pack("<I", 2000) + b"\x05abc", 4096, id="ends in literals"),
        pytest.param("lzf", struct.pack("<I", 2000) + b"\x00x\xe0", 4096, id="ends in a length"),
        pytest.param("lzf", struct.pack("<I", 2000) + b"\x00x\x20", 4096, id="ends in an offset"),
        pytest.param("lzf", struct.pack("<I", 2000) + b"\x00x\x20\x05", 4096, id="match before the start"),
        pytest.param("lzf", struct.pack("<I", 1100) + b"\x00x" + b"\xe0\xff\x00" * 5, 4096, id="more than claimed"),
        pytest.param("lzf", struct.pack("<I", 1100) + b"\x00x" + b"\xe0\xff\x00" * 3, 4096, id="less than claimed"),
    ],
)
def test_bad_blocks_are_refused(name: str, wire: bytes, limit: int) -> None:
    with pytest.raises(CompressionError):
        compression.decompress(name, wire, limit)
