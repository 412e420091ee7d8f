"""Route netlink messages: the documented bytes, and bytes that are none."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.format import rtnetlink
from hast.format.rtnetlink import Address, RtnetlinkError

ADDRESS = Address(4, IPv4Interface("10.10.10.180/24"), 0, "eth0:carp", 112, 5, 5)


def test_an_address_is_set_with_label_protocol_and_lifetime() -> None:
    packed = bytes((10, 10, 10, 180))
    body = struct.pack("=BBBBI", 2, 24, 0, 0, 4)
    body += struct.pack("=HH4s", 8, 2, packed) + struct.pack("=HH4s", 8, 1, packed)
    body += struct.pack("=HH10s2x", 14, 3, b"eth0:carp\0")
    body += struct.pack("=HHB3x", 5, 11, 112)
    body += struct.pack("=HHIIII", 20, 6, 5, 5, 0, 0)
    header = struct.pack("=IHHII", 16 + len(body), 20, 0x1 | 0x4 | 0x100 | 0x400, 7, 0)
    assert rtnetlink.set_address(7, ADDRESS) == header + body


def test_an_ipv6_address_may_be_deprecated_at_once() -> None:
    address = Address(4, IPv6Interface("2001:db8::180/64"), rtnetlink.FLAG_NODAD, "", 112, 5, 0)
    message = rtnetlink.set_address(7, address)
    assert struct.pack("=HHIIII", 20, 6, 0, 5, 0, 0) in message
    assert struct.pack("=HHI", 8, 8, 0x02) in message


@pytest.mark.parametrize("address", [ADDRESS, Address(9, IPv6Interface("fe80::1/64"), 0x80)])
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    (message,) = rtnetlink.decode(rtnetlink.set_address(7, address))
    assert (message.kind, message.sequence, message.last) == (rtnetlink.NEWADDR, 7, False)
    assert rtnetlink.decode_address(message.body) == address


def test_a_link_is_read() -> None:
    body = struct.pack("=BxHiII", 0, 1, 3, 0x10001, 0)
    body += struct.pack("=HH6s2x", 10, 1, b"\2\xfc\0\0\0\1") + struct.pack("=HH5s3x", 9, 3, b"eth0\0")
    assert rtnetlink.decode_link(body) == rtnetlink.Link("eth0", 3, 0x10001, b"\2\xfc\0\0\0\1")


def test_an_acknowledgement_and_an_error_are_told_apart() -> None:
    def answer(number: int) -> bytes:
        return struct.pack("=IHHIIi16x", 36, 2, 0, 7, 0, number)

    acknowledged, refused = rtnetlink.decode(answer(0) + answer(-99))
    assert (acknowledged.error, acknowledged.last, refused.error) == (0, True, 99)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=IHHII", 8, 20, 0, 7, 0),
        struct.pack("=IHHII", 99, 20, 0, 7, 0),
        struct.pack("=IHHIIH", 18, 2, 0, 7, 0, 1),
    ],
)
def test_a_message_that_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(RtnetlinkError):
        list(rtnetlink.decode(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (lambda: list(rtnetlink.decode(data)), lambda: rtnetlink.decode_link(data)):
        try:
            read()
        except RtnetlinkError:
            pass
    try:
        rtnetlink.decode_address(data)
    except RtnetlinkError:
        pass


def test_the_way_to_an_address_is_asked_for() -> None:
    body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 0, 0, 0, 0, 0) + struct.pack("=HH4s", 8, 1, bytes((10, 0, 0, 2)))
    header = struct.pack("=IHHII", 16 + len(body), 26, 0x1, 7, 0)
    assert rtnetlink.ask_route(7, IPv4Address("10.0.0.2")) == header + body


def test_a_link_local_address_is_asked_for_on_its_interface() -> None:
    assert rtnetlink.ask_route(7, IPv6Address("fe80::1"), 3).endswith(struct.pack("=HHI", 8, 4, 3))


def test_a_route_tells_its_interface() -> None:
    head = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, 1, 0)
    assert rtnetlink.decode_route(head + struct.pack("=HHI", 8, 4, 3)) == 3
    assert rtnetlink.decode_route(head) == 0
    with pytest.raises(RtnetlinkError):
        rtnetlink.decode_route(head[:-1])
