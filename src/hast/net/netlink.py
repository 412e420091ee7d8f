"""Interfaces, their links and their addresses, by netlink: look, set, remove, be told of changes.

Addresses set here carry the protocol number of CARP (kernels from 5.18) and, for IPv4, the label IF:carp where it fits,
so that a person and a later carpd can tell whose they are. They have a lifetime: they end when carpd is killed or
stuck. Every operation has a deadline.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Any, TypeAlias

from hast.format import rtnetlink

Interface: TypeAlias = IPv4Interface | IPv6Interface

OPERATION_DEADLINE_S = 2.0
ADDRESS_PROTOCOL = 112
LABEL_SUFFIX = ":carp"
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_MAX_LABEL_BYTES = 15
_GONE = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)
_DUMP_ATTEMPTS = 3
_RECEIVE_BYTES = 1 << 16
_GROUPS = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""


class NetworkError(Exception):
    """The kernel refused or did not answer; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class AddressView:
    """One address of an interface. `ours`: it carries the mark of carpd."""

    interface: Interface
    ours: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class LinkView:
    """One network interface. `up`: it is set up and has a carrier."""

    name: str
    index: int
    mac: bytes
    up: bool
    addresses: tuple[AddressView, ...]


class Netlink:
    """One netlink conversation with the kernel of this network namespace."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._watch: socket.socket | None = None
        self._sequence = 0
        self._asking = asyncio.Lock()

    async def open(self, changed: Callable[[], None]) -> None:
        """Open; `changed` is called from the event loop whenever links or addresses may have changed."""
        self._socket = _netlink_socket(0)
        self._watch = watch = _netlink_socket(_GROUPS)

        def readable() -> None:
            try:
                while watch.recv(_RECEIVE_BYTES):
                    pass
            except BlockingIOError:
                pass
            except OSError:
                pass  # ENOBUFS: notifications were lost; the look that follows sees everything anyway
            changed()

        asyncio.get_running_loop().add_reader(watch.fileno(), readable)

    async def close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def look(self) -> dict[str, LinkView]:
        """All interfaces by name. Raises NetworkError."""
        try:
            links = [rtnetlink.decode_link(body) for body in await self._dump(rtnetlink.NEWLINK, rtnetlink.ask_links)]
            bodies = await self._dump(rtnetlink.NEWADDR, rtnetlink.ask_addresses)
            addresses = [rtnetlink.decode_address(body) for body in bodies]
        except (OSError, rtnetlink.RtnetlinkError) as error:
            raise NetworkError(f"look at the interfaces: {error or 'no answer from the kernel in time'}") from None
        by_index: dict[int, list[AddressView]] = {}
        for address in addresses:
            if address is not None:
                by_index.setdefault(address.index, []).append(_address_view(address))
        return {link.name: _link_view(link, by_index.get(link.index, [])) for link in links}

    async def hold(self, link: LinkView, address: Interface, lifetime_s: int) -> None:
        """Set an address, or prolong it, for so many seconds: without a next call the kernel removes it.

        Raises NetworkError.
        """
        label, flags, preferred_s = "", 0, lifetime_s
        if isinstance(address, IPv4Interface):
            label = link.name + LABEL_SUFFIX
            label = label if len(label) <= _MAX_LABEL_BYTES else ""
        else:
            flags, preferred_s = rtnetlink.FLAG_NODAD, 0
        held = rtnetlink.Address(link.index, address, flags, label, ADDRESS_PROTOCOL, lifetime_s, preferred_s)
        await self._change(f"set {address} on {link.name}", rtnetlink.set_address, held)

    async def remove(self, link: LinkView, address: Interface) -> None:
        """Remove an address; that it is gone already is success. Raises NetworkError."""
        gone = rtnetlink.Address(link.index, address)
        await self._change(f"remove {address} from {link.name}", rtnetlink.remove_address, gone, *_GONE)

    async def _change(
        self,
        what: str,
        encode: Callable[[int, rtnetlink.Address], bytes],
        address: rtnetlink.Address,
        *harmless: int,
    ) -> None:
        try:
            await self._ask(lambda sequence: encode(sequence, address))
        except TimeoutError:
            raise NetworkError(f"{what}: no answer from the kernel in {OPERATION_DEADLINE_S:g} s") from None
        except OSError as error:
            if error.errno not in harmless:
                raise NetworkError(f"{what}: {error.strerror}") from None
        except rtnetlink.RtnetlinkError as error:
            raise NetworkError(f"{what}: {error}") from None

    async def _dump(self, kind: int, encode: Callable[[int], bytes]) -> list[bytes]:
        """Bodies of all messages of this kind, asked for again while they were not of one moment."""
        messages: list[rtnetlink.Message] = []
        for _attempt in range(_DUMP_ATTEMPTS):
            messages = await self._ask(encode)
            if not any(message.interrupted for message in messages):
                break
        return [message.body for message in messages if message.kind == kind]

    async def _ask(self, encode: Callable[[int], bytes]) -> list[rtnetlink.Message]:
        """One question and its whole answer. Raises OSError, TimeoutError, RtnetlinkError."""
        if self._socket is None:
            raise OSError(errno.ENOTCONN, "netlink is closed")
        loop = asyncio.get_running_loop()
        async with self._asking, asyncio.timeout(OPERATION_DEADLINE_S):
            self._sequence += 1
            await loop.sock_sendall(self._socket, encode(self._sequence))
            answer: list[rtnetlink.Message] = []
            while True:
                for message in rtnetlink.decode(await loop.sock_recv(self._socket, _RECEIVE_BYTES)):
                    if message.sequence != self._sequence:
                        continue  # the end of an answer that was given up
                    if message.error:
                        raise OSError(message.error, os.strerror(message.error))
                    answer.append(message)
                    if message.last:
                        return answer


def _netlink_socket(groups: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    opened.bind((0, groups))
    return opened


def _link_view(link: rtnetlink.Link, addresses: list[AddressView]) -> LinkView:
    up = bool(link.flags & _IFF_UP and link.flags & _IFF_LOWER_UP)
    return LinkView(link.name, link.index, link.mac, up, tuple(addresses))


def _address_view(address: rtnetlink.Address) -> AddressView:
    ours = address.protocol == ADDRESS_PROTOCOL or address.label.endswith(LABEL_SUFFIX)
    return AddressView(address.interface, ours, not address.flags & rtnetlink.FLAG_TENTATIVE)


def source_address(link: LinkView, version: int, virtual: frozenset[Any]) -> Any:
    """What to advertise from: the first address that is not virtual; link-local for IPv6. None when there is none."""
    for view in link.addresses:
        ip = view.interface.ip
        if ip.version != version or view.ours or ip in virtual or not view.usable:
            continue
        if isinstance(ip, IPv4Address) or ip.is_link_local:
            return ip
    return None
