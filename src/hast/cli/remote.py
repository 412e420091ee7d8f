"""Addresses of the other node as a command looks at them: their endpoints, with a deadline, and the way to them."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import ip_address

from hast.config.address import parse_address
from hast.daemon.in_thread import in_thread
from hast.net import ipsec
from hast.net.route import device_to, is_wireguard
from hast.worker.link.dial import Endpoint, resolve

RESOLVE_LIMIT_S = 5.0


def endpoints(remote: str) -> list[Endpoint]:
    """Where the address leads. Raises OSError, and AddressError for text that is no address."""
    address = parse_address(remote)
    try:
        return asyncio.run(in_thread(lambda: resolve(address), RESOLVE_LIMIT_S))
    except UnicodeError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def is_tunnelled(remote: str) -> bool:
    """Every way to the address leads through WireGuard or IPsec, as far as this host knows the way."""
    try:
        return all(_leaves_encrypted(each) for each in endpoints(remote))
    except OSError:
        return False


def _leaves_encrypted(endpoint: Endpoint) -> bool:
    host, _port, *more = endpoint.address
    address = ip_address(host.partition("%")[0])
    return is_wireguard(device_to(address, more[1] if more else 0)) or ipsec.is_used_to(address)
