"""format/carp.py: bytes of advertisements, against a recording of a genuine peer and against itself."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.format import carp

RECORDING = "sketches/carp-ucarp-sample.pcap"
ADDRESS = IPv4Address("192.168.100.105")


def recorded_payloads() -> list[tuple[bytes, int]]:
    shared = Path(os.environ.get("HAST_SHARED", Path(__file__).parents[3] / "shared"))
    path = shared / RECORDING if (shared / RECORDING).exists() else shared.parent / RECORDING
    if not path.exists():
        pytest.skip(f"no recording {RECORDING} beside the repository")
    data = path.read_bytes()
    out = []
    at = 24
    while at < len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = data[at + 16 : at + 16 + size]
        ip = frame[14:]
        out.append((ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")], ip[8]))
        at += 16 + size
    return out


@pytest.fixture
def key() -> carp.Authenticator:
    return carp.Authenticator(b"secretpw", 1, [ADDRESS])


def test_recorded_advertisements_of_a_genuine_peer_verify(key: carp.Authenticator) -> None:
    payloads = recorded_payloads()
    assert len(payloads) == 2
    for payload, ttl in payloads:
        advertisement = carp.decode(payload, ttl)
        key.verify(advertisement)
        assert (advertisement.vhid, advertisement.advbase, advertisement.advskew) == (1, 1, 0)


def test_encoding_reproduces_the_recorded_bytes(key: carp.Authenticator) -> None:
    for payload, ttl in recorded_payloads():
        assert carp.encode(carp.decode(payload, ttl), key) == payload


def test_address_order_and_repetition_do_not_matter_and_ipv6_follows_ipv4() -> None:
    a, b = ip_address("10.0.0.2"), ip_address("10.0.0.10")
    c, d = ip_address("2001:db8::1"), ip_address("::2")
    one = carp.Authenticator(b"pw", 7, [a, b, c, d])
    other = carp.Authenticator(b"pw", 7, [d, c, b, a, a])
    assert one.digest(5) == other.digest(5)
    message = b"\x02\x01\x07" + a.packed + b.packed + d.packed + c.packed + (5).to_bytes(8, "big")
    assert one.digest(5) == hmac.new(b"pw".ljust(20, b"\0"), message, hashlib.sha1).digest()


def test_the_embedded_scope_of_link_local_addresses_is_cleared() -> None:
    plain = carp.Authenticator(b"pw", 1, [IPv6Address("fe80::1")])
    scoped = carp.Authenticator(b"pw", 1, [IPv6Address("fe80:3::1")])
    assert plain.digest(1) == scoped.digest(1)


@settings(max_examples=60)
@given(
    vhid=st.integers(1, 255),
    skew=st.integers(0, 255),
    base=st.integers(0, 255),
    counter=st.integers(0, carp.MAX_COUNTER),
)
def test_what_was_encoded_decodes_and_verifies(vhid: int, skew: int, base: int, counter: int) -> None:
    key = carp.Authenticator(b"mypassword", vhid, [ADDRESS])
    payload = carp.encode(carp.Advertisement(vhid, skew, base, counter), key)
    assert len(payload) == carp.SIZE_BYTES
    read = carp.decode(payload, 255)
    key.verify(read)
    assert (read.vhid, read.advskew, read.advbase, read.counter) == (vhid, skew, base, counter)


@settings(max_examples=100)
@given(payload=st.binary(max_size=64), ttl=st.integers(0, 255))
def test_any_bytes_give_an_advertisement_or_a_carp_error(payload: bytes, ttl: int) -> None:
    with contextlib.suppress(carp.CarpError):
        carp.decode(payload, ttl)


@settings(max_examples=60)
@given(position=st.integers(0, 35), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, flip: int) -> None:
    key = carp.Authenticator(b"pw", 9, [ADDRESS])
    payload = bytearray(carp.encode(carp.Advertisement(9, 3, 1, 77), key))
    payload[position] ^= flip
    with pytest.raises(carp.CarpError):
        key.verify(carp.decode(bytes(payload), 255))


def good(key: carp.Authenticator) -> bytes:
    return carp.encode(carp.Advertisement(1, 0, 1, 42), key)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda p: (p, 254), carp.TtlError),
        (lambda p: (p[:-1], 255), carp.TruncatedError),
        (lambda p: (p + b"\0", 255), carp.TruncatedError),
        (lambda p: (b"\x31" + p[1:], 255), carp.VersionError),
        (lambda p: (b"\x22" + p[1:], 255), carp.VersionError),
        (lambda p: (p[:3] + b"\x06" + p[4:], 255), carp.AuthLengthError),
        (lambda p: (p[:20] + bytes([p[20] ^ 1]) + p[21:], 255), carp.ChecksumError),
    ],
)
def test_each_way_of_being_bad_has_its_error(key: carp.Authenticator, change, error) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error):
        carp.decode(*change(good(key)))


@pytest.mark.parametrize(
    "other",
    [
        carp.Authenticator(b"another", 1, [ADDRESS]),
        carp.Authenticator(b"secretpw", 2, [ADDRESS]),
        carp.Authenticator(b"secretpw", 1, [ADDRESS, IPv4Address("10.0.0.1")]),
        carp.Authenticator(b"secretpw", 1, []),
    ],
)
def test_another_pass_phrase_vhid_or_address_list_does_not_verify(
    key: carp.Authenticator, other: carp.Authenticator
) -> None:
    with pytest.raises(carp.AuthenticationError):
        other.verify(carp.decode(good(key), 255))


@pytest.mark.parametrize(("phrase", "vhid"), [(b"x" * 21, 1), (b"x", 0), (b"x", 256)])
def test_unusable_keys_are_refused(phrase: bytes, vhid: int) -> None:
    with pytest.raises(ValueError):
        carp.Authenticator(phrase, vhid, [])


def test_encode_refuses_fields_out_of_range(key: carp.Authenticator) -> None:
    with pytest.raises(ValueError):
        carp.encode(carp.Advertisement(1, 256, 1, 0), key)
