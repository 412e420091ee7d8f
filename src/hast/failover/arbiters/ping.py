"""The `ping` arbiter: a node that reaches one of the targets, such as the gateway, may go on.

Keeps a node that is cut off from going on. It records nothing and cannot decide between two nodes that both reach the
target: for that a witness or etcd is needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence

from hast.config.address import parse_address
from hast.election.arbiter import LEASE_TTL_S, ArbiterError, Lease, Refused
from hast.format.carp import internet_checksum

DEADLINE_S = 0.9
_TRIES = 3
_ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.IPPROTO_ICMPV6)}


class PingArbiter:
    """Leases are given by the echo of a target; epochs count on this host only."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._hosts = [parse_address(target).host for target in targets]

    async def acquire(self, resource: str, node: str, epoch: int, force: bool = False) -> Lease | Refused:
        started = asyncio.get_running_loop().time()
        if force or await self._reached():
            return Lease(resource, node, epoch + 1, LEASE_TTL_S, started + LEASE_TTL_S)
        return Refused(f"no answer to ping from {' or '.join(self._hosts)}: this host is cut off")

    async def keepalive(self, lease: Lease) -> Lease | Refused:
        """Raises ArbiterError when no target answers: the lease then ends by itself."""
        started = asyncio.get_running_loop().time()
        if not await self._reached():
            raise ArbiterError(f"no answer to ping from {' or '.join(self._hosts)}")
        return Lease(lease.resource, lease.node, lease.epoch, lease.ttl_s, started + lease.ttl_s)

    async def record_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return await self.keepalive(lease)

    async def clear_outdated(self, lease: Lease, peer: str) -> Lease | Refused:
        return lease

    async def is_outdated(self, resource: str, node: str) -> bool:
        return False

    async def release(self, lease: Lease) -> None:
        return None

    async def close(self) -> None:
        return None

    async def _reached(self) -> bool:
        results = await asyncio.gather(*(ping(host, DEADLINE_S) for host in self._hosts))
        return any(results)


async def ping(host: str, deadline_s: float) -> bool:
    """Whether `host`, a name or an IP address, answers one of three echo requests. Raises nothing."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_s):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
            family, _type, _protocol, _name, address = found[0]
            return await _echo(socket.AddressFamily(family), address, deadline_s)
    except (OSError, TimeoutError, IndexError, KeyError):
        return False


async def _echo(family: socket.AddressFamily, address: tuple[object, ...], deadline_s: float) -> bool:
    loop = asyncio.get_running_loop()
    request_type, reply_type, protocol = _ECHO[family]
    token = os.urandom(16)
    with _icmp_socket(family, protocol) as sock:
        sock.setblocking(False)
        for sequence in range(_TRIES):
            body = struct.pack("!BBHHH", request_type, 0, 0, os.getpid() & 0xFFFF, sequence) + token
            if family == socket.AF_INET:
                body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
            await loop.sock_sendto(sock, body, address)
            try:
                async with asyncio.timeout(deadline_s / _TRIES):
                    while True:
                        packet = await loop.sock_recv(sock, 2048)
                        if token in packet and _kind(packet, family) in (reply_type, 0):
                            return True
            except TimeoutError:
                continue
    return False


def _kind(packet: bytes, family: socket.AddressFamily) -> int:
    """ICMP type; raw IPv4 sockets give the IP header too."""
    if family == socket.AF_INET and packet[0] >> 4 == 4 and len(packet) > 28:
        return packet[(packet[0] & 15) * 4]
    return packet[0]


def _icmp_socket(family: socket.AddressFamily, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol)
    except PermissionError:
        return socket.socket(family, socket.SOCK_DGRAM, protocol)
