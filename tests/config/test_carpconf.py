"""carp.conf: docs/carp.conf.5.md, and the line of the article."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.config.carp_model import CarpConfiguration, VirtualHost
from hast.config.carpconf import DIALECT, load, parse
from hast.config.host import Host
from hast.config.model import ConfigError
from hast.config.syntax import keywords

HAST1 = Host("hast1.freebsd.loc")
HAST2 = Host("hast2.freebsd.loc")
LINE = "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew "
ARTICLE = VirtualHost("carp0", 1, "eth0", (IPv4Interface("10.10.10.180/24"),), "mypassword", advskew=0)


def read(text: str, host: Host = HAST1) -> CarpConfiguration:
    return parse(text, "carp.conf", host)


def only(text: str, host: Host = HAST1) -> VirtualHost:
    (group,) = read(text, host).groups
    return group


def error_of(text: str) -> str:
    """The error's text; empty when the text is accepted. Anything but a ConfigError fails the test."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return ""


# The line of the article


@pytest.mark.parametrize(("host", "advskew"), [(HAST1, 0), (HAST2, 100)])
def test_the_articles_line_is_a_value_on_either_node(host: Host, advskew: int) -> None:
    text = (
        f'interface eth0\non hast1 {{ ifconfig carp0 "{LINE}0" }}\non hast2 {{ ifconfig carp0 "{LINE}100" }}\n'
        "resource disk1 resource disk2 preempt on"
    )
    group = only(text, host)
    assert (group.name, group.vhid, group.interface, group.password) == ("carp0", 1, "eth0", "mypassword")
    assert group.addresses == (IPv4Interface("10.10.10.180/24"),)
    assert (group.advskew, group.preempt, group.resources) == (advskew, True, ("disk1", "disk2"))


def test_the_articles_rc_conf_setting_is_taken_as_it_stands(shared: Path) -> None:
    found = re.search(r'ifconfig_carp0="[^"]*"', (shared / "article.txt").read_text())
    assert found
    assert found[0] == f'ifconfig_carp0="{LINE}0"'
    assert only(f"interface eth0 {found[0]}") == ARTICLE


def test_alias_lines_add_addresses_to_their_carp_interface() -> None:
    text = (
        f'interface eth0\nifconfig_carp0="{LINE}0"\n'
        'ifconfig_carp0_alias0="inet 10.10.10.181/24"\nifconfig_carp0_ipv6="inet6 2001:db8::180 prefixlen 64"\n'
    )
    assert [str(address) for address in only(text).addresses] == [
        "10.10.10.180/24",
        "10.10.10.181/24",
        "2001:db8::180/64",
    ]


def test_the_newer_form_on_a_real_interface_is_taken_too() -> None:
    group = only('ifconfig_eth1_alias0="inet vhid 7 advskew 10 pass x alias 10.10.10.180/32"')
    assert group == VirtualHost("carp6", 7, "eth1", (IPv4Interface("10.10.10.180/32"),), "x", advskew=10)


def test_two_vhids_on_one_real_interface_are_two_groups() -> None:
    groups = read('ifconfig e "inet 10.0.0.1/24 vhid 1"  ifconfig e "inet 10.0.0.2/24 vhid 2"').groups
    assert [(group.name, group.vhid) for group in groups] == [("carp0", 1), ("carp1", 2)]


def test_a_hexadecimal_netmask_is_read() -> None:
    text = 'interface e ifconfig carp3 "inet 10.0.0.1 netmask 0xffffff00 broadcast 10.0.0.255 vhid 9 up"'
    assert only(text).addresses == (IPv4Interface("10.0.0.1/24"),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inet", "nothing follows 'inet'"),
        ("inet 10.0.0.1/24 vhid", "nothing follows 'vhid'"),
        ("inet 10.0.0.1/24 vhid one", "'vhid' is followed by 'one', not by a number"),
        ("inet 10.0.0.1/24 vhid 256", "vhid 256 is not from 1 to 255"),
        ("inet 10.0.0.1/24 vhid 1 advskew 255", "advskew 255 is not from 0 to 254"),
        ("inet 10.0.0.1/24 vhid 1 advbase 0", "advbase 0 is not from 1 to 255"),
        ("inet 10.0.0.1 netmask 255.0.255.0 vhid 1", "'255.0.255.0' is not a netmask of 10.0.0.1"),
        ("netmask 255.0.0.0 inet 10.0.0.1 vhid 1", "'netmask' stands before any address"),
        ("inet 2001:db8::1 vhid 1", "2001:db8::1 does not belong after 'inet'"),
        ("inet6 10.0.0.1 vhid 1", "10.0.0.1 does not belong after 'inet6'"),
        ("inet 10.0.0.1/24 vhid 1 mtu 9000", "'mtu' is not an address"),
        ("inet 10.0.0.1/24", "carp0 has no vhid"),
        ("vhid 1", "vhid 1 has no address"),
        ("vhid 1 inet 10.0.0.1/24 pass 123456789012345678901", "the password is not of 1 to 20 printable bytes"),
    ],
)
def test_a_wrong_ifconfig_line_is_refused_with_the_reason(line: str, expected: str) -> None:
    assert expected in error_of(f'interface eth0 ifconfig carp0 "{line}"')


def test_an_interface_line_without_carp_is_refused() -> None:
    assert "the line for re0 names no vhid" in error_of('ifconfig_re0="inet 10.10.10.181 netmask 255.255.255.0"')


# vhid blocks

BLOCK = """
control /run/carp.sock
pidfile /run/carpd.pid
vhid 1 {
    name storage
    interface pub
    pass "my #1 word"
    advbase 2
    preempt on
    address 10.10.10.180/24
    address 2001:db8::180/64
    resource disk1
    on hast1 { advskew 0 }
    on hast2 { advskew 100 interface eth7 address 10.10.10.181/24 resource disk2 }
}
"""


def test_a_block_says_everything_about_a_vhid() -> None:
    assert read(BLOCK) == CarpConfiguration(
        "carp.conf",
        "/run/carp.sock",
        "/run/carpd.pid",
        (
            VirtualHost(
                "storage",
                1,
                "pub",
                (IPv4Interface("10.10.10.180/24"), IPv6Interface("2001:db8::180/64")),
                "my #1 word",
                2,
                0,
                True,
                ("disk1",),
            ),
        ),
    )


def test_a_nodes_section_overrides_values_and_adds_addresses_and_resources() -> None:
    group = only(BLOCK, HAST2)
    assert (group.advskew, group.interface, len(group.addresses)) == (100, "eth7", 3)
    assert group.resources == ("disk1", "disk2")


def test_defaults_go_from_the_file_to_the_node_to_the_vhid() -> None:
    text = (
        "interface a advskew 1 advbase 1 pass x on hast1 { interface b advskew 2 } on hast2 { interface c advbase 9 } "
        "vhid 1 { address 10.0.0.1 advskew 3 } resource r"
    )
    assert only(text) == VirtualHost("carp0", 1, "b", (IPv4Interface("10.0.0.1/32"),), "x", 1, 3, resources=("r",))


def test_a_vhid_inside_a_nodes_section_is_of_that_node_only() -> None:
    text = "interface a on hast1 { vhid 1 { address 10.0.0.1 } } on hast2 { vhid 2 { address 10.0.0.2 } }"
    assert only(text, HAST1).vhid == 1
    assert only(text, HAST2).vhid == 2


def test_an_empty_file_has_no_groups() -> None:
    assert read("# nothing\n") == CarpConfiguration("carp.conf")


def test_a_password_may_be_any_printable_text_in_quotes_and_any_word_without() -> None:
    for written, password in [('"ä{} #\'x"', "ä{} #'x"), ("pass", "pass"), ("12345", "12345"), ("on", "on")]:
        assert only(f"vhid 1 {{ interface e address 10.0.0.1 pass {written} }}").password == password


@pytest.mark.parametrize("name", sorted(keywords(DIALECT) - {"{", "}", "="}))
def test_keywords_remain_usable_as_names(name: str) -> None:
    group = only(f"vhid 1 {{ interface {name} name {name} pass {name} resource {name} address 10.0.0.1 }}")
    assert (group.interface, group.name, group.password, group.resources) == (name, name, name, (name,))


# What is refused

GOOD = "interface e address 10.0.0.1/24"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vhid 0 { }", "1:6: vhid 0 is not from 1 to 255"),
        ("vhid 256 { }", "1:6: vhid 256 is not from 1 to 255"),
        (f"vhid {'9' * 5000} {{ }}", "is not from 1 to 255"),
        ("vhid one { }", "expected a number from 1 to 255"),
        ("vhid 1 { address 10.0.0.1 }", "vhid 1 has no interface; add for example 'interface eth0'"),
        ("vhid 1 { interface e }", "vhid 1 has no address; add for example"),
        ("vhid 1 { address 10.0.0.0/24 }", "is the address of a network or its broadcast"),
        ("vhid 1 { address 10.0.0.255/24 }", "is the address of a network or its broadcast"),
        ("vhid 1 { address 224.0.0.18 }", "cannot be shared between hosts"),
        ("vhid 1 { address ::1 }", "cannot be shared between hosts"),
        ("vhid 1 { address fe80::1%e/64 }", "names an interface"),
        ("vhid 1 { address storage }", "'storage' is not an address"),
        ("vhid 1 { address 10.0.0.1/33 }", "'10.0.0.1/33' is not an address"),
        ("vhid 1 { advskew 255 }", "advskew 255 is not from 0 to 254"),
        ("vhid 1 { advbase 256 }", "advbase 256 is not from 1 to 255"),
        ("vhid 1 { preempt maybe }", "expected 'off' or 'on'"),
        ("vhid 1 { interface an-interface-too-long }", "is not the name of a network interface"),
        ("vhid 1 { interface a/b }", "is not the name of a network interface"),
        ('vhid 1 { name "a b" }', "'a b' is not a name such as carp0"),
        ('vhid 1 { pass "" }', "the password is not of 1 to 20 printable bytes"),
        ("vhid 1 { pass 123456789012345678901 }", "the password is not of 1 to 20 printable bytes"),
        ("vhid 1 { pass my#secret }", "found the character '#', expected a space before it, or double quotes"),
        ('vhid 1 { pass "my"secret }', "found the character 's', expected a space before it, or double quotes"),
        ("vhid 1 { pass my$ecret }", "found the character '$', expected a space before it, or double quotes"),
        ('vhid 1 { pass "my }', "found a quote that is never closed"),
        (f"vhid 1 {{ {GOOD} on hast2 {{ }} }}", "No vhid 1 configuration for this node (acceptable node names: hast1,"),
        (f"on hast2 {{ vhid 1 {{ {GOOD} }} }}", "No vhid configuration for this node (acceptable node names: hast1,"),
        (f"vhid 1 {{ {GOOD} }} vhid 1 {{ {GOOD} name b }}", "two vhids have vhid 1 on e"),
        (f"vhid 1 {{ {GOOD} name b }} vhid 2 {{ {GOOD} }}", "two vhids have the address 10.0.0.1"),
        (f"vhid 1 {{ {GOOD} }} vhid 1 {{ interface f address 10.0.0.2 }}", "two vhids have the name carp0"),
        ("control unix://", "is not the path of a UNIX socket"),
        (f"control /{'x' * 1023}", "control argument is too long."),
        ('pidfile ""', "is empty or holds characters that cannot be printed"),
        ('resource "a\tb"', "is empty or holds characters that cannot be printed"),
        (f"resource {'x' * 255}", "Resource name is too long."),
        ('interface e ifconfig carp0 "vhid 1" ifconfig carp0 "vhid 2"', "carp0 already has the vhid 1"),
        ("control tcp://0.0.0.0", "is not the path of a UNIX socket"),
        ("foo=bar", "expected 'advbase'"),
        ('ifconfig_="x"', "expected 'advbase'"),
        ('ifconfig_a_b="x"', "is not a variable such as ifconfig_carp0"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_the_reason(text: str, expected: str) -> None:
    message = error_of(text)
    assert expected in message
    assert re.match(r"carp\.conf:1:\d+: ", message)
    assert "secret" not in message


def test_load_reads_the_file_and_names_it_when_it_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "carp.conf"
    with pytest.raises(ConfigError, match="Unable to open configuration file") as caught:
        load(str(path), HAST1)
    assert caught.value.exit_code == 72
    path.write_text(BLOCK)
    assert load(str(path), HAST1).groups == read(BLOCK).groups


# Properties

names = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
passwords = st.text(st.characters(exclude_characters='"', exclude_categories=("C", "Z")), max_size=6)
interfaces = (
    st.ip_addresses()
    .map(ip_interface)
    .filter(lambda a: not (a.ip.is_multicast or a.ip.is_unspecified or a.ip.is_loopback))
)


@st.composite
def groups(draw: st.DrawFn) -> VirtualHost:
    addresses = draw(st.lists(interfaces, min_size=1, max_size=3, unique=True))
    return VirtualHost(
        draw(names),
        draw(st.integers(1, 255)),
        draw(names),
        tuple(addresses),
        draw(passwords.filter(lambda text: len(text.encode()) <= 20)),
        draw(st.integers(1, 255)),
        draw(st.integers(0, 254)),
        draw(st.booleans()),
        tuple(draw(st.lists(names, max_size=2, unique=True))),
    )


def printed(group: VirtualHost) -> list[str]:
    words = ["vhid", str(group.vhid), "{", "name", group.name, "interface", group.interface]
    words += ["pass", f'"{group.password}"'] if group.password else []
    words += ["advbase", str(group.advbase_s), "preempt", "on" if group.preempt else "off"]
    for address in group.addresses:
        words += ["address", str(address)]
    for resource in group.resources:
        words += ["resource", resource]
    return [*words, "on", "hast1", "{", "advskew", str(group.advskew), "}", "on", "hast2", "{", "}", "}"]


@settings(max_examples=60, deadline=None)
@given(groups(), st.randoms(use_true_random=False))
def test_a_vhid_that_is_printed_reads_back_the_same(group: VirtualHost, random: Any) -> None:
    text = "".join(word + random.choice((" ", "\n", "\t", "\r\n", " # } vhid\n")) for word in printed(group))
    assert only(text) == group


WORDS = [*sorted(keywords(DIALECT)), "1", "0", "300", "e", "hast1", "10.0.0.1/24", "::2", '"', f'"{LINE}0"', "#", "\n"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    assert "\n" not in error_of(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*LINE.split(), "inet6", "/", "::1/64", "alias", "0x", "-1"]), max_size=12))
def test_any_ifconfig_line_gives_a_configuration_or_a_config_error(words: list[str]) -> None:
    assert "\n" not in error_of(f'interface e ifconfig carp0 "{" ".join(words)}"')
