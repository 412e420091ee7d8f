"""Requests: vectors, the fast path against the general codec, malformed requests delivered, broken frames refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector, joined, message

from hast.format import frame, nv
from hast.format.constants import MAX_DATA_BYTES, Checksum, Command, Compression
from hast.format.frame import FrameDecoder, FrameError
from hast.format.nv import Field
from hast.format.request import RequestDecoder, WireRequest, encode_requests

PATTERN = bytes((7 * i + 3) % 256 for i in range(512))
TEXT = bytearray(b"HASTHASThastfoob" * 256)
TEXT[100], TEXT[3000] = 1, 2

PLAIN = [Command.READ, Command.DELETE, Command.FLUSH, Command.ZERO, Command.PING, Command.SYNC_BEGIN]
U64 = st.integers(0, 2**64 - 1)
PAYLOADS = st.sampled_from([PATTERN, bytes(512), bytes(8) + PATTERN, bytes(TEXT), bytes(4096), b"q" * 2000, b"\0" * 7])
WRITES = st.builds(
    lambda seq, offset, data, memsync: (2, seq, offset, len(data), data, memsync), U64, U64, PAYLOADS, st.booleans()
)
OTHERS = st.builds(
    lambda op, seq, offset, length: (int(op), seq, offset, length, None, False), st.sampled_from(PLAIN), U64, U64, U64
)
REQUESTS = st.one_of(WRITES, OTHERS, st.just((5, 0, 0, 0, None, False)))


def decode(wire: bytes, max_data_bytes: int = MAX_DATA_BYTES) -> list[WireRequest]:
    """All requests of a stream that ends with a whole message, with data as bytes."""
    decoder = RequestDecoder(max_data_bytes)
    view = memoryview(b"??" + wire + b"??")
    requests, consumed = decoder.decode(view, 2, 2 + len(wire))
    assert consumed == len(wire)
    assert decoder.needed == 0
    return [plain(request) for request in requests]


def plain(request: WireRequest) -> WireRequest:
    command, seq, offset, length, data, memsync = request
    return command, seq, offset, length, None if data is None else bytes(data), memsync


def fields_of(request: WireRequest) -> list[Field]:
    command, seq, offset, length, _data, memsync = request
    fields = [nv.u8("cmd", command)]
    if command != Command.KEEPALIVE:
        fields += [nv.u64("seq", seq), nv.u64("offset", offset), nv.u64("length", length)]
    return [*fields, nv.u8("memsync", 1)] if memsync else fields


@pytest.mark.parametrize(
    ("number", "request_", "checksum", "compression"),
    [
        ("10", (2, 2, 0x100000, 512, PATTERN, True), Checksum.NONE, Compression.NONE),
        ("10", (2, 2, 0x100000, 512, PATTERN, True), Checksum.NONE, Compression.HOLE),
        ("11", (2, 3, 0x100200, 512, PATTERN, False), Checksum.NONE, Compression.HOLE),
        ("12", (2, 4, 0, 131072, bytes(131072), True), Checksum.CRC32, Compression.HOLE),
        ("12", (2, 4, 0, 131072, bytes(131072), True), Checksum.CRC32, Compression.LZF),
        ("14", (2, 6, 0x100200, 512, PATTERN, False), Checksum.CRC32, Compression.NONE),
        ("15", (1, 7, 0x100200, 512, None, False), Checksum.CRC32, Compression.LZF),
        ("17", (3, 8, 0x200000, 4 << 20, None, False), Checksum.NONE, Compression.NONE),
        ("18", (4, 9, 0, 0, None, False), Checksum.SHA256, Compression.HOLE),
        ("19", (5, 0, 0, 0, None, False), Checksum.NONE, Compression.NONE),
    ],
)
def test_vectors_are_read_and_written_bit_for_bit(
    vector: Vector, number: str, request_: WireRequest, checksum: Checksum, compression: Compression
) -> None:
    wire = vector(number)
    (read,) = decode(wire)
    assert read == request_
    assert joined(encode_requests([request_], 2, checksum, compression)) == wire


def test_the_lzf_vector_is_read(vector: Vector) -> None:
    (read,) = decode(vector("13"))
    assert read[:2] == (2, 5)
    assert read[4] == TEXT


@settings(max_examples=60)
@given(st.lists(REQUESTS, max_size=6), st.sampled_from(Checksum), st.sampled_from(Compression), st.integers(0, 2))
def test_what_is_encoded_is_decoded_and_is_what_the_general_codec_makes(
    batch: list[WireRequest], checksum: Checksum, compression: Compression, version: int
) -> None:
    wire = joined(encode_requests(batch, version, checksum, compression))
    oracle = [frame.encode(version, fields_of(r), r[4], checksum, compression) for r in batch]
    assert wire == b"".join(joined(buffers) for buffers in oracle)
    assert decode(wire) == batch


@settings(max_examples=60)
@given(REQUESTS, st.sampled_from(Checksum), st.sampled_from(Compression), st.integers(0, 1000))
def test_garbage_in_name_padding_changes_nothing(
    request_: WireRequest, checksum: Checksum, compression: Compression, seed: int
) -> None:
    wire = joined(encode_requests([request_], 2, checksum, compression))
    decoder = FrameDecoder(1 << 16, MAX_DATA_BYTES)
    decoder.feed(wire)
    read = decoder.next()
    assert read is not None
    body_end = 5 + read.nv.size_bytes
    assert decode(message(read.nv, wire[body_end:], padding_seed=seed)) == [request_]


@settings(max_examples=60)
@given(REQUESTS, st.data())
def test_the_order_of_the_fields_does_not_matter(request_: WireRequest, data: st.DataObject) -> None:
    payload = bytes(request_[4] or b"")
    fields = [*fields_of(request_), *([nv.u32("size", len(payload))] if payload else []), nv.string("more", "later")]
    assert decode(message(data.draw(st.permutations(fields)), payload)) == [request_]


def test_payloads_are_neither_copied_when_sent_nor_when_received() -> None:
    payload = memoryview(PATTERN)
    header, sent = encode_requests([(2, 1, 0, 512, payload, False)], 2, Checksum.NONE, Compression.HOLE)
    assert sent is payload
    buffer = bytearray(bytes(header) + PATTERN)
    (request,), _consumed = RequestDecoder(4096).decode(memoryview(buffer), 0, len(buffer))
    assert isinstance(request[4], memoryview)
    assert request[4].obj is buffer


@pytest.mark.parametrize("memsync", [False, True])
@pytest.mark.parametrize("checksum", Checksum)
@pytest.mark.parametrize("compression", Compression)
def test_needed_tells_the_size_of_the_message_at_the_tail(
    memsync: bool, checksum: Checksum, compression: Compression
) -> None:
    wire = joined(encode_requests([(2, 1, 0, 512, PATTERN, memsync)], 2, checksum, compression))
    body_end = len(wire) - 512
    decoder = RequestDecoder(4096)
    for end in range(1, len(wire)):
        assert decoder.decode(memoryview(wire), 0, end) == ([], 0)
        assert decoder.needed == (5 if end < 5 else body_end if end < body_end else len(wire))
    two = memoryview(wire + wire[:7])
    requests, consumed = decoder.decode(two, 0, len(two))
    assert (len(requests), consumed, decoder.needed) == (1, len(wire), body_end)


def test_a_write_without_data_is_never_sent() -> None:
    with pytest.raises(ValueError, match="no data"):
        encode_requests([(2, 1, 0, 512, None, False)])


CMD, SEQ, OFFSET, LENGTH = nv.u8("cmd", 2), nv.u64("seq", 7), nv.u64("offset", 512), nv.u64("length", 4)
SIZE = nv.u32("size", 4)
WRITE = [CMD, SEQ, OFFSET, LENGTH]
HOLE = nv.string("compression", "hole")


def other(command: int) -> Field:
    return nv.u8("cmd", command)


def long(length: int) -> Field:
    return nv.u64("length", length)


MALFORMED: dict[str, tuple[list[Field], bytes, WireRequest]] = {
    "no cmd": ([SEQ, OFFSET, LENGTH], b"", (0, 7, 512, 4, None, False)),
    "cmd of another type": ([nv.i16("cmd", 2), SEQ], b"", (0, 7, 0, 0, None, False)),
    "unknown cmd": ([other(9), SEQ], b"", (9, 7, 0, 0, None, False)),
    "unknown cmd, else plain": ([other(9), SEQ, OFFSET, LENGTH], b"", (9, 7, 512, 4, None, False)),
    "no seq": ([other(1), OFFSET, LENGTH], b"", (1, 0, 512, 4, None, False)),
    "no offset": ([other(1), SEQ, LENGTH], b"", (1, 7, 0, 4, None, False)),
    "no length": ([other(1), SEQ, OFFSET], b"", (1, 7, 512, 0, None, False)),
    "flush without range": ([other(4), SEQ], b"", (4, 7, 0, 0, None, False)),
    "write without size": (WRITE, b"", (2, 7, 512, 4, None, False)),
    "write of size 0": ([*WRITE, nv.u32("size", 0)], b"", (2, 7, 512, 4, None, False)),
    "too little data": ([CMD, SEQ, OFFSET, long(8), SIZE], b"data", (2, 7, 512, 8, None, False)),
    "too much data": ([CMD, SEQ, OFFSET, long(2), SIZE], b"data", (2, 7, 512, 2, None, False)),
    "write without length": ([CMD, SEQ, OFFSET, SIZE], b"data", (2, 7, 512, 0, None, False)),
    "another order": ([SIZE, *WRITE], b"data", (2, 7, 512, 4, b"data", False)),
    "delete with data": ([other(3), SEQ, OFFSET, LENGTH, SIZE], b"data", (3, 7, 512, 4, b"data", False)),
    "delete with more data": ([other(3), SEQ, OFFSET, long(2), SIZE], b"data", (3, 7, 512, 2, b"data", False)),
    "keepalive with data": ([other(5), SIZE], b"data", (5, 0, 0, 0, b"data", False)),
    "memsync of another type": ([*WRITE, nv.string("memsync", ""), SIZE], b"data", (2, 7, 512, 4, b"data", True)),
    "memsync read": ([other(1), SEQ, OFFSET, LENGTH, nv.u8("memsync", 0)], b"", (1, 7, 512, 4, None, True)),
    "hole": ([*WRITE[:3], long(256), HOLE, SIZE], b"\0\1\0\0", (2, 7, 512, 256, bytes(256), False)),
    "hole of another length": ([*WRITE[:3], long(512), HOLE, SIZE], b"\0\1\0\0", (2, 7, 512, 512, None, False)),
}


@pytest.mark.parametrize(("fields", "data", "expected"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_in_whole_frames_are_delivered(
    fields: list[Field], data: bytes, expected: WireRequest
) -> None:
    after = joined(encode_requests([(4, 8, 0, 0, None, False)]))
    assert decode(message(fields, data) + after) == [expected, (4, 8, 0, 0, None, False)]


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        pytest.param([], b"", id="no body"),
        pytest.param([*WRITE, nv.u32("size", 4097)], b"", id="data beyond the limit"),
        pytest.param([*WRITE, nv.u8("memsync", 1), nv.u32("size", 4097)], b"", id="memsync data beyond the limit"),
        pytest.param([*WRITE[:3], nv.u64("length", 4097), nv.u32("size", 4097)], bytes(4097), id="all there, too much"),
        pytest.param([nv.u32("size", 4097), *WRITE], b"", id="general path beyond the limit"),
        pytest.param([*WRITE, nv.string("checksum", "crc32"), nv.u8s("hash", b"1234"), SIZE], b"data", id="bad crc"),
        pytest.param([*WRITE, nv.string("checksum", "sha256"), nv.u8s("hash", bytes(32)), SIZE], b"data", id="bad sha"),
        pytest.param([*WRITE, nv.string("checksum", "md5"), nv.u8s("hash", bytes(16)), SIZE], b"data", id="md5"),
        pytest.param([*WRITE, nv.string("checksum", "crc32"), SIZE], b"data", id="no hash"),
        pytest.param([*WRITE, nv.string("compression", "zstd"), SIZE], b"data", id="zstd"),
        pytest.param([*WRITE, nv.string("compression", "lzf"), SIZE], b"\0\0\0\0", id="bad lzf"),
        pytest.param([*WRITE, nv.string("compression", "hole"), SIZE], b"\0\0\1\0", id="hole beyond the limit"),
    ],
)
def test_broken_frames_are_refused(fields: list[Field], data: bytes) -> None:
    wire = memoryview(message(fields, data))
    with pytest.raises(FrameError):
        RequestDecoder(4096).decode(wire, 0, len(wire))


@pytest.mark.parametrize("header", [b"\3\x16\0\0\0", b"\2\0\0\0\0", b"\2\1\0\1\0", b"\2\xff\xff\xff\xff"])
def test_bad_headers_are_refused_before_their_body_is_awaited(header: bytes) -> None:
    with pytest.raises(FrameError):
        RequestDecoder(4096).decode(memoryview(header), 0, 5)


def outcome(wire: bytes) -> Any:
    """What the batch decoder makes of one message: a request, nothing yet, or a refusal."""
    decoder = RequestDecoder(4096)
    try:
        requests, consumed = decoder.decode(memoryview(wire), 0, len(wire))
    except FrameError:
        return "refused"
    assert consumed <= len(wire)
    return [plain(request) for request in requests]


def oracle(wire: bytes) -> Any:
    """The same by the general codec alone."""
    decoder = FrameDecoder(1 << 16, 4096)
    decoder.feed(wire)
    requests = []
    try:
        while (read := decoder.next()) is not None:
            get = read.nv.get
            command, length = get("cmd", nv.NvType.UINT8) or 0, get("length", nv.NvType.UINT64) or 0
            seq, offset = get("seq", nv.NvType.UINT64) or 0, get("offset", nv.NvType.UINT64) or 0
            data = None if read.data is None else bytes(read.data)
            if command == Command.WRITE and data is not None and len(data) != length:
                data = None
            requests.append((command, seq, offset, length, data, "memsync" in read.nv))
    except FrameError:
        return "refused"
    return requests


@settings(max_examples=400)
@given(REQUESTS, st.sampled_from(Checksum), st.sampled_from(Compression), st.data())
def test_damaged_requests_are_judged_as_by_the_general_codec(
    request_: WireRequest, checksum: Checksum, compression: Compression, data: st.DataObject
) -> None:
    wire = bytearray(joined(encode_requests([request_], 2, checksum, compression)))
    body_end = 5 + int.from_bytes(wire[1:5], "little")
    at = data.draw(st.integers(0, body_end - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    assert outcome(bytes(wire)) == oracle(bytes(wire))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_frame_error(stream: bytes) -> None:
    assert outcome(stream) == oracle(stream)
