"""Frames of carpd and the IP headers it reads."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.format import ethernet
from hast.format.carp import internet_checksum
from hast.format.ethernet import HeaderError, read_ipv4

MAC = bytes.fromhex("00005e000101")
V4, V6 = IPv4Address("192.0.2.7"), IPv6Address("fe80::7")


def test_addresses_of_the_link_layer() -> None:
    assert ethernet.virtual_mac(1) == MAC
    assert ethernet.multicast_mac(IPv4Address("224.0.0.18")) == bytes.fromhex("01005e000012")
    assert ethernet.multicast_mac(IPv4Address("239.255.1.2")) == bytes.fromhex("01005e7f0102")
    assert ethernet.multicast_mac(IPv6Address("ff02::12")) == bytes.fromhex("333300000012")


def test_an_ipv4_packet_is_read_as_it_was_made() -> None:
    packet = ethernet.ipv4(b"payload", V4, IPv4Address("224.0.0.18"), 112, 255)
    assert internet_checksum(packet[:20]) == 0
    assert read_ipv4(packet) == (V4, 255, b"payload")
    assert read_ipv4(packet + b"padding") == (V4, 255, b"payload")


def test_options_of_an_ipv4_header_are_skipped() -> None:
    packet = bytearray(ethernet.ipv4(b"abcdpayload", V4, V4, 112, 255))
    packet[0] = 0x46
    assert read_ipv4(bytes(packet))[2] == b"payload"


@pytest.mark.parametrize("packet", [b"", b"\x45" * 19, b"\x60" + bytes(39), b"\x44" + bytes(30), b"\x4f" + bytes(30)])
def test_what_is_no_ipv4_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(HeaderError):
        read_ipv4(packet)


@given(st.binary(max_size=80))
def test_garbage_raises_nothing_but_header_error(packet: bytes) -> None:
    try:
        read_ipv4(packet)
    except HeaderError:
        pass


def test_an_advertisement_goes_to_the_group_of_its_family() -> None:
    frame = ethernet.carp_frame(b"x" * 36, V4, MAC)
    assert frame[:14] == bytes.fromhex("01005e000012 00005e000101 0800")
    assert read_ipv4(frame[14:]) == (V4, 255, b"x" * 36)
    frame = ethernet.carp_frame(b"x" * 36, V6, MAC)
    assert frame[:14] == bytes.fromhex("333300000012 00005e000101 86dd")
    assert frame[14:22] == bytes.fromhex("60000000 0024 70 ff")
    assert frame[22:38] == V6.packed
    assert frame[54:] == b"x" * 36


def test_an_ipv4_address_is_announced_by_gratuitous_arp() -> None:
    request, reply = ethernet.announcement_frames(V4, MAC)
    assert request[:22] == bytes.fromhex("ffffffffffff 00005e000101 0806 0001 0800 06 04 0001")
    assert reply[20:22] == b"\0\2"
    for frame in (request, reply):
        assert frame[22:32] == MAC + V4.packed
        assert frame[38:42] == V4.packed


def test_an_ipv6_address_is_announced_by_an_unsolicited_advertisement() -> None:
    (frame,) = ethernet.announcement_frames(V6, MAC)
    assert frame[:14] == bytes.fromhex("333300000001 00005e000101 86dd")
    source, destination, body = frame[22:38], frame[38:54], frame[54:]
    assert (source, destination) == (V6.packed, IPv6Address("ff02::1").packed)
    assert body[0] == 136
    assert body[4] & 0x20
    assert body[8:24] == V6.packed
    assert body[24:] == b"\2\1" + MAC
    pseudo = source + destination + len(body).to_bytes(4, "big") + b"\0\0\0\x3a"
    assert internet_checksum(pseudo + body) == 0
