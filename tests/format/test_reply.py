"""Replies: vectors, the fast path against the general codec, errno numbers translated, garbage refused."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector, joined, message

from hast.format import frame, nv
from hast.format.constants import MAX_DATA_BYTES, Checksum, Compression
from hast.format.errnos import to_freebsd, to_linux
from hast.format.frame import FrameDecoder, FrameError
from hast.format.nv import Field
from hast.format.reply import ReplyDecoder, WireReply, encode_replies

PATTERN = bytes((7 * i + 3) % 256 for i in range(512))
U64 = st.integers(0, 2**64 - 1)
ERRORS = st.sampled_from([errno.EIO, errno.EINVAL, errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSPC])
PAYLOADS = st.sampled_from([PATTERN, bytes(512), b"q" * 4096])
REPLIES = st.one_of(
    st.tuples(U64, st.just(0), st.booleans(), st.none()),
    st.tuples(U64, ERRORS, st.booleans(), st.none()),
    st.tuples(U64, st.just(0), st.booleans(), PAYLOADS),
)


def decode(wire: bytes) -> list[WireReply]:
    decoder = ReplyDecoder(MAX_DATA_BYTES)
    view = memoryview(b"??" + wire + b"??")
    replies, consumed = decoder.decode(view, 2, 2 + len(wire))
    assert consumed == len(wire)
    assert decoder.needed == 0
    return [plain(reply) for reply in replies]


def plain(reply: WireReply) -> WireReply:
    return (*reply[:3], None if reply[3] is None else bytes(reply[3]))


def fields_of(reply: WireReply) -> list[Field]:
    seq, error, received, _data = reply
    fields = [nv.u64("seq", seq)]
    if received:
        fields.append(nv.i8("received", 1))
    if error:
        fields.append(nv.i16("error", to_freebsd(error)))
    return fields


@pytest.mark.parametrize(
    ("number", "reply"),
    [
        ("16", (7, 0, False, PATTERN)),
        ("20", (2, 0, True, None)),
        ("21", (2, 0, False, None)),
        ("22", (3, errno.EIO, False, None)),
    ],
)
def test_vectors_are_read_and_written_bit_for_bit(vector: Vector, number: str, reply: WireReply) -> None:
    wire = vector(number)
    assert decode(wire) == [reply]
    assert joined(encode_replies([reply], 2, Checksum.NONE, Compression.HOLE)) == wire


@settings(max_examples=60)
@given(st.lists(REPLIES, max_size=6), st.sampled_from(Checksum), st.sampled_from(Compression), st.integers(0, 2))
def test_what_is_encoded_is_decoded_and_is_what_the_general_codec_makes(
    batch: list[WireReply], checksum: Checksum, compression: Compression, version: int
) -> None:
    wire = joined(encode_replies(batch, version, checksum, compression))
    oracle = [frame.encode(version, fields_of(reply), reply[3], checksum, compression) for reply in batch]
    assert wire == b"".join(joined(buffers) for buffers in oracle)
    assert decode(wire) == batch


def test_an_error_carries_no_data() -> None:
    assert decode(joined(encode_replies([(7, errno.EIO, False, PATTERN)]))) == [(7, errno.EIO, False, None)]


def test_a_rejected_memsync_write_says_received_and_error_in_one_reply() -> None:
    assert decode(joined(encode_replies([(7, errno.EINVAL, True, None)]))) == [(7, errno.EINVAL, True, None)]


def test_errors_are_freebsd_numbers_on_the_wire() -> None:
    wire = joined(encode_replies([(7, errno.EOPNOTSUPP, False, None)]))
    assert wire == message([nv.u64("seq", 7), nv.i16("error", 45)])


@pytest.mark.parametrize(
    ("fields", "data", "expected"),
    [
        pytest.param([nv.i8("received", 1)], b"", (0, 0, True, None), id="no seq"),
        pytest.param([nv.u32("seq", 7)], b"", (0, 0, False, None), id="seq of another type"),
        pytest.param([nv.u64("seq", 7), nv.u8("received", 0)], b"", (7, 0, True, None), id="received of another type"),
        pytest.param([nv.u64("seq", 7), nv.i16("error", 73)], b"", (7, errno.EIO, False, None), id="unknown errno"),
        pytest.param([nv.u64("seq", 7), nv.i16("error", -3)], b"", (7, errno.EIO, False, None), id="negative errno"),
        pytest.param([nv.u64("seq", 7), nv.u32("size", 0)], b"", (7, 0, False, None), id="size 0"),
        pytest.param([nv.u32("size", 4), nv.u64("seq", 7)], b"data", (7, 0, False, b"data"), id="another order"),
        pytest.param([nv.u64("seq", 7), nv.u32("other", 4)], b"", (7, 0, False, None), id="looks like data"),
        pytest.param([nv.u64("sec", 7)], b"", (0, 0, False, None), id="looks like seq"),
        pytest.param([nv.u64("seq", 7), nv.i8("recieved", 1)], b"", (7, 0, False, None), id="looks like received"),
    ],
)
def test_unusual_replies_are_delivered(fields: list[Field], data: bytes, expected: WireReply) -> None:
    assert decode(message(fields, data, padding_seed=1)) == [expected]


@pytest.mark.parametrize("reply", [(7, 0, False, PATTERN), (7, 0, True, PATTERN), (7, 5, False, None)])
def test_needed_tells_the_size_of_the_message_at_the_tail(reply: WireReply) -> None:
    wire = joined(encode_replies([reply]))
    body_end = len(wire) - len(reply[3] or b"")
    decoder = ReplyDecoder(4096)
    for end in range(1, len(wire)):
        assert decoder.decode(memoryview(wire), 0, end) == ([], 0)
        assert decoder.needed == (5 if end < 5 else body_end if end < body_end else len(wire))


@pytest.mark.parametrize(
    "wire",
    [
        message([nv.u64("seq", 7)], version=3),
        message([]),
        message([nv.u64("seq", 7), nv.u32("size", 4097)], bytes(4097)),
        message([nv.u64("seq", 7), nv.string("compression", "hole"), nv.u32("size", 4)], b"\0\1\0\1"),
        message(
            [nv.u64("seq", 7), nv.string("checksum", "crc32"), nv.u8s("hash", b"0000"), nv.u32("size", 4)], b"data"
        ),
        b"\2\x16\0\0\0" + bytes([2]) * 22,
    ],
    ids=["version 3", "no body", "data beyond the limit", "hole beyond the limit", "bad hash", "no list"],
)
def test_broken_frames_are_refused(wire: bytes) -> None:
    with pytest.raises(FrameError):
        ReplyDecoder(4096).decode(memoryview(wire), 0, len(wire))


def outcome(wire: bytes) -> Any:
    try:
        replies, _consumed = ReplyDecoder(4096).decode(memoryview(wire), 0, len(wire))
    except FrameError:
        return "refused"
    return [plain(reply) for reply in replies]


def oracle(wire: bytes) -> Any:
    decoder = FrameDecoder(1 << 16, 4096)
    decoder.feed(wire)
    replies = []
    try:
        while (read := decoder.next()) is not None:
            error = to_linux(read.nv.get("error", nv.NvType.INT16) or 0)
            data = None if read.data is None else bytes(read.data)
            replies.append((read.nv.get("seq", nv.NvType.UINT64) or 0, error, "received" in read.nv, data))
    except FrameError:
        return "refused"
    return replies


@settings(max_examples=400)
@given(REPLIES, st.sampled_from(Checksum), st.sampled_from(Compression), st.data())
def test_damaged_replies_are_judged_as_by_the_general_codec(
    reply: WireReply, checksum: Checksum, compression: Compression, data: st.DataObject
) -> None:
    wire = bytearray(joined(encode_replies([reply], 2, checksum, compression)))
    body_end = 5 + int.from_bytes(wire[1:5], "little")
    wire[data.draw(st.integers(0, body_end - 1))] ^= data.draw(st.integers(1, 255))
    assert outcome(bytes(wire)) == oracle(bytes(wire))


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_garbage_raises_nothing_but_frame_error(stream: bytes) -> None:
    assert outcome(stream) == oracle(stream)
