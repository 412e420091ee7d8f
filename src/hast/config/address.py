"""Addresses as hast.conf writes them (specification section 1.6). Opens no socket and resolves no name."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

from hast.format.constants import DEFAULT_PORT

MAX_ADDRESS_BYTES = 1023

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_LOOKS_LIKE_IPV4 = re.compile(r"[0-9.]+")


class AddressError(ValueError):
    """Text that is no address; `str()` says what is wrong with it."""


class AddressKind(StrEnum):
    """Transport."""

    UNIX = "unix"
    TCP = "tcp"


class Family(StrEnum):
    """Which IP versions a TCP address may resolve to."""

    ANY = "any"
    IPV4 = "ipv4"
    IPV6 = "ipv6"


_PREFIXES = {
    "uds://": (AddressKind.UNIX, Family.ANY),
    "unix://": (AddressKind.UNIX, Family.ANY),
    "tcp4://": (AddressKind.TCP, Family.IPV4),
    "tcp6://": (AddressKind.TCP, Family.IPV6),
    "tcp://": (AddressKind.TCP, Family.ANY),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. UNIX: `path` is set. TCP: `host` (a name, or an IP address without brackets) and `port`."""

    kind: AddressKind
    family: Family = Family.ANY
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind is AddressKind.UNIX:
            return f"unix://{self.path}"
        scheme = {Family.ANY: "tcp", Family.IPV4: "tcp4", Family.IPV6: "tcp6"}[self.family]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}" if self.port else f"{scheme}://{self.host}"


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Read one address. `default_port` 0 is for `source`, where no port means any. Raises AddressError."""
    if not text:
        raise AddressError("an address is empty")
    if len(text.encode("utf-8", "surrogateescape")) > MAX_ADDRESS_BYTES:
        raise AddressError(f"an address is longer than {MAX_ADDRESS_BYTES} bytes")
    kind, family, rest = _split_prefix(text)
    if kind is AddressKind.UNIX:
        if not rest:
            raise AddressError(f"{text!a} names no socket path")
        return Address(kind, path=rest)
    host, port_text = _split_port(text, rest)
    port = default_port if port_text is None else _port(text, port_text)
    return Address(kind, _family(text, host, family), host, port)


def _split_prefix(text: str) -> tuple[AddressKind, Family, str]:
    for prefix, (kind, family) in _PREFIXES.items():
        if text[: len(prefix)].lower() == prefix:
            return kind, family, text[len(prefix) :]
    if text.startswith("/") and "://" not in text:
        return AddressKind.UNIX, Family.ANY, text
    if "://" in text:
        raise AddressError(f"{text!a} has no known prefix: use tcp://, tcp4://, tcp6://, unix:// or uds://")
    return AddressKind.TCP, Family.ANY, text


def _split_port(text: str, rest: str) -> tuple[str, str | None]:
    """Host without brackets, and the port's text or None."""
    colons = rest.count(":")
    if rest.startswith("["):
        host, bracket, after = rest[1:].partition("]")
        if bracket and not after:
            raise AddressError(f"{text!a} needs a port after the bracket, [{host}]:{DEFAULT_PORT}, or no brackets")
        if not bracket or not after.startswith(":"):
            raise AddressError(f"{text!a} is not of the form [IPv6 address]:port")
        if ":" not in host:
            raise AddressError(f"{text!a} has brackets around {host!a}, which is no IPv6 address")
        return host, after[1:]
    if colons == 1:
        host, _, port = rest.partition(":")
        return host, port
    return rest, None


def _port(text: str, port_text: str) -> int:
    if not (port_text.isascii() and port_text.isdigit()) or len(port_text) > 5 or not 1 <= int(port_text) <= 65535:
        raise AddressError(f"{text!a} has the port {port_text!a}, which is not a number from 1 to 65535")
    return int(port_text)


def _family(text: str, host: str, wanted: Family) -> Family:
    """Check the host part and narrow the family where it is a numeric address."""
    if not host:
        raise AddressError(f"{text!a} names no host")
    if "/" in host:
        raise AddressError(f"{text!a} contains '/': an address has no prefix length here")
    found = _numeric_family(text, host)
    if found is None:
        return wanted
    if wanted not in (Family.ANY, found):
        raise AddressError(f"{text!a} asks for {wanted} but {host} is an {found} address")
    return found


def _numeric_family(text: str, host: str) -> Family | None:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise AddressError(f"{text!a}: {host!a} is no IPv6 address") from None
        return Family.IPV6
    if _LOOKS_LIKE_IPV4.fullmatch(host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise AddressError(f"{text!a}: {host!a} is no IPv4 address") from None
        return Family.IPV4
    if not _HOST_NAME.fullmatch(host):
        raise AddressError(f"{text!a}: {host!a} is no host name")
    return None
