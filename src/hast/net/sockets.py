"""Sockets of one interface: hears advertisements of both families, sends them and the announcements of addresses.

Advertisements leave through a packet socket with the virtual MAC address as source; where the kernel or the interface
does not take that, through a raw IP socket. Judges nothing but the IP header.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from hast.format import carp, ethernet

_log = logging.getLogger("hast.carpd")
_SO_BINDTODEVICE = 25
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_READS_AT_ONCE = 64
_MAX_PACKET_BYTES = 2048
_TAKEN_AWAY = (errno.ENODEV, errno.ENXIO, errno.ENETDOWN, errno.EAGAIN)


class SegmentSockets:
    """Raw sockets bound to one interface. Raises OSError from the constructor; needs CAP_NET_RAW."""

    def __init__(self, interface: str, index: int) -> None:
        self.interface = interface
        self.index = index
        self._open: list[socket.socket] = []
        try:
            self._v4 = self._raw(socket.AF_INET)
            self._v6 = self._raw(socket.AF_INET6) if socket.has_ipv6 else None
            self._frames = self._keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._frames.bind((interface, 0))
        except OSError:
            self.close()
            raise
        self._may_send_frames = True

    @property
    def readable(self) -> list[socket.socket]:
        """Sockets to wait for."""
        return [sock for sock in (self._v4, self._v6) if sock is not None]

    def close(self) -> None:
        for sock in self._open:
            sock.close()
        self._open.clear()

    def receive(self, sock: socket.socket) -> Iterator[tuple[IPv4Address | IPv6Address, int, bytes]]:
        """(source, TTL, payload) of what has arrived, a bounded number; never blocks.

        A packet with a broken IP header is given with TTL 0, so that it is counted as a bad one.
        """
        for _ in range(_READS_AT_ONCE):
            try:
                packet, ancillary, _flags, source = sock.recvmsg(_MAX_PACKET_BYTES, 256)
            except OSError:
                return
            if sock.family == socket.AF_INET:
                try:
                    yield ethernet.read_ipv4(packet)
                except ethernet.HeaderError:
                    yield IPv4Address(source[0]), 0, b""
            else:
                yield IPv6Address(source[0].split("%")[0]), _hop_limit(ancillary), packet

    def advertise(self, payload: bytes, source: IPv4Address | IPv6Address, vhid: int) -> None:
        """Send one advertisement. Raises OSError."""
        if self._may_send_frames:
            try:
                self._frames.send(ethernet.carp_frame(payload, source, ethernet.virtual_mac(vhid)))
                return
            except OSError as error:
                if error.errno in _TAKEN_AWAY:
                    raise
                self._may_send_frames = False
                _log.warning("%s takes no frames with the virtual MAC address: %s", self.interface, error.strerror)
        if isinstance(source, IPv4Address):
            self._v4.sendto(payload, (str(carp.GROUP_IPV4), 0))
        elif self._v6 is not None:
            self._v6.sendto(payload, (str(carp.GROUP_IPV6), 0, 0, self.index))

    def announce(self, address: IPv4Address | IPv6Address, mac: bytes) -> None:
        """Gratuitous ARP or unsolicited neighbour advertisement. Raises OSError."""
        for frame in ethernet.announcement_frames(address, mac):
            self._frames.send(frame)

    def _keep(self, sock: socket.socket) -> socket.socket:
        self._open.append(sock)
        sock.setblocking(False)
        return sock

    def _raw(self, family: socket.AddressFamily) -> socket.socket:
        sock = self._keep(socket.socket(family, socket.SOCK_RAW, carp.PROTOCOL))
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, self.interface.encode() + b"\0")
        if family == socket.AF_INET:
            request = carp.GROUP_IPV4.packed + struct.pack("4sI", b"\0" * 4, self.index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, carp.TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            outgoing = struct.pack("4s4sI", b"\0" * 4, b"\0" * 4, self.index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, outgoing)
        else:
            request = carp.GROUP_IPV6.packed + struct.pack("I", self.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, carp.TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.index)
        return sock


def _hop_limit(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
            return int(struct.unpack("i", data[:4])[0])
    return 0
