"""Route netlink messages: dumps of links and addresses, an address set or removed, the way to an address.

Bytes only (rtnetlink(7), netlink(7); host byte order); no I/O, no state. Our own and not a library's, because the
releases of the one that there is differ in what they silently leave out: with that of Debian 12 the lifetime of an
address was not sent, and an address would have outlived a killed carpd.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

NEWLINK = 16
GETLINK = 18
NEWADDR = 20
DELADDR = 21
GETADDR = 22
NEWROUTE = 24
GETROUTE = 26
FLAG_NODAD = 0x02
FLAG_TENTATIVE = 0x40

_AF_INET = 2
_AF_INET6 = 10
_ERROR = 2
_DONE = 3
_REQUEST = 0x1
_ACK = 0x4
_DUMP_INTERRUPTED = 0x10
_DUMP = 0x300
_REPLACE_OR_CREATE = 0x100 | 0x400

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ROUTE = struct.Struct("=BBBBBBBBI")
_LIFETIMES = struct.Struct("=IIII")
_TYPE_MASK = 0x3FFF
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_LABEL = 3
_IFA_CACHEINFO = 6
_IFA_FLAGS = 8
_IFA_PROTO = 11
_RTA_DST = 1
_RTA_OIF = 4


class RtnetlinkError(ValueError):
    """Bytes that are no such message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the kernel. `error`: an errno, 0 for an acknowledgement, None for data and the end of a dump."""

    kind: int
    sequence: int
    body: bytes
    error: int | None
    last: bool
    interrupted: bool
    """The dump is not of one moment: ask again."""


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    index: int
    flags: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface; lifetimes in seconds, None where the kernel is not to be told."""

    index: int
    interface: IPv4Interface | IPv6Interface
    flags: int = 0
    label: str = ""
    protocol: int = 0
    valid_s: int | None = field(default=None, compare=False)
    preferred_s: int | None = field(default=None, compare=False)


def _attribute(kind: int, data: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, position)
        if size < _ATTRIBUTE.size or position + size > len(data):
            raise RtnetlinkError("an attribute longer than its message")
        found[kind & _TYPE_MASK] = data[position + _ATTRIBUTE.size : position + size]
        position += size + -size % 4
    return found


def _request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, sequence, 0) + body


def ask_links(sequence: int) -> bytes:
    return _request(GETLINK, _DUMP, sequence, _LINK.pack(0, 0, 0, 0, 0))


def ask_addresses(sequence: int) -> bytes:
    return _request(GETADDR, _DUMP, sequence, _ADDRESS.pack(0, 0, 0, 0, 0))


def ask_route(sequence: int, address: IPv4Address | IPv6Address, index: int = 0) -> bytes:
    """Ask for the way to the address; `index` is the interface of a link-local one."""
    family = _AF_INET if address.version == 4 else _AF_INET6
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, address.packed)
    if index:
        body += _attribute(_RTA_OIF, _U32.pack(index))
    return _request(GETROUTE, 0, sequence, body)


def set_address(sequence: int, address: Address) -> bytes:
    """Set the address, or give the one that is there these lifetimes."""
    return _request(NEWADDR, _ACK | _REPLACE_OR_CREATE, sequence, _address_body(address))


def remove_address(sequence: int, address: Address) -> bytes:
    return _request(DELADDR, _ACK, sequence, _address_body(address))


def _address_body(address: Address) -> bytes:
    interface = address.interface
    family = _AF_INET if interface.version == 4 else _AF_INET6
    body = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, address.index)
    body += _attribute(_IFA_LOCAL, interface.ip.packed) + _attribute(_IFA_ADDRESS, interface.ip.packed)
    if address.label:
        body += _attribute(_IFA_LABEL, address.label.encode() + b"\0")
    if address.flags:
        body += _attribute(_IFA_FLAGS, _U32.pack(address.flags))
    if address.protocol:
        body += _attribute(_IFA_PROTO, bytes((address.protocol,)))
    if address.valid_s is not None:
        preferred_s = address.valid_s if address.preferred_s is None else address.preferred_s
        body += _attribute(_IFA_CACHEINFO, _LIFETIMES.pack(preferred_s, address.valid_s, 0, 0))
    return body


def decode(data: bytes) -> Iterator[Message]:
    """The messages in what one receive returned. Raises RtnetlinkError."""
    position = 0
    while position + _HEADER.size <= len(data):
        size, kind, flags, sequence, _port = _HEADER.unpack_from(data, position)
        if size < _HEADER.size or position + size > len(data):
            raise RtnetlinkError("a message longer than what was received")
        body = data[position + _HEADER.size : position + size]
        yield Message(
            kind, sequence, body, _error(kind, body), kind in (_ERROR, _DONE), bool(flags & _DUMP_INTERRUPTED)
        )
        position += size + -size % 4


def _error(kind: int, body: bytes) -> int | None:
    if kind != _ERROR:
        return None
    if len(body) < 4:
        raise RtnetlinkError("an error without number")
    return -int(_I32.unpack_from(body)[0])


def decode_link(body: bytes) -> Link:
    """The body of a NEWLINK message. Raises RtnetlinkError."""
    if len(body) < _LINK.size:
        raise RtnetlinkError("a link cut short")
    _family, _kind, index, flags, _change = _LINK.unpack_from(body)
    found = _attributes(body[_LINK.size :])
    return Link(_text(found.get(_IFLA_IFNAME, b"")), index, flags, found.get(_IFLA_ADDRESS, b"")[:6].ljust(6, b"\0"))


def decode_address(body: bytes) -> Address | None:
    """The body of a NEWADDR message; None for a family other than IPv4 and IPv6. Raises RtnetlinkError."""
    if len(body) < _ADDRESS.size:
        raise RtnetlinkError("an address cut short")
    family, length, flags, _scope, index = _ADDRESS.unpack_from(body)
    found = _attributes(body[_ADDRESS.size :])
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None or family not in (_AF_INET, _AF_INET6):
        return None
    try:
        interface = (IPv4Interface if family == _AF_INET else IPv6Interface)((packed, length))
    except ValueError as error:
        raise RtnetlinkError(str(error)) from None
    wide = found.get(_IFA_FLAGS, b"")
    if len(wide) == _U32.size:
        (flags,) = _U32.unpack(wide)
    protocol = found.get(_IFA_PROTO, b"\0")
    return Address(index, interface, flags, _text(found.get(_IFA_LABEL, b"")), protocol[0] if protocol else 0)


def decode_route(body: bytes) -> int:
    """The body of a NEWROUTE message: index of the interface, 0 when none is named. Raises RtnetlinkError."""
    if len(body) < _ROUTE.size:
        raise RtnetlinkError("a route cut short")
    found = _attributes(body[_ROUTE.size :]).get(_RTA_OIF, b"")
    return int(_U32.unpack(found)[0]) if len(found) == _U32.size else 0


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode(errors="replace")
