"""NBD: bytes of the handshake, batches of requests, replies, and clients that send something else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.format import nbd
from hast.format.nbd import NbdError, NbdRequest, Option, OptionReply

PLENTY = (1 << 30, 1000)
U64 = st.integers(0, 2**64 - 1)


def request(kind: int, cookie: int, offset: int, length: int, flags: int = 0, data: bytes = b"") -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + data


def decode(stream: bytes, budget_bytes: int = 1 << 30, max_requests: int = 1000) -> tuple[list[NbdRequest], int, int]:
    return nbd.decode_requests(memoryview(b"?" + stream), 1, 1 + len(stream), budget_bytes, max_requests)


REQUESTS = st.one_of(
    st.tuples(st.just(0), st.sampled_from([0, 3, 4, 5, 6, 7, 99]), U64, U64, st.integers(0, 2**32 - 1), st.none()),
    st.builds(lambda f, c, o, d: (f, 1, c, o, len(d), d), st.integers(0, 65535), U64, U64, st.binary(max_size=40)),
)


@given(st.lists(REQUESTS, max_size=6), st.integers(0, 27))
def test_a_batch_is_decoded_up_to_the_last_whole_request(batch: list[NbdRequest], extra: int) -> None:
    pieces = [request(k, c, o, n, f, bytes(d or b"")) for f, k, c, o, n, d in batch]
    stream = b"".join(pieces)
    tail = request(3, 9, 0, 0)[:extra]
    requests, used, needed = decode(stream + tail, 1 << 62)
    assert [(*r[:5], None if r[5] is None else bytes(r[5])) for r in requests] == batch
    assert (used, needed) == (len(stream), 0)


def test_payloads_are_views_into_the_buffer() -> None:
    buffer = bytearray(request(1, 7, 0, 4, data=b"data"))
    ((*_rest, data),), _used, _needed = nbd.decode_requests(memoryview(buffer), 0, len(buffer), *PLENTY)
    assert isinstance(data, memoryview)
    assert data.obj is buffer


def test_an_unfinished_write_tells_what_it_needs() -> None:
    stream = request(3, 1, 0, 0) + request(1, 7, 0, 4096, data=bytes(100))
    requests, used, needed = decode(stream)
    assert (len(requests), used, needed) == (1, 28, 28 + 4096)


def test_a_batch_stops_at_its_budget() -> None:
    stream = request(0, 1, 0, 4096) + request(1, 2, 0, 4, data=b"data") + request(3, 3, 0, 0)
    assert len(decode(stream, budget_bytes=4096)[0]) == 1
    assert len(decode(stream, budget_bytes=4097)[0]) == 2
    assert len(decode(stream, max_requests=2)[0]) == 2
    assert decode(stream, budget_bytes=0)[:2] == ([], 0)


@pytest.mark.parametrize("bad", [b"\0" * 28, request(1, 1, 0, nbd.MAX_PAYLOAD_BYTES + 1)])
def test_bad_requests_are_refused_after_the_good_ones_before_them(bad: bytes) -> None:
    requests, used, _needed = decode(request(3, 3, 0, 0) + bad)
    assert (len(requests), used) == (1, 28)
    with pytest.raises(NbdError) as caught:
        decode(bad)
    assert "\n" not in str(caught.value)


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_garbage_raises_nothing_but_nbd_error(stream: bytes) -> None:
    for reader in (
        lambda: decode(stream),
        lambda: nbd.decode_option(stream, 0, len(stream)),
        lambda: nbd.decode_option(b"IHAVEOPT" + stream, 0, 8 + len(stream)),
        lambda: nbd.decode_info_request(stream),
    ):
        try:
            reader()
        except NbdError:
            pass


def test_greeting_offers_fixed_newstyle_and_no_zeroes() -> None:
    assert nbd.SERVER_GREETING == b"NBDMAGICIHAVEOPT\x00\x03"


def test_an_option_is_decoded_when_it_is_whole() -> None:
    wire = b"IHAVEOPT" + struct.pack(">II", Option.GO, 6) + b"abcdef"
    for end in range(len(wire)):
        assert nbd.decode_option(wire, 0, end) == (None, 16 if end < 16 else 22)
    assert nbd.decode_option(b"??" + wire + b"more", 2, 2 + len(wire) + 4) == ((Option.GO, b"abcdef"), 22)


@pytest.mark.parametrize(
    "wire",
    [b"IHAVEOPS" + bytes(8), b"IHAVEOPT" + struct.pack(">II", 3, nbd.MAX_OPTION_BYTES + 1)],
)
def test_bad_options_are_refused(wire: bytes) -> None:
    with pytest.raises(NbdError):
        nbd.decode_option(wire, 0, len(wire))


def test_option_replies() -> None:
    assert nbd.option_reply(Option.LIST, OptionReply.ACK) == bytes.fromhex(
        "0003e889045565a9 00000003 00000001 00000000"
    )
    refused = nbd.option_reply(Option.STARTTLS, OptionReply.ERR_UNSUP, b"no")
    assert refused == bytes.fromhex("0003e889045565a9 00000005 80000001 00000002") + b"no"


@given(st.binary(max_size=20), st.lists(st.integers(0, 65535), max_size=4))
def test_info_requests_are_read(name: bytes, wanted: list[int]) -> None:
    data = struct.pack(">I", len(name)) + name + struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)
    assert nbd.decode_info_request(data) == (name, wanted)
    for bad in (data[:-1], data + b"x"):
        with pytest.raises(NbdError):
            nbd.decode_info_request(bad)


def test_information_about_the_export() -> None:
    assert nbd.export_information(1 << 30, 0x6D) == bytes.fromhex("0000 0000000040000000 006d")
    assert nbd.block_size_information(512, 4096, 1 << 25) == bytes.fromhex("0003 00000200 00001000 02000000")
    assert nbd.name_information(b"disk1") == b"\0\1disk1"
    assert nbd.server_reply_data(b"disk1") == b"\0\0\0\5disk1"
    assert nbd.export_name_reply(512, 1, no_zeroes=True) == bytes.fromhex("0000000000000200 0001")
    assert nbd.export_name_reply(512, 1, no_zeroes=False) == bytes.fromhex("0000000000000200 0001") + bytes(124)


def test_replies() -> None:
    assert nbd.simple_reply(5, 7) == bytes.fromhex("67446698 00000005 0000000000000007")
    assert nbd.read_chunk(7, 4096, 512) == bytes.fromhex(
        "668e33ef 0001 0001 0000000000000007 00000208 0000000000001000"
    )
    assert nbd.error_chunk(7, 5) == bytes.fromhex("668e33ef 0001 8001 0000000000000007 00000006 00000005 0000")
