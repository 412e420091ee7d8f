"""Interfaces, their links and their addresses, by netlink: look, set, remove, be told of changes.

Addresses set here carry the protocol number of CARP (kernels from 5.18) and, for IPv4, the label IF:carp where it fits,
so that a person and a later carpd can tell whose they are. They have a lifetime: they end when carpd is killed or
stuck. Every operation has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from typing import Any, TypeAlias

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

Interface: TypeAlias = IPv4Interface | IPv6Interface

OPERATION_DEADLINE_S = 2.0
ADDRESS_PROTOCOL = 112
LABEL_SUFFIX = ":carp"
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFA_F_NODAD = 0x02
_IFA_F_TENTATIVE = 0x40
_MAX_LABEL_BYTES = 15
_GONE = (99, 19, 6)
"""EADDRNOTAVAIL, ENODEV, ENXIO."""
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
        self._route: Any = None
        self._watch: socket.socket | None = None

    async def open(self, changed: Callable[[], None]) -> None:
        """Open; `changed` is called from the event loop whenever links or addresses may have changed."""
        logging.getLogger("pyroute2").setLevel(logging.WARNING)
        self._route = AsyncIPRoute()  # type: ignore[no-untyped-call]
        await self._route.setup_endpoint()
        watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        watch.bind((0, _GROUPS))
        self._watch = watch

        def readable() -> None:
            try:
                while watch.recv(65536):
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
        if self._route is not None:
            closing = self._route.close()
            if asyncio.iscoroutine(closing):
                await closing
            self._route = None

    async def look(self) -> dict[str, LinkView]:
        """All interfaces by name. Raises NetworkError."""
        try:
            async with asyncio.timeout(OPERATION_DEADLINE_S):
                links = [message async for message in await self._route.get_links()]
                addresses = [message async for message in await self._route.get_addr()]
        except (OSError, NetlinkError, TimeoutError) as error:
            raise NetworkError(f"look at the interfaces: {error or 'no answer from the kernel in time'}") from None
        by_index: dict[int, list[AddressView]] = {}
        for message in addresses:
            view = _address_view(message)
            if view is not None:
                by_index.setdefault(int(message["index"]), []).append(view)
        return {
            link.name: link
            for link in (_link_view(message, by_index.get(int(message["index"]), [])) for message in links)
        }

    async def hold(self, link: LinkView, address: Interface, lifetime_s: int) -> None:
        """Set an address, or prolong it, for so many seconds: without a next call the kernel removes it.

        Raises NetworkError.
        """
        request: dict[str, Any] = {"proto": ADDRESS_PROTOCOL, "valid_lft": lifetime_s}
        label = link.name + LABEL_SUFFIX
        if isinstance(address, IPv4Interface):
            request["preferred_lft"] = lifetime_s
            if len(label) <= _MAX_LABEL_BYTES:
                request["label"] = label
        else:
            request |= {"preferred_lft": 0, "flags": _IFA_F_NODAD}
        await self._change("replace", link, address, request)

    async def remove(self, link: LinkView, address: Interface) -> None:
        """Remove an address; that it is gone already is success. Raises NetworkError."""
        await self._change("del", link, address, {}, *_GONE)

    async def _change(
        self, command: str, link: LinkView, address: Interface, request: dict[str, Any], *harmless: int
    ) -> None:
        prefix = address.network.prefixlen
        try:
            async with asyncio.timeout(OPERATION_DEADLINE_S):
                await self._route.addr(command, index=link.index, address=str(address.ip), prefixlen=prefix, **request)
        except NetlinkError as error:
            if error.code not in harmless:
                raise NetworkError(f"{command} {address} on {link.name}: {error}") from None
        except TimeoutError:
            raise NetworkError(
                f"{command} {address} on {link.name}: no answer from the kernel in {OPERATION_DEADLINE_S:g} s"
            ) from None
        except OSError as error:
            raise NetworkError(f"{command} {address} on {link.name}: {error.strerror}") from None


def _link_view(message: Any, addresses: list[AddressView]) -> LinkView:
    flags = int(message["flags"])
    mac = bytes.fromhex((message.get("address") or "00:00:00:00:00:00").replace(":", ""))[:6].ljust(6, b"\0")
    up = bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)
    return LinkView(str(message.get("ifname")), int(message["index"]), mac, up, tuple(addresses))


def _address_view(message: Any) -> AddressView | None:
    text = message.get("local") or message.get("address")
    if not text:
        return None
    address = ip_interface(f"{text}/{message['prefixlen']}")
    label = str(message.get("label") or "")
    ours = message.get("proto") == ADDRESS_PROTOCOL or label.endswith(LABEL_SUFFIX)
    flags = int(message.get("flags") or 0)
    return AddressView(address, ours, not flags & _IFA_F_TENTATIVE)


def source_address(link: LinkView, version: int, virtual: frozenset[Any]) -> Any:
    """What to advertise from: the first address that is not virtual; link-local for IPv6. None when there is none."""
    for view in link.addresses:
        ip = view.interface.ip
        if ip.version != version or view.ours or ip in virtual or not view.usable:
            continue
        if isinstance(ip, IPv4Address) or ip.is_link_local:
            return ip
    return None
