"""The ground that the lab offers to a drill: hosts, networks, addresses, devices, paths. What is generated names
nothing else.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_address

HOSTS = ("hast1", "hast2")
CLIENT = "client"
WITNESS = "witness"
PUB, REPL = "pub", "repl"
HOST_ADDRESSES = {
    PUB: {"hast1": "10.10.10.181", "hast2": "10.10.10.182"},
    REPL: {"hast1": "192.168.100.100", "hast2": "192.168.100.101"},
}
GATEWAY = "10.10.10.1"
WITNESS_ADDRESS = "10.10.10.60"
ETCD_PORT = 2379
FIRST_SHARED = "10.10.10.180"
"""The shared address that clients of the drill use."""
FURTHER_SHARED = tuple(f"10.10.10.{last}" for last in range(200, 250))
PREFIX_LENGTH = 24
PORT = 10809
"""Where clients find what is measured."""
FURTHER_PORTS = range(10900, 11000)
NETWORKS = (IPv4Network("10.10.10.0/24"), IPv4Network("192.168.100.0/24"))

POOLS = "/pool"
"""Where pools are mounted in a host of the lab."""
STAND_IN = "/run/drill"
"""Marker files of services that the drill does not start."""
PIDFILE = "/run/drill-volume.pid"

_DISK = re.compile(r"/dev/ad[1-9][0-9]*")
_PATHS = (
    _DISK,
    re.compile(rf"{POOLS}(/[A-Za-z0-9._-]+){{1,2}}"),
    re.compile(rf"{STAND_IN}-[A-Za-z0-9._-]+"),
    re.compile(r"/var/run/(hastctl|carpctl|hastd\.pid|carpd\.pid|hast-devd\.pid)"),
)


def disk(number: int) -> str:
    """The device of the throw-away disk of this number, from 1."""
    return f"/dev/ad{number}"


def is_ours(path: str) -> bool:
    """Whether a path belongs to a host of the lab alone."""
    return ".." not in path and any(pattern.fullmatch(path) for pattern in _PATHS)


def is_lab_address(text: str) -> bool:
    """Whether a numeric address is one of the lab's, or stands for all of a host's own."""
    address = ip_address(text)
    return address.is_unspecified or any(address in network for network in NETWORKS)
