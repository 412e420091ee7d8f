"""The name-value codec: the byte layout, what it refuses, and that garbage does no more than that."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.format import nv
from hast.format.nv import Field, NvError, NvType

KEEPALIVE_BODY = bytes.fromhex("02 04 01000000 636d640000000000 0500000000000000")

INTEGERS = {
    NvType.INT8: (-(2**7), 2**7 - 1),
    NvType.UINT8: (0, 2**8 - 1),
    NvType.INT16: (-(2**15), 2**15 - 1),
    NvType.UINT16: (0, 2**16 - 1),
    NvType.INT32: (-(2**31), 2**31 - 1),
    NvType.UINT32: (0, 2**32 - 1),
    NvType.INT64: (-(2**63), 2**63 - 1),
    NvType.UINT64: (0, 2**64 - 1),
}
NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=30)
STRINGS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def values_of(kind: NvType) -> st.SearchStrategy[nv.Value]:
    if kind in INTEGERS:
        return st.integers(*INTEGERS[kind])
    if kind == NvType.STRING:
        return STRINGS
    if kind == NvType.UINT8_ARRAY:
        return st.binary(min_size=1, max_size=40)
    element = st.integers(*INTEGERS[NvType(kind - 8)])
    return st.lists(element, min_size=1, max_size=9).map(tuple)


FIELDS = st.sampled_from(list(NvType)).flatmap(lambda kind: st.tuples(NAMES, st.just(kind), values_of(kind)))


def element(code: int, name: bytes, data: bytes) -> bytes:
    """An element by hand, so that it can be wrong."""
    return struct.pack("<BBI", code, len(name), len(data)) + pad(name) + pad(data)


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def test_the_worked_example_of_the_specification() -> None:
    assert nv.encode([nv.u8("cmd", 5)]) == KEEPALIVE_BODY
    assert nv.decode(KEEPALIVE_BODY).fields == [("cmd", NvType.UINT8, 5)]


@given(st.lists(FIELDS, max_size=8))
def test_what_is_encoded_is_decoded(fields: list[Field]) -> None:
    encoded = nv.encode(fields)
    decoded = nv.decode(memoryview(encoded))
    assert decoded.fields == fields
    assert list(decoded) == fields
    assert decoded.size_bytes == len(encoded)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_out_of_range_are_not_encoded(kind: NvType) -> None:
    low, high = INTEGERS[kind]
    for value in (low - 1, high + 1):
        with pytest.raises(NvError, match="does not fit"):
            nv.encode([("n", kind, value)])
        with pytest.raises(NvError, match="does not fit"):
            nv.encode([("n", NvType(kind + 8), (value,))])


@pytest.mark.parametrize(
    "field",
    [
        nv.u8("", 1),
        nv.u8("a\0b", 1),
        nv.u8("n" * 255, 1),
        nv.string("s", "a\0b"),
        nv.string("s", "\ud800"),
        nv.u8s("a", b""),
        ("a", NvType.UINT16_ARRAY, ()),
        ("s", NvType.STRING, b"bytes"),
        ("n", NvType.UINT8, "1"),
        ("a", NvType.UINT8_ARRAY, "text"),
    ],
)
def test_what_cannot_be_sent_is_refused(field: Field) -> None:
    with pytest.raises(NvError):
        nv.encode([field])


def test_names_of_254_bytes_are_the_longest() -> None:
    name = "n" * 254
    assert nv.decode(nv.encode([nv.u8(name, 7)])).get(name, NvType.UINT8) == 7


def test_bytes_that_are_no_text_survive_in_strings() -> None:
    body = element(17, b"s\0", b"\xff\xfe\0")
    assert nv.encode(nv.decode(body)) == body


def test_host_order_bit_is_ignored() -> None:
    assert nv.decode(element(0x80 | 6, b"n\0", b"\x01\x02\0\0")).get("n", NvType.UINT32) == 0x201


def test_garbage_in_padding_is_ignored() -> None:
    body = struct.pack("<BBI", 2, 4, 1) + b"cmd\0\x90\x14\xc0\xf4" + b"\x05\xff\xff\xff\xff\xff\xff\xff"
    assert nv.decode(body).fields == [("cmd", NvType.UINT8, 5)]


def test_a_zero_byte_where_an_element_starts_ends_the_list() -> None:
    decoded = nv.decode(KEEPALIVE_BODY + b"\0garbage")
    assert decoded.fields == [("cmd", NvType.UINT8, 5)]
    assert decoded.size_bytes == len(KEEPALIVE_BODY)
    assert nv.decode(b"").fields == []


def test_the_first_of_several_fields_of_one_name_counts() -> None:
    decoded = nv.decode(nv.encode([nv.u8("n", 1), nv.u8("n", 2), ("n", NvType.UINT16, 3)]))
    assert decoded.get("n", NvType.UINT8) == 1
    assert decoded.get("n", NvType.UINT16) is None


def test_another_type_counts_as_missing_and_is_still_present() -> None:
    decoded = nv.decode(nv.encode([nv.i8("virgin", 1)]))
    assert decoded.get("virgin", NvType.UINT8) is None
    assert decoded.get("other", NvType.UINT8) is None
    assert "virgin" in decoded
    assert "other" not in decoded
    assert repr(decoded) == "Nv(virgin=1)"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(KEEPALIVE_BODY[:7], id="less than eight bytes left"),
        pytest.param(KEEPALIVE_BODY[:13], id="cut in the name"),
        pytest.param(KEEPALIVE_BODY[:-1], id="cut in the padding of the value"),
        pytest.param(element(2, b"cmd", b"\x05"), id="name without NUL"),
        pytest.param(element(2, b"c\0d\0", b"\x05"), id="NUL inside the name"),
        pytest.param(element(2, b"\0", b"\x05"), id="empty name"),
        pytest.param(element(2, b"", b"\x05"), id="no name"),
        pytest.param(element(2, b"cmd\0", b""), id="no data"),
        pytest.param(element(18, b"cmd\0", b"\x05"), id="unknown type"),
        pytest.param(element(0x80, b"cmd\0", b"\x05"), id="type 0 with the host order bit"),
        pytest.param(element(2, b"cmd\0", b"\x05\0"), id="scalar too long"),
        pytest.param(element(8, b"seq\0", b"\x05\0\0\0"), id="scalar too short"),
        pytest.param(element(14, b"a\0", b"\x05\0\0\0\0"), id="array of a part of an element"),
        pytest.param(element(17, b"s\0", b"abc"), id="string without NUL"),
        pytest.param(element(17, b"s\0", b"a\0c\0"), id="string with two NULs"),
        pytest.param(struct.pack("<BBI", 10, 2, 0xFFFFFFFF) + bytes(16), id="data length beyond the end"),
    ],
)
def test_broken_lists_are_refused(body: bytes) -> None:
    with pytest.raises(NvError):
        nv.decode(body)


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_garbage_raises_nothing_but_nv_error(body: bytes) -> None:
    try:
        nv.encode(nv.decode(body))
    except NvError:
        pass


@settings(max_examples=200)
@given(st.lists(FIELDS, min_size=1, max_size=4), st.data())
def test_damaged_lists_raise_nothing_but_nv_error(fields: list[Field], data: st.DataObject) -> None:
    body = bytearray(nv.encode(fields))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        nv.decode(body)
    except NvError:
        pass
