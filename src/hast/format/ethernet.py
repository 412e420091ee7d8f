"""Ethernet frames that carpd makes and IP headers that it reads: CARP in IPv4 and IPv6, ARP, neighbour advertisements.

Bytes only (RFC 791, 826, 4861, 5798 section 7.3 for the virtual MAC address); no I/O, no state.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from hast.format.carp import GROUP_IPV4, GROUP_IPV6, PROTOCOL, TTL, internet_checksum

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER = 2
_LOW_DELAY = 0x10
_DONT_FRAGMENT = 0x4000
_MIN_IPV4_HEADER_BYTES = 20


class HeaderError(ValueError):
    """An IP header that does not fit its packet."""


def virtual_mac(vhid: int) -> bytes:
    """00:00:5e:00:01:VHID."""
    return bytes((0, 0, 0x5E, 0, 1, vhid))


def multicast_mac(group: IPv4Address | IPv6Address) -> bytes:
    """The link-layer address of a multicast group."""
    if isinstance(group, IPv4Address):
        low = group.packed
        return bytes((1, 0, 0x5E, low[1] & 0x7F, low[2], low[3]))
    return b"\x33\x33" + group.packed[12:]


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """A frame without padding and check sequence."""
    return destination + source + ethertype.to_bytes(2, "big") + payload


def ipv4(payload: bytes, source: IPv4Address, destination: IPv4Address, protocol: int, ttl: int) -> bytes:
    """A packet with a 20-byte header."""
    total = _MIN_IPV4_HEADER_BYTES + len(payload)

    def header(checksum: int) -> bytes:
        return struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            _LOW_DELAY,
            total,
            0,
            _DONT_FRAGMENT,
            ttl,
            protocol,
            checksum,
            source.packed,
            destination.packed,
        )

    return header(internet_checksum(header(0))) + payload


def ipv6(payload: bytes, source: IPv6Address, destination: IPv6Address, next_header: int, hop_limit: int) -> bytes:
    """A packet without extension headers."""
    head = struct.pack("!IHBB", 6 << 28, len(payload), next_header, hop_limit)
    return head + source.packed + destination.packed + payload


def carp_frame(payload: bytes, source: IPv4Address | IPv6Address, source_mac: bytes) -> bytes:
    """An advertisement (format/carp.py) as a frame to the CARP group of the source's family."""
    if isinstance(source, IPv4Address):
        packet = ipv4(payload, source, GROUP_IPV4, PROTOCOL, TTL)
        return ethernet(multicast_mac(GROUP_IPV4), source_mac, ETHERTYPE_IPV4, packet)
    packet = ipv6(payload, source, GROUP_IPV6, PROTOCOL, TTL)
    return ethernet(multicast_mac(GROUP_IPV6), source_mac, ETHERTYPE_IPV6, packet)


def announcement_frames(address: IPv4Address | IPv6Address, mac: bytes) -> list[bytes]:
    """Frames that tell everybody where `address` is: gratuitous ARP (request and reply), or an unsolicited NA."""
    if isinstance(address, IPv4Address):
        return [ethernet(BROADCAST, mac, ETHERTYPE_ARP, _arp(operation, address, mac)) for operation in (1, 2)]
    return [ethernet(multicast_mac(ALL_NODES), mac, ETHERTYPE_IPV6, _neighbour_advertisement(address, mac))]


def _arp(operation: int, address: IPv4Address, mac: bytes) -> bytes:
    target = BROADCAST if operation == 2 else b"\0" * 6
    return struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, operation) + mac + address.packed + target + address.packed


def _neighbour_advertisement(address: IPv6Address, mac: bytes) -> bytes:
    option = bytes((_TARGET_LINK_LAYER, 1)) + mac

    def message(checksum: int) -> bytes:
        return struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, checksum, _OVERRIDE) + address.packed + option

    body = message(0)
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!IHBB", len(body), 0, 0, _ICMPV6)
    return ipv6(message(internet_checksum(pseudo + body)), address, ALL_NODES, _ICMPV6, TTL)


def read_ipv4(packet: bytes) -> tuple[IPv4Address, int, bytes]:
    """(source, TTL, payload) of a packet as a raw socket gives it. Raises HeaderError."""
    if len(packet) < _MIN_IPV4_HEADER_BYTES or packet[0] >> 4 != 4:
        raise HeaderError(f"{len(packet)} bytes that are no IPv4 packet")
    header_bytes = (packet[0] & 15) * 4
    if not _MIN_IPV4_HEADER_BYTES <= header_bytes <= len(packet):
        raise HeaderError(f"IPv4 header of {header_bytes} bytes in a packet of {len(packet)}")
    total = int.from_bytes(packet[2:4], "big")
    return IPv4Address(packet[12:16]), packet[8], packet[header_bytes : max(header_bytes, total)]
