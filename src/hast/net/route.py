"""By which network device this host reaches an address, and whether that device is a WireGuard tunnel.

Asks the kernel's routing table; nothing is sent on the network.
"""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hast.format import rtnetlink

ANSWER_LIMIT_S = 2.0
_RECEIVE_BYTES = 1 << 16
_DEVICES = Path("/sys/class/net")
_SOCKETS = Path("/run/wireguard")
"""Where a WireGuard in user space (wireguard-go) takes the orders of wg(8), a socket for each device."""


def device_to(address: IPv4Address | IPv6Address, index: int = 0) -> str:
    """The name of the device; `index` is the interface of a link-local address. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(ANSWER_LIMIT_S)
        asking.send(rtnetlink.ask_route(1, address, index))
        try:
            (message, *_) = rtnetlink.decode(asking.recv(_RECEIVE_BYTES))
            if message.error:
                raise OSError(message.error, os.strerror(message.error))
            return socket.if_indextoname(rtnetlink.decode_route(message.body))
        except ValueError as error:
            raise OSError(errno.EPROTO, str(error)) from None


def is_wireguard(device: str, devices: Path = _DEVICES, sockets: Path = _SOCKETS) -> bool:
    """As the kernel tells, or the folder, root's alone, of one in user space. The paths stand for others in tests."""
    try:
        told = (devices / device / "uevent").read_text().splitlines()
    except OSError:
        return False
    if "DEVTYPE=wireguard" in told:
        return True
    socket_path = sockets / f"{device}.sock"
    return (devices / device / "tun_flags").exists() and socket_path.is_socket() and socket_path.stat().st_uid == 0
