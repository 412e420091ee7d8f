"""Addresses of hast.conf: specification section 1.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.config.address import Address, AddressError, AddressKind, Family, parse_address

TCP = AddressKind.TCP
UNIX = AddressKind.UNIX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/run/hastctl", Address(UNIX, path="/var/run/hastctl")),
        ("uds:///var/run/x", Address(UNIX, path="/var/run/x")),
        ("UNIX://run/x", Address(UNIX, path="run/x")),
        ("hast2", Address(TCP, Family.ANY, "hast2", 8457)),
        ("hast2.freebsd.loc:99", Address(TCP, Family.ANY, "hast2.freebsd.loc", 99)),
        ("tcp://hast2", Address(TCP, Family.ANY, "hast2", 8457)),
        ("TCP4://hast2:65535", Address(TCP, Family.IPV4, "hast2", 65535)),
        ("tcp6://hast2", Address(TCP, Family.IPV6, "hast2", 8457)),
        ("192.168.100.101", Address(TCP, Family.IPV4, "192.168.100.101", 8457)),
        ("tcp4://0.0.0.0:8457", Address(TCP, Family.IPV4, "0.0.0.0", 8457)),
        ("tcp6://[::]:8457", Address(TCP, Family.IPV6, "::", 8457)),
        ("::1", Address(TCP, Family.IPV6, "::1", 8457)),
        ("[::1]:1", Address(TCP, Family.IPV6, "::1", 1)),
        ("tcp://2001:db8::1", Address(TCP, Family.IPV6, "2001:db8::1", 8457)),
        ("fe80::1%eth1", Address(TCP, Family.IPV6, "fe80::1%eth1", 8457)),
    ],
)
def test_addresses_are_read_as_the_reference_reads_them(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("uds://", "no socket path"),
        ("tcp://", "no host"),
        (":8457", "no host"),
        ("hast2:", "port ''"),
        ("hast2:0", "port '0'"),
        ("hast2:65536", "port '65536'"),
        ("hast2:99999999999999999999", "from 1 to 65535"),
        ("hast2:http", "port 'http'"),
        ("hast2:+1", "port '+1'"),
        ("[::1]", "needs a port"),
        ("[::1", "not of the form"),
        ("[::1]8457", "not of the form"),
        ("[hast2]:1", "no IPv6 address"),
        ("1:2:3", "no IPv6 address"),
        ("tcp://2001:db8::1/64", "no prefix length"),
        ("10.0.0.256", "no IPv4 address"),
        ("1.1", "no IPv4 address"),
        ("tcp6://10.0.0.1", "asks for ipv6"),
        ("tcp4://::1", "asks for ipv4"),
        ("udp://hast2", "no known prefix"),
        ("-x", "no host name"),
        ("x%y", "no host name"),
        ("x" * 1024, "longer than 1023"),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_without_a_port_means_any_port() -> None:
    assert parse_address("10.0.0.1", default_port=0).port == 0
    assert parse_address("10.0.0.1:7", default_port=0).port == 7


@pytest.mark.parametrize("text", ["/x", "hast2", "tcp6://hast2:7", "[::1]:9", "10.0.0.1:9", "fe80::1%eth1"])
def test_the_printed_form_reads_back_the_same(text: str) -> None:
    address = parse_address(text)
    assert parse_address(str(address)) == address


@given(st.text(max_size=60) | st.text("tcpuds46:/[].%0189a", max_size=30))
def test_any_text_gives_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address
