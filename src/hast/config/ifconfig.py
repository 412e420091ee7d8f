"""The CARP lines of ifconfig(8) and rc.conf(5): `inet 10.0.0.1 netmask 255.255.255.0 vhid 1 pass secret advskew 0`.

Reads the words into settings of a vhid; takes no notice of what is not CARP's. Knows no file and no position.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

_VARIABLE = re.compile(r"ifconfig_([A-Za-z0-9.-]+)(_alias[0-9]+|_aliases|_ipv6)?")
_FLAGS = frozenset({"alias", "add", "up"})
_SKIPPED_PAIRS = frozenset({"broadcast", "metric"})


class IfconfigError(ValueError):
    """Words that cannot be read; `str()` says which and why."""


@dataclass(slots=True)
class IfconfigLine:
    """What one line sets; None where it does not say. Numbers are as written, their ranges not yet checked."""

    addresses: list[IPv4Interface | IPv6Interface] = field(default_factory=list)
    vhid: int | None = None
    password: str | None = None
    advbase_s: int | None = None
    advskew: int | None = None


def variable_interface(name: str) -> str:
    """`carp0` of `ifconfig_carp0` or `ifconfig_carp0_alias1`. Raises IfconfigError."""
    found = _VARIABLE.fullmatch(name)
    if found is None:
        raise IfconfigError(f"'{name}' is not a variable such as ifconfig_carp0")
    return found[1]


def parse_address(text: str) -> IPv4Interface | IPv6Interface:
    """An address with or without prefix length; without, it is alone in its network. Raises IfconfigError."""
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        raise IfconfigError(f"{text!a} is not an address such as 10.10.10.180/24 or 2001:db8::180/64") from None


def parse_line(text: str) -> IfconfigLine:
    """Read the arguments of one ifconfig command. Raises IfconfigError."""
    line = IfconfigLine()
    words = iter(text.split())
    for word in words:
        if word in ("inet", "inet6"):
            _family(line, word, words)
        elif word == "vhid":
            line.vhid = _number(word, words)
        elif word == "advbase":
            line.advbase_s = _number(word, words)
        elif word == "advskew":
            line.advskew = _number(word, words)
        elif word == "pass":
            line.password = _next(word, words)
        elif word in ("netmask", "prefixlen"):
            _set_prefix(line, word, _next(word, words))
        elif word in _SKIPPED_PAIRS:
            _next(word, words)
        elif word not in _FLAGS:
            line.addresses.append(parse_address(word))
    return line


def _family(line: IfconfigLine, family: str, words: Iterator[str]) -> None:
    """`inet` is followed by an address, or by `vhid N` and the address later."""
    word = _next(family, words)
    if word == "vhid":
        line.vhid = _number(word, words)
        return
    if word in _FLAGS:
        word = _next(family, words)
    address = parse_address(word)
    if (address.version == 6) is not (family == "inet6"):
        raise IfconfigError(f"{word} does not belong after '{family}'")
    line.addresses.append(address)


def _set_prefix(line: IfconfigLine, keyword: str, mask: str) -> None:
    if not line.addresses:
        raise IfconfigError(f"'{keyword}' stands before any address")
    if re.fullmatch(r"0[xX][0-9a-fA-F]{8}", mask):
        mask = str(ipaddress.IPv4Address(int(mask, 16)))
    try:
        line.addresses[-1] = ipaddress.ip_interface(f"{line.addresses[-1].ip}/{mask}")
    except ValueError:
        raise IfconfigError(f"{mask!a} is not a {keyword} of {line.addresses[-1].ip}") from None


def _number(keyword: str, words: Iterator[str]) -> int:
    word = _next(keyword, words)
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise IfconfigError(f"'{keyword}' is followed by {word!a}, not by a number")
    return int(word)


def _next(keyword: str, words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise IfconfigError(f"nothing follows '{keyword}'")
    return word
