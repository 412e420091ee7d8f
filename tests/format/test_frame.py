"""Framing: every vector read and written bit for bit, limits, and streams in any pieces."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector, joined, message

from hast.format import frame, nv
from hast.format.constants import Checksum, Compression
from hast.format.frame import FrameDecoder, FrameError
from hast.format.nv import NvError, NvType

MESSAGES = [f"{n:02}" for n in [*range(1, 23), *range(30, 37), 40, 41]]
DATA_FIELDS = {"compression", "checksum", "hash", "size"}
SMALL = [nv.u8("cmd", 5)]


def decode(wire: bytes, max_body_bytes: int = 1 << 16, max_data_bytes: int = 1 << 20) -> frame.Frame:
    decoder = FrameDecoder(max_body_bytes, max_data_bytes)
    decoder.feed(wire)
    result = decoder.next()
    assert result is not None
    assert decoder.next() is None
    assert decoder.buffered_bytes == 0
    return result


@pytest.mark.parametrize("number", MESSAGES)
def test_vectors_are_read_and_written_bit_for_bit(vector: Vector, number: str) -> None:
    wire = vector(number)
    read = decode(wire)
    fields = [field for field in read.nv if field[0] not in DATA_FIELDS]
    compression = Compression(read.nv.get("compression", NvType.STRING) or "none")
    checksum = Checksum(read.nv.get("checksum", NvType.STRING) or "none")
    written = joined(frame.encode(read.version, fields, read.data, checksum, compression))
    if compression == Compression.LZF:
        again = decode(written)
        assert again.data == read.data
        assert [f[:2] for f in again.nv] == [f[:2] for f in read.nv]
    else:
        assert written == wire


def test_the_data_of_the_vectors_is_what_their_readme_says(vector: Vector) -> None:
    pattern = bytes((7 * i + 3) % 256 for i in range(512))
    text = bytearray(b"HASTHASThastfoob" * 256)
    text[100], text[3000] = 1, 2
    expected = {"10": pattern, "11": pattern, "12": bytes(131072), "13": bytes(text), "14": pattern, "16": pattern}
    for number, data in expected.items():
        read = decode(vector(number))
        assert read.data is not None
        assert bytes(read.data) == data


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.data())
def test_streams_are_cut_into_messages_whatever_the_pieces(kinds: list[int], data: st.DataObject) -> None:
    makers = [
        lambda: frame.encode(2, SMALL),
        lambda: frame.encode(1, [nv.u64("seq", 9)], b"abcd" * 99, Checksum.SHA256, Compression.LZF),
        lambda: frame.encode(0, [nv.u64("seq", 9)], bytes(4096), Checksum.CRC32, Compression.HOLE),
    ]
    stream = b"".join(joined(makers[kind]()) for kind in kinds)
    decoder = FrameDecoder(1 << 16, 1 << 16)
    frames = []
    while stream:
        missing = decoder.needed
        assert 0 < missing <= len(stream)
        size = min(data.draw(st.integers(1, 200)), len(stream))
        decoder.feed(stream[:size])
        stream = stream[size:]
        while (read := decoder.next()) is not None:
            frames.append(read)
    assert decoder.buffered_bytes == 0
    assert [read.version for read in frames] == [(2, 1, 0)[kind] for kind in kinds]
    expected = [None, b"abcd" * 99, bytes(4096)]
    assert [None if read.data is None else bytes(read.data) for read in frames] == [expected[kind] for kind in kinds]


def test_needed_counts_down_to_the_message_and_never_past_it() -> None:
    wire = joined(frame.encode(2, [nv.u64("seq", 9)], bytes(range(100))))
    decoder = FrameDecoder(1 << 16, 1 << 16)
    rest = wire
    while rest:
        size = decoder.needed
        decoder.feed(rest[:size])
        rest = rest[size:]
        read = decoder.next()
    assert read is not None
    decoder.feed(joined(frame.encode(2, SMALL)) + b"extra")
    assert decoder.needed == 0


def test_empty_data_is_no_data() -> None:
    assert joined(frame.encode(2, SMALL, b"")) == joined(frame.encode(2, SMALL))


def test_a_message_without_fields_is_never_sent() -> None:
    with pytest.raises(NvError):
        frame.encode(2, [])


HASHED = [nv.u64("seq", 1), nv.string("checksum", "crc32"), nv.u8s("hash", b"1234"), nv.u32("size", 4)]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(message(SMALL, version=3), id="version 3"),
        pytest.param(message([]), id="no body"),
        pytest.param(b"\2\xff\xff\xff\xff", id="body of 4 GiB"),
        pytest.param(b"\2\x01\x00\x01\x00", id="body beyond the limit"),
        pytest.param(b"\2\x09\0\0\0" + b"\x02" * 9, id="body that is no list"),
        pytest.param(message([nv.u32("size", 65537)]), id="data beyond the limit"),
        pytest.param(message(HASHED, b"data"), id="wrong hash"),
        pytest.param(message([nv.string("checksum", "crc32"), nv.u32("size", 4)], b"data"), id="no hash"),
        pytest.param(message([nv.string("compression", "zstd"), nv.u32("size", 4)], b"data"), id="unknown compression"),
        pytest.param(
            message([nv.string("compression", "hole"), nv.u32("size", 4)], b"\0\0\1\1"), id="hole beyond the limit"
        ),
    ],
)
def test_bad_messages_end_the_stream_for_good(wire: bytes) -> None:
    decoder = FrameDecoder(1 << 16, 1 << 16)
    decoder.feed(wire)
    with pytest.raises(FrameError) as first:
        decoder.next()
    decoder.feed(joined(frame.encode(2, SMALL)))
    with pytest.raises(FrameError) as second:
        decoder.next()
    assert str(first.value) == str(second.value)
    assert "\n" not in str(first.value)


def test_size_of_another_type_announces_no_data() -> None:
    assert decode(message([nv.u64("size", 4)])).data is None


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_garbage_raises_nothing_but_frame_error(stream: bytes) -> None:
    decoder = FrameDecoder(1 << 10, 1 << 10)
    decoder.feed(stream)
    try:
        while decoder.next() is not None:
            pass
    except FrameError:
        pass


@settings(max_examples=200)
@given(st.data())
def test_damaged_messages_raise_nothing_but_frame_error(data: st.DataObject) -> None:
    wire = bytearray(joined(frame.encode(2, [nv.u64("seq", 9)], b"abcd" * 600, Checksum.CRC32, Compression.LZF)))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder(1 << 16, 1 << 16)
    decoder.feed(wire)
    try:
        decoder.next()
    except FrameError:
        pass
