"""CARP version 2 advertisements: 36 bytes after the IP header, IPv4 and IPv6 (carp.md, "Packet").

Layout, network order: version 2 | type 1 (one byte, high and low nibble), vhid u8, advskew u8, authlen u8 = 7 (32-bit
words), pad u8, advbase u8, Internet checksum u16, counter u64, HMAC-SHA1 (20 bytes) over 0x02 0x01 vhid, the IPv4
addresses ascending, the IPv6 addresses ascending with any embedded scope cleared, and the counter.

The HMAC covers neither advskew nor advbase: whoever judges an advertisement must also refuse a counter seen before
(election/replay.py). This module keeps no state, does no I/O and decides nothing about roles.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

PROTOCOL = 112
TTL = 255
GROUP_IPV4 = IPv4Address("224.0.0.18")
GROUP_IPV6 = IPv6Address("ff02::12")
SIZE_BYTES = 36
VERSION = 2
ADVERTISEMENT = 1
AUTHLEN_WORDS = 7
MAX_KEY_BYTES = 20
MAX_COUNTER = (1 << 64) - 1

_HEAD = struct.Struct("!BBBBBBHQ")
_VERSION_AND_TYPE = VERSION << 4 | ADVERTISEMENT


class CarpError(ValueError):
    """An advertisement that must be ignored. `kind` names the counter it is added to."""

    kind: ClassVar[str] = "bad"


class TtlError(CarpError):
    """It did not come from this segment: its TTL or hop limit is not 255."""

    kind: ClassVar[str] = "bad-ttl"


class TruncatedError(CarpError):
    """Not 36 bytes long."""

    kind: ClassVar[str] = "bad-length"


class VersionError(CarpError):
    """Not CARP version 2, or not an advertisement."""

    kind: ClassVar[str] = "bad-version"


class AuthLengthError(CarpError):
    """The authentication field has another size than seven words."""

    kind: ClassVar[str] = "bad-authlen"


class ChecksumError(CarpError):
    """The Internet checksum does not fit the bytes."""

    kind: ClassVar[str] = "bad-checksum"


class AuthenticationError(CarpError):
    """The HMAC is of another pass phrase, other addresses, another vhid or another counter."""

    kind: ClassVar[str] = "bad-auth"


ERROR_KINDS = tuple(
    error.kind
    for error in (TtlError, TruncatedError, VersionError, AuthLengthError, ChecksumError, AuthenticationError)
)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a master tells. `advbase` in seconds, `advskew` in 1/256 s, both 0..255; `vhid` 1..255."""

    vhid: int
    advskew: int
    advbase: int
    counter: int
    digest: bytes = b""
    """The HMAC as received, 20 bytes; empty before `encode`."""

    @property
    def interval_s(self) -> float:
        """Seconds between two advertisements of this master; the smaller one is the better master."""
        return self.advbase + self.advskew / 256


class Authenticator:
    """HMAC of one vhid: pass phrase (at most 20 bytes) and its addresses, which both nodes must configure alike.

    Raises ValueError for a vhid outside 1..255 or a pass phrase that is too long.
    """

    def __init__(self, passphrase: bytes, vhid: int, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        if not 1 <= vhid <= 255:
            raise ValueError(f"vhid {vhid} is not in 1..255")
        if len(passphrase) > MAX_KEY_BYTES:
            raise ValueError(f"pass phrase of {len(passphrase)} bytes, at most {MAX_KEY_BYTES} are allowed")
        ordered = set(addresses)
        v4 = sorted(a.packed for a in ordered if isinstance(a, IPv4Address))
        v6 = sorted(_without_scope(a) for a in ordered if isinstance(a, IPv6Address))
        self.vhid = vhid
        self._mac = hmac.new(passphrase, bytes((VERSION, ADVERTISEMENT, vhid)) + b"".join(v4 + v6), hashlib.sha1)

    def digest(self, counter: int) -> bytes:
        """The 20 bytes that prove knowledge of the pass phrase for this counter (0..2**64-1)."""
        mac = self._mac.copy()
        mac.update(counter.to_bytes(8, "big"))
        return mac.digest()

    def verify(self, advertisement: Advertisement) -> None:
        """Raise AuthenticationError unless the advertisement carries the digest of this vhid."""
        if advertisement.vhid != self.vhid or not hmac.compare_digest(
            self.digest(advertisement.counter), advertisement.digest
        ):
            raise AuthenticationError(
                f"vhid {advertisement.vhid}: wrong HMAC; compare pass phrase and addresses of both nodes"
            )


def _without_scope(address: IPv6Address) -> bytes:
    packed = address.packed
    if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        return packed[:2] + b"\0\0" + packed[4:]
    return packed


def internet_checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`; 0 when `data` holds its own correct checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def encode(advertisement: Advertisement, authenticator: Authenticator) -> bytes:
    """The 36 bytes of an advertisement, checksum and HMAC made here. Raises ValueError for fields out of range."""
    a = advertisement
    if a.vhid != authenticator.vhid or not (
        0 <= a.advskew <= 255 and 0 <= a.advbase <= 255 and 0 <= a.counter <= MAX_COUNTER
    ):
        raise ValueError(f"advertisement out of range: {a}")
    digest = authenticator.digest(a.counter)

    def packed(checksum: int) -> bytes:
        return (
            _HEAD.pack(_VERSION_AND_TYPE, a.vhid, a.advskew, AUTHLEN_WORDS, 0, a.advbase, checksum, a.counter) + digest
        )

    return packed(internet_checksum(packed(0)))


def decode(payload: bytes, ttl: int) -> Advertisement:
    """Read what follows the IP header, received with this TTL or hop limit. The HMAC is not checked here.

    Raises TtlError, TruncatedError, VersionError, AuthLengthError, ChecksumError; all are CarpError.
    """
    if ttl != TTL:
        raise TtlError(f"TTL {ttl} instead of {TTL}: not from this segment")
    if len(payload) != SIZE_BYTES:
        raise TruncatedError(f"{len(payload)} bytes instead of {SIZE_BYTES}")
    version_and_type, vhid, advskew, authlen, _pad, advbase, _checksum, counter = _HEAD.unpack_from(payload)
    if version_and_type != _VERSION_AND_TYPE or vhid == 0:
        raise VersionError(
            f"version {version_and_type >> 4}, type {version_and_type & 15}, vhid {vhid}: "
            f"not an advertisement of CARP version {VERSION}"
        )
    if authlen != AUTHLEN_WORDS:
        raise AuthLengthError(f"authlen {authlen} instead of {AUTHLEN_WORDS}")
    if internet_checksum(payload) != 0:
        raise ChecksumError("the checksum does not fit")
    return Advertisement(vhid, advskew, advbase, counter, bytes(payload[_HEAD.size :]))
