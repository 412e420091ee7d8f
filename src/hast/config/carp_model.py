"""The typed, frozen form of carp.conf as one host sees it. Holds no parser and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

MAX_PASSWORD_BYTES = 20
MAX_ADVSKEW = 254
MAX_ADVBASE_S = 255

DEFAULT_CARP_CONF = "/etc/carp.conf"
DEFAULT_CARP_CONTROL = "/var/run/carpctl"
DEFAULT_CARP_PIDFILE = "/var/run/carpd.pid"


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """One vhid on one interface: the addresses that move together from node to node."""

    name: str
    """Name in logs, status and events, and the `subsystem` of IFNET events; `carp0` or `vhidN`. Unique in the file."""
    vhid: int
    """1 to 255, unique per interface."""
    interface: str
    """The interface that advertisements go through and that gets the addresses, for example `eth0`."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    """At least one, in file order."""
    password: str = ""
    """At most MAX_PASSWORD_BYTES bytes of UTF-8; the key of the HMAC."""
    advbase_s: int = 1
    """1 to MAX_ADVBASE_S seconds between advertisements."""
    advskew: int = 0
    """0 to MAX_ADVSKEW, in 1/256 seconds; the smaller wins."""
    preempt: bool = False
    """Take the address from a living master that is worse than oneself."""
    resources: tuple[str, ...] = ()
    """HAST resources whose data state demotes this vhid; empty: none."""


@dataclass(frozen=True, slots=True)
class CarpConfiguration:
    """The whole file, for this host. `groups` holds, in file order, the vhids that this host takes part in."""

    path: str
    control: str = DEFAULT_CARP_CONTROL
    pidfile: str = DEFAULT_CARP_PIDFILE
    groups: tuple[VirtualHost, ...] = ()
