"""The NBD codec: exact bytes of the documented structures, batches, refusals; nothing crashes on any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.format import nbd

BUDGET = 1 << 30


def request(kind: int, cookie: int, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b"") -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + data


def decode(data: bytes, budget: int = BUDGET, count: int = 100) -> tuple[list[nbd.NbdRequest], int, int]:
    return nbd.decode_requests(memoryview(data), 0, len(data), budget, count)


def test_a_batch_is_decoded_with_payloads_that_point_into_the_buffer() -> None:
    data = request(1, 7, 4096, 3, 1, b"abc") + request(0, 8, 8192, 512) + request(3, 9)
    buffer = bytearray(data)
    requests, used, needed = nbd.decode_requests(memoryview(buffer), 0, len(buffer), BUDGET, 100)
    assert [item[:5] for item in requests] == [(1, 1, 7, 4096, 3), (0, 0, 8, 8192, 512), (0, 3, 9, 0, 0)]
    buffer[28:31] = b"xyz"
    payload = requests[0][5]
    assert payload is not None
    assert bytes(payload) == b"xyz"
    assert (used, needed) == (len(data), 0)


def test_an_incomplete_write_says_how_many_bytes_it_needs() -> None:
    data = request(0, 1, 0, 512) + request(1, 2, 0, 4096, 0, b"part")
    requests, used, needed = decode(data)
    assert len(requests) == 1
    assert used == 28
    assert needed == 28 + 4096


def test_decoding_stops_at_the_byte_budget_and_at_the_count() -> None:
    data = b"".join(request(0, cookie, 0, 1000) for cookie in range(10))
    assert len(decode(data, budget=2500)[0]) == 3
    assert len(decode(data, count=4)[0]) == 4
    assert decode(data, budget=0) == ([], 0, 0)


def test_garbage_is_an_error_only_after_the_good_requests_before_it() -> None:
    data = request(3, 1) + b"\xff" * 28
    assert len(decode(data)[0]) == 1
    with pytest.raises(nbd.NbdError, match="magic"):
        decode(data[28:])


def test_a_payload_beyond_the_maximum_is_an_error() -> None:
    with pytest.raises(nbd.NbdError, match="at most"):
        decode(request(1, 1, 0, nbd.MAX_PAYLOAD_BYTES + 1))


def test_options_are_taken_whole_and_bounded() -> None:
    data = b"IHAVEOPT" + struct.pack(">II", 7, 3) + b"abc" + b"more"
    option, size = nbd.decode_option(data, 0, len(data))
    assert option == (7, b"abc")
    assert size == 19
    assert nbd.decode_option(data, 0, 10) == (None, 16)
    assert nbd.decode_option(data, 0, 17) == (None, 19)
    with pytest.raises(nbd.NbdError):
        nbd.decode_option(b"IHAVEOPT" + struct.pack(">II", 7, 1 << 20), 0, 16)
    with pytest.raises(nbd.NbdError):
        nbd.decode_option(b"NOTMAGIC" + bytes(8), 0, 16)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", struct.pack(">I", 5) + b"abc", struct.pack(">IHH", 0, 0, 9)])
def test_cut_or_padded_info_requests_are_refused(data: bytes) -> None:
    with pytest.raises(nbd.NbdError):
        nbd.decode_info_request(data)


def test_structures_are_the_documented_bytes() -> None:
    assert nbd.simple_reply(5, 0x1122334455667788).hex() == "67446698000000051122334455667788"
    assert nbd.read_chunk(1, 4096, 512).hex() == "668e33ef00010001" + f"{1:016x}" + f"{520:08x}" + f"{4096:016x}"
    assert nbd.error_chunk(1, 22).hex() == "668e33ef00018001" + f"{1:016x}" + "00000006000000160000"
    assert nbd.option_reply(6, 3, b"ab").hex() == "0003e889045565a90000000600000003000000026162"
    assert len(nbd.export_name_reply(1, 1, False)) == 134
    assert len(nbd.export_name_reply(1, 1, True)) == 10


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 5))
def test_any_bytes_are_decoded_or_refused(data: bytes, budget: int, count: int) -> None:
    try:
        requests, used, needed = decode(data, budget, count)
        assert 0 <= used <= len(data)
        assert len(requests) <= count
        assert needed == 0 or needed > len(data) - used
    except nbd.NbdError:
        pass
    for decoder in (lambda: nbd.decode_option(data, 0, len(data)), lambda: nbd.decode_info_request(data)):
        try:
            decoder()
        except nbd.NbdError:
            pass


_WIRE = st.tuples(
    st.integers(0, 0xFFFF),
    st.sampled_from([0, 2, 3, 4, 5, 6, 7, 99]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_WIRE, max_size=20), st.integers(0, 600))
def test_requests_survive_being_cut_anywhere(wires: list[tuple[int, int, int, int, int]], cut: int) -> None:
    data = b"".join(request(kind, cookie, offset, length, flags) for flags, kind, cookie, offset, length in wires)
    first, used, _needed = decode(data[:cut], budget=1 << 40)
    rest, used_later, _needed = decode(data[used:], budget=1 << 40)
    assert used + used_later == len(data)
    assert [item[:5] for item in first + rest] == wires
