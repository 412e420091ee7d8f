"""hast.conf: specification section 1, the Linux keywords, and the cases of the reference grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.config.hastconf import DIALECT, load, parse
from hast.config.host import Host
from hast.config.model import (
    SYNC_AUTO,
    Arbiter,
    ArbiterKind,
    ConfigError,
    Configuration,
    Device,
    DiskCache,
    NodeNames,
    Resource,
    SplitBrainPolicy,
    Tls,
)
from hast.config.syntax import keywords
from hast.format.constants import Checksum, Compression, Replication

HOST = Host("hasta.example.org", "9B9A0F4E-0000-11E0-8000-000000000001", 3735928559)
ARTICLE = " ".join(
    f"resource disk{n} {{ on hast1 {{ local /dev/ad{n} remote hast2 }} on hast2 {{ local /dev/ad{n} remote hast1 }} }}"
    for n in (1, 2, 3)
)


def read(text: str, host: Host = HOST) -> Configuration:
    return parse(text, "hast.conf", host)


def only(text: str) -> Resource:
    (resource,) = read(text).resources.values()
    return resource


def in_resource(resource: str = "", section: str = "") -> Resource:
    return only(f"resource a {{ local /a {resource} on hasta {{ remote none {section} }} }}")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error_of(text: str) -> str:
    """The error's text; empty when the text is accepted. Anything but a ConfigError fails the test."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return ""


# The article


@pytest.mark.parametrize("node", ["hast1", "hast2"])
def test_the_file_of_the_article_is_read_as_written_on_either_node(node: str, shared: Path) -> None:
    line = next(line for line in (shared / "article.txt").read_text().splitlines() if line.startswith("resource disk1"))
    assert line.strip() == ARTICLE
    configuration = read(line, Host(f"{node}.freebsd.loc"))
    assert list(configuration.resources) == ["disk1", "disk2", "disk3"]
    other = {"hast1": "hast2", "hast2": "hast1"}[node]
    assert configuration.resources["disk2"] == Resource("disk2", "disk2", "/dev/ad2", (other,))


def test_replication_is_fullsync_by_default_as_in_the_article() -> None:
    assert in_resource().replication is Replication.FULLSYNC


def test_the_file_of_the_article_is_read_one_word_a_line() -> None:
    host = Host("hast1.freebsd.loc")
    assert read("\r\n".join(ARTICLE.split()), host) == read(ARTICLE, host)


# The reference grammar's verdicts


def reference_cases(path: Path) -> list[tuple[str, str, str]]:
    """(input, OK or ERR, what the reference said) of every line of the file; abbreviated inputs written out."""
    cases = []
    for line in path.read_text().splitlines()[1:]:
        found = re.fullmatch(r"(.*?)\s+(OK|ERR)\s*(.*)", line)
        assert found, line
        text, verdict, note = found.groups()
        if text == "(empty file)":
            texts = [""]
        elif text.startswith("same with CR LF"):
            texts = ["resource a { local /a\r\n on hasta { remote none } }\r\n"]
        elif "  and  " in text:
            texts = text.split("  and  ")
        elif " / " in text:
            texts = [text.removesuffix("   (/ = newline)").replace(" / ", "\n") + "\n"]
        else:
            texts = [text.replace("{...}", "{ local /a on hasta { remote none } }")]
        cases += [(text.replace("\\n", "\n"), verdict, note) for text in texts]
    return cases


DEVIATIONS = {
    'resource "a" { local /a on hasta { remote none } }\n': "ERR",
    "listen 10.0.0.1\n# no newline at end": "OK",
}
"""Inputs on which we differ from the reference on purpose: quotes are refused, a last line may be a comment."""


def test_every_case_has_the_verdict_of_the_reference_but_for_the_listed_deviations(shared_compat: Path) -> None:
    cases = reference_cases(shared_compat / "vectors" / "conf-cases.txt")
    assert len(cases) >= 30
    assert set(DEVIATIONS) <= {text for text, _, _ in cases}
    for text, verdict, note in cases:
        message = error_of(text)
        outcome = "ERR" if message else "OK"
        assert outcome == DEVIATIONS.get(text, verdict), (text, message)
        if outcome == verdict == "ERR":
            expected_message(message, note)


def expected_message(message: str, note: str) -> None:
    """The reference's text is part of ours; syntax errors name the same token, or the bad character before it."""
    token = re.search(r"near '(.*?)': syntax error", note)
    if "echoed" in note:
        assert "found the character '@'" in message
    elif token:
        assert f"near '{token[1]}'" in message
    elif note.endswith("..."):
        assert note.removesuffix(" ...") in message
    else:
        assert note in message


REFERENCE_RESULTS: list[tuple[str, Mapping[str, Any]]] = [
    (
        "resource a { local /a on hasta { remote none } on hasta.example.org { remote tcp://x name n2 } }",
        {"remotes": ("tcp://x",), "provider_name": "n2"},
    ),
    ("resource a { local /a on 9b9a0f4e-0000-11e0-8000-000000000001 { remote none } }", {"remotes": ()}),
    ("resource a { local /a on hostid3735928559 { remote none } }", {"local": "/a"}),
    ("exec /a/b\nresource a { local /a exec /c on hasta { remote [fe80::1]:99 } }", {"exec_path": "/c"}),
    (
        "resource a { local /a on hasta { remote none local /b metaflush off } metaflush on name z}",
        {"local": "/b", "provider_name": "z", "metaflush": False},
    ),
    (
        "replication memsync checksum sha256 compression lzf "
        "resource a { checksum crc32 local /a on hasta { remote none } }",
        {"replication": Replication.MEMSYNC, "checksum": Checksum.CRC32, "compression": Compression.LZF},
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFERENCE_RESULTS)
def test_accepted_cases_set_what_the_reference_sets(text: str, expected: Mapping[str, Any]) -> None:
    resource = only(text)
    assert {key: getattr(resource, key) for key in expected} == expected


def test_the_long_case_of_the_reference() -> None:
    configuration = read(
        "listen tcp://0.0.0.0\ntimeout 7\non hasta { listen 1.2.3.4:99 control uds:///x pidfile /p }\n"
        "resource shared { local /dev/da0 # comment\nmetaflush off replication async\n"
        "on hasta { remote tcp://10.0.0.2 source 10.0.0.1 } on hastb { remote none } }\n"
    )
    assert configuration == Configuration(
        "hast.conf",
        "uds:///x",
        "/p",
        ("tcp://0.0.0.0", "1.2.3.4:99"),
        {
            "shared": Resource(
                "shared",
                "shared",
                "/dev/da0",
                ("tcp://10.0.0.2",),
                "10.0.0.1",
                Replication.ASYNC,
                timeout_s=7,
                metaflush=False,
            )
        },
        node_names={"shared": NodeNames(("hasta",), ("hastb",))},
    )


# Places and inheritance


def test_an_empty_file_gives_the_defaults() -> None:
    for text in ("", "\n", "# nothing", " \t\r\n"):
        assert read(text) == Configuration("hast.conf")


def test_a_global_statement_counts_also_after_the_resource() -> None:
    text = "resource a { local /a on hasta { remote none } } replication async timeout 9 metaflush off exec /x"
    resource = only(text)
    assert (resource.replication, resource.timeout_s, resource.metaflush, resource.exec_path) == (
        Replication.ASYNC,
        9,
        False,
        "/x",
    )


def test_the_last_of_repeated_statements_wins() -> None:
    assert only("timeout 1 timeout 2 resource a { local /a on hasta { remote none } }").timeout_s == 2


def test_a_nodes_own_control_and_pidfile_beat_the_global_ones_in_any_order() -> None:
    configuration = read("on hasta { control /c pidfile /p } control /global pidfile /global")
    assert (configuration.control, configuration.pidfile) == ("/c", "/p")


def test_listen_addresses_of_the_node_are_added_and_repeated_ones_kept_once() -> None:
    text = "on hasta { listen 1.1.1.1 } listen 2.2.2.2 listen 1.1.1.1 on hastb { listen 3.3.3.3 }"
    assert read(text).listen == ("1.1.1.1", "2.2.2.2")


def test_repeated_remotes_are_paths_in_the_order_of_the_file() -> None:
    assert in_resource(section="remote 10.0.0.2 remote tcp://10.1.0.2 remote 10.0.0.2").remotes == (
        "10.0.0.2",
        "tcp://10.1.0.2",
    )


def test_remote_none_forgets_the_remotes_before_it() -> None:
    assert only("resource a { local /a on hasta { remote x remote none } }").remotes == ()


def test_a_later_matching_section_replaces_the_remotes_of_an_earlier_one() -> None:
    text = "resource a { local /a on hasta { remote x remote y } on hasta.example.org { remote z } }"
    assert only(text).remotes == ("z",)


def test_ipv6_addresses_stand_wherever_an_address_stands() -> None:
    configuration = read(
        "listen tcp6://[2001:db8::1]:8457 listen ::1 "
        "resource a { local /a on hasta { remote fe80::1%eth1 remote [2001:db8::2]:99 source ::1 } }"
    )
    assert configuration.listen == ("tcp6://[2001:db8::1]:8457", "::1")
    assert configuration.resources["a"].remotes == ("fe80::1%eth1", "[2001:db8::2]:99")
    assert configuration.resources["a"].source == "::1"


# What is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "resource a { local /a on hastb { remote none } }",
            "No resource a configuration for this node (acceptable node names: hasta, hasta.example.org, "
            "9B9A0F4E-0000-11E0-8000-000000000001, hostid3735928559).",
        ),
        ("resource a { on hasta { remote none local /a } } resource a { }", "Resource a configured more than once."),
        ("resource a { on hasta { } }", "Remote address not configured for resource a."),
        ("resource a { on hasta { remote none } }", "Path to local component not configured for resource a."),
        ("timeout 0", "Negative or zero timeout."),
        ("timeout 2147483648", "at most 2147483647"),
        (f"timeout {'9' * 5000}", "at most 2147483647"),
        (f"control /{'x' * 1023}", "control argument is too long."),
        (f"pidfile /{'x' * 1023}", "pidfile argument is too long."),
        (f"listen {'x' * 1024}", "listen argument is too long."),
        (f"exec /{'x' * 1023}", "Exec path is too long."),
        (f"resource {'x' * 255} {{ }}", "Resource name is too long."),
        (f"resource a {{ name {'x' * 255} }}", "name argument is too long."),
        (f"resource a {{ local /{'x' * 1023} }}", "local argument is too long."),
        (f"resource a {{ on hasta {{ remote {'x' * 1024} }} }}", "remote argument is too long."),
        (f"resource a {{ on hasta {{ source {'x' * 1024} }} }}", "source argument is too long."),
        ("listen 10.0.0.1:0", "port '0'"),
        ("listen /run/x", "/run/x is not a TCP address"),
        ("control tcp://0.0.0.0", "is not the path of a UNIX socket"),
        ("resource all { }", "cannot be called 'all'"),
        ("resource ../x { }", "cannot be a name below /dev/hast"),
        ("resource a { name /x }", "cannot be a name below /dev/hast"),
        ("resource a { name x/./y }", "cannot be a name below /dev/hast"),
        ("resource a%d { }", "cannot be a name below /dev/hast"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_the_reason(text: str, expected: str) -> None:
    message = complaint(text)
    assert expected in message
    assert re.match(r"hast\.conf:1:\d+: ", message)


def resources(first: str, second: str) -> str:
    return "".join(f"resource {words[0]} {{ {words[2:]} on hasta {{ remote none }} }}\n" for words in (first, second))


def test_two_resources_with_one_device_name_are_refused() -> None:
    assert "hast.conf:2:10: resources a and b both have the device name z" in complaint(
        resources("a local /a name z", "b local /b name z")
    )


def test_two_resources_on_one_disk_are_refused() -> None:
    text = resources("a local /dev/sda", "b local /dev//./sda")
    assert "hast.conf:2:10: resources a and b both have the local disk /dev//./sda" in complaint(text)


def test_a_disk_used_twice_on_another_node_only_is_that_nodes_matter() -> None:
    text = "".join(
        f"resource {n} {{ on hasta {{ local /{n} remote none }} on hastb {{ local /x remote none }} }}" for n in "ab"
    )
    assert len(read(text).resources) == 2


def test_a_device_name_cannot_be_the_directory_of_another() -> None:
    text = resources("a local /a name x", "b local /b name x/y/z")
    assert "the device name x/y/z of resource b lies below x of a" in complaint(text)


# Keywords of ours


def test_the_linux_keywords_set_their_fields() -> None:
    resource = in_resource(
        "device fuse sync-rate 50M wait-for-peer 5 disk-timeout 7 disk-cache off "
        "arbiter witness 10.0.0.9 fence /sbin/fence split-brain discard-least-changes"
    )
    assert resource.device is Device.FUSE
    assert resource.sync_rate_bytes_s == 50 * 1024 * 1024
    assert resource.wait_for_peer_s == 5
    assert resource.disk_timeout_s == 7
    assert resource.disk_cache is DiskCache.OFF
    assert resource.arbiter == Arbiter(ArbiterKind.WITNESS, ("10.0.0.9",))
    assert resource.fence_path == "/sbin/fence"
    assert resource.split_brain_policy is SplitBrainPolicy.DISCARD_LEAST_CHANGES


def test_the_linux_keywords_are_inherited_and_overridden_like_the_others() -> None:
    text = (
        "device nbd sync-rate 1G arbiter ping 10.0.0.1 wait-for-peer 7 fence /f split-brain discard-zero-changes "
        "resource a { local /a arbiter none sync-rate unlimited wait-for-peer off split-brain manual "
        "on hasta { remote none device none } }"
    )
    assert only(text) == Resource(
        "a",
        "a",
        "/a",
        (),
        device=Device.NONE,
        sync_rate_bytes_s=0,
        wait_for_peer_s=0,
        fence_path="/f",
        arbiter=Arbiter(),
    )


@pytest.mark.parametrize(
    ("rate", "bytes_s"), [("800000", 800000), ("1k", 1024), ("2M", 2 << 20), ("3g", 3 << 30), ("1T", 1 << 40)]
)
def test_a_rate_is_bytes_per_second_with_a_binary_suffix(rate: str, bytes_s: int) -> None:
    assert in_resource(f"sync-rate {rate}").sync_rate_bytes_s == bytes_s


def test_the_other_host_serves_reads_where_it_is_told_so() -> None:
    assert not in_resource("").read_balancing
    assert only("read-balancing on resource a { local /a on hasta { remote none } }").read_balancing
    assert not in_resource("read-balancing off").read_balancing


def test_a_synchronisation_follows_clients_unless_a_rate_is_named() -> None:
    assert in_resource("sync-rate auto").sync_rate_bytes_s == in_resource("").sync_rate_bytes_s == SYNC_AUTO
    assert in_resource("sync-rate unlimited").sync_rate_bytes_s == 0


@pytest.mark.parametrize("rate", ["0", "5X", "-1", "1.5M", "M", "9999999999999999999999", "9999999T", "50M/s"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    assert "not 'auto', 'unlimited' or bytes per second" in complaint(f"sync-rate {rate}")


def test_a_witness_is_known_by_its_fingerprints() -> None:
    one, digits = "Ab" * 32, "12" * 32
    arbiter = in_resource(f"arbiter witness 10.0.0.9 10.1.0.9 fingerprint {one} {digits} fence /f").arbiter
    known = (one.lower(), digits)
    assert arbiter == Arbiter(ArbiterKind.WITNESS, ("10.0.0.9", "10.1.0.9"), fingerprints=known)
    assert in_resource(f"arbiter witness a fingerprint {one} {one}").arbiter.fingerprints == (one.lower(),)


def test_an_arbiter_may_have_several_targets() -> None:
    arbiter = in_resource("arbiter etcd http://10.0.0.1:2379 https://etcd2:2379 fence /f").arbiter
    assert arbiter == Arbiter(ArbiterKind.ETCD, ("http://10.0.0.1:2379", "https://etcd2:2379"))


@pytest.mark.parametrize(
    "statement",
    [
        "arbiter etcd 10.0.0.1",
        "arbiter etcd http://",
        "arbiter etcd http://x:0",
        "arbiter etcd http://[x]",
        "arbiter ping a:0",
        "arbiter witness /x",
        "arbiter witness a fingerprint",
        "arbiter witness a fingerprint abc",
        f"arbiter witness a fingerprint {'ab' * 32} b",
        f"arbiter witness fingerprint {'ab' * 32}",
        f"arbiter witness a fingerprnt {'ab' * 32}",
        f"arbiter ping a fingerprint {'ab' * 32}",
        "arbiter ping",
        "fence relative",
        "device loop",
        "split-brain auto",
    ],
)
def test_a_wrong_value_of_a_linux_keyword_is_refused(statement: str) -> None:
    assert complaint(statement).startswith("hast.conf:1:")


# Keys


KEY_A, KEY_B, KEY_C = "a" * 64, "b" * 64, "0c" * 32


def pair(inside: str = "", outside: str = "", section: str = "remote 10.0.0.2") -> str:
    own, other = f"on hasta {{ {section} }}", "on hastb { remote 10.0.0.1 }"
    return f"resource a {{ local /a {inside} {own} {other} }}\n{outside}"


def known(node: str, *fingerprints: str) -> str:
    return f"on {node} {{ {' '.join(f'fingerprint {each}' for each in fingerprints)} }} "


def test_a_resource_knows_the_other_node_by_the_fingerprints_of_its_section_and_is_secured() -> None:
    text = pair(outside=known("hastb", KEY_B, KEY_C) + known("hasta", KEY_A) + known("hastb", KEY_B))
    configuration = read(text)
    assert configuration.resources["a"].peer_fingerprints == (KEY_B, KEY_C)
    assert configuration.resources["a"].is_secured
    assert configuration.fingerprints == (KEY_A,)
    assert configuration.node_fingerprints == {"hastb": (KEY_B, KEY_C), "hasta": (KEY_A,)}


def test_the_same_file_read_on_the_other_node_has_the_same_keys_the_other_way_round() -> None:
    text = pair(outside=known("hasta", KEY_A) + known("hastb", KEY_B))
    configuration = read(text, Host("hastb"))
    assert configuration.resources["a"].peer_fingerprints == (KEY_A,)
    assert configuration.fingerprints == (KEY_B,)
    assert configuration.node_names == {"a": NodeNames(("hastb",), ("hasta",))}


def test_fingerprints_may_stand_before_and_after_the_resources_and_beside_listen() -> None:
    text = f"on hastb {{ listen 1.2.3.4 fingerprint {KEY_B} control /c }} {pair(outside=known('hastb', KEY_C))}"
    assert only(text).peer_fingerprints == (KEY_B, KEY_C)


def test_the_case_of_a_fingerprint_does_not_matter_nor_that_it_has_no_letters() -> None:
    text = pair(outside=known("hastb", "AbCdEf01" * 8, "7" * 64))
    assert only(text).peer_fingerprints == ("abcdef01" * 8, "7" * 64)


def test_every_section_of_another_node_in_a_resource_counts() -> None:
    text = pair(inside="on hastb.example.org { }", outside=known("hastb", KEY_B) + known("hastb.example.org", KEY_C))
    assert only(text).peer_fingerprints == (KEY_C, KEY_B)


def test_without_a_fingerprint_of_the_other_node_nothing_is_secured() -> None:
    resource = only(pair(outside=known("hasta", KEY_A)))
    assert (resource.peer_fingerprints, resource.is_secured) == ((), False)


def test_tls_is_inherited_and_overridden_down_to_the_section_of_the_node() -> None:
    keys = known("hastb", KEY_B)
    assert only(pair(outside=keys)).tls is None
    assert only(pair(outside=f"tls required {keys}")).tls is Tls.REQUIRED
    assert only(pair(inside="tls off", outside=f"tls required {keys}")).tls is Tls.OFF
    assert only(pair(inside="tls off", section="remote 10.0.0.2 tls required", outside=keys)).tls is Tls.REQUIRED


def test_tls_off_leaves_a_known_node_unsecured() -> None:
    resource = only(pair(inside="tls off", outside=known("hastb", KEY_B)))
    assert (resource.peer_fingerprints, resource.is_secured) == ((KEY_B,), False)


@pytest.mark.parametrize("outside", ["tls required", "tls required " + known("hasta", KEY_A)])
def test_tls_required_without_a_key_of_the_other_node_is_refused_with_what_to_do(outside: str) -> None:
    message = complaint(pair(outside=outside))
    assert message.startswith("hast.conf:1:10: resource a has tls required, and the other node no fingerprint: add ")
    assert "'on hastb { fingerprint ... }'" in message
    assert "hastctl trust 10.0.0.2 shows it" in message


def test_tls_required_without_another_node_needs_no_key_of_it() -> None:
    assert only(pair(inside="tls required", section="remote none")).peer_fingerprints == ()


def test_a_key_that_both_nodes_have_is_refused() -> None:
    message = complaint(pair(outside=known("hasta", KEY_A) + known("hastb", KEY_B, KEY_A)))
    assert f"resource a: both nodes have the fingerprint {KEY_A}; each needs a key of its own" in message


def test_fingerprints_under_a_name_that_no_resource_uses_are_refused() -> None:
    message = complaint(pair(outside=known("hastb.example.org", KEY_B)))
    assert message.startswith("hast.conf:2:4: fingerprints are given for hastb.example.org, and no resource has ")


@pytest.mark.parametrize("value", ["a" * 63, "a" * 65, "g" * 64, "1", "aa:bb"])
def test_a_fingerprint_that_is_none_is_refused_with_where_to_take_it_from(value: str) -> None:
    message = complaint(pair(outside=known("elsewhere", value)))
    assert f"fingerprint {value} is not a number of 64 hexadecimal digits" in message
    assert "hastctl keygen --show" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on hasta { fingerprint }", "expected a number of 64 hexadecimal digits, as hastctl keygen prints it"),
        ("tls on", "expected 'off' or 'required'"),
        ("tls requird", "did you mean 'required'?"),
        (f"fingerprint {KEY_A}", "near 'fingerprint': found 'fingerprint'"),
    ],
)
def test_a_syntax_error_around_keys_says_what_belongs_there(text: str, expected: str) -> None:
    assert expected in complaint(text)


LINUX_WORDS = sorted(keywords(DIALECT) - DIALECT.reserved - {"{", "}"})


@pytest.mark.parametrize("word", LINUX_WORDS)
def test_our_keywords_remain_names_wherever_the_reference_takes_a_name(word: str) -> None:
    resource = only(
        f"listen {word} resource {word} {{ name {word} local {word} on {word} {{ }} on hasta {{ remote {word} }} }}"
    )
    assert (resource.name, resource.provider_name, resource.local, resource.remotes) == (word, word, word, (word,))


@pytest.mark.parametrize("word", sorted(DIALECT.reserved))
def test_a_keyword_of_the_reference_is_no_name(word: str) -> None:
    assert f"near '{word}'" in complaint(f"resource {word} {{ }}")


@pytest.mark.parametrize("word", ["locals", "local-disk", "Local", "on1", "1a", "none.", "fence1", "%"])
def test_a_word_that_only_begins_like_a_keyword_is_a_word(word: str) -> None:
    assert read(f"pidfile {word}").pidfile == word


def test_load_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_text(ARTICLE)
    configuration = load(str(path), Host("hast1"))
    assert configuration.path == str(path)
    assert len(configuration.resources) == 3


# Properties

names = st.from_regex(r"[a-zA-Z0-9._:-]{1,12}", fullmatch=True).filter(
    lambda name: not name.isdigit() and name not in DIALECT.reserved and name not in (".", "..", "all")
)
paths = st.lists(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
tcp_addresses = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"tcp4://10\.[0-9]\.[0-9]\.[0-9]:[1-9][0-9]{0,3}", fullmatch=True),
    st.from_regex(r"host[a-z]{1,5}(:[1-9][0-9]{0,3})?", fullmatch=True),
)
arbiters = st.just(Arbiter()) | st.builds(
    Arbiter,
    st.sampled_from([ArbiterKind.PING, ArbiterKind.WITNESS]),
    st.lists(tcp_addresses, min_size=1, max_size=2).map(tuple),
)
fingerprints = st.lists(st.from_regex(r"[0-9a-f]{64}", fullmatch=True), max_size=4, unique=True)
arbiters |= st.builds(
    Arbiter,
    st.just(ArbiterKind.WITNESS),
    st.lists(tcp_addresses, min_size=1, max_size=2).map(tuple),
    fingerprints=fingerprints.map(tuple),
)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    resource_names = draw(st.lists(names, max_size=4, unique=True))
    disks = draw(st.lists(paths, min_size=len(resource_names), max_size=len(resource_names), unique=True))
    keys = draw(fingerprints)
    own, peer = tuple(keys[:1]), tuple(keys[1:])
    found = {
        name: draw(
            st.builds(
                Resource,
                st.just(name),
                st.just(name),
                st.just(disk),
                st.lists(tcp_addresses, max_size=2, unique=True).map(tuple),
                st.none() | tcp_addresses,
                st.sampled_from(Replication),
                st.sampled_from(Checksum),
                st.sampled_from(Compression),
                st.integers(1, 2**31 - 1),
                st.none() | paths,
                st.booleans(),
                st.sampled_from(Device),
                st.just(SYNC_AUTO) | st.integers(0, 2**63 - 1),
                st.booleans(),
                st.integers(0, 2**31 - 1),
                st.integers(0, 2**31 - 1),
                arbiters,
                st.none() | paths,
                st.sampled_from(SplitBrainPolicy),
                disk_cache=st.sampled_from(DiskCache),
                tls=st.none() | st.sampled_from(Tls if peer else (Tls.OFF,)),
                peer_fingerprints=st.just(peer),
            )
        )
        for name, disk in zip(resource_names, disks, strict=True)
    }
    listen = draw(st.lists(tcp_addresses, min_size=1, max_size=3, unique=True))
    node_names = {name: NodeNames(("hasta",), ("elsewhere",)) for name in found}
    known = {node: each for node, each in (("hasta", own), ("elsewhere", peer)) if each}
    return Configuration("hast.conf", draw(paths), draw(paths), tuple(listen), found, own, node_names, known)


def printed(configuration: Configuration) -> list[str]:
    """The words of a file that says this."""
    words = ["control", configuration.control, "pidfile", configuration.pidfile]
    for address in configuration.listen:
        words += ["listen", address]
    for node, known in configuration.node_fingerprints.items():
        words += ["on", node, "{", *(word for each in known for word in ("fingerprint", each)), "}"]
    for resource in configuration.resources.values():
        words += ["resource", resource.name, "{", *printed_resource(resource), "}"]
    return words


def printed_resource(resource: Resource) -> list[str]:
    rate = {0: "unlimited", SYNC_AUTO: "auto"}.get(resource.sync_rate_bytes_s, str(resource.sync_rate_bytes_s))
    words = ["replication", resource.replication, "checksum", resource.checksum, "compression", resource.compression]
    words += ["timeout", str(resource.timeout_s), "metaflush", "on" if resource.metaflush else "off"]
    words += ["read-balancing", "on" if resource.read_balancing else "off"]
    words += ["local", resource.local, "sync-rate", rate, "wait-for-peer", str(resource.wait_for_peer_s)]
    words += ["disk-timeout", str(resource.disk_timeout_s), "disk-cache", resource.disk_cache]
    words += ["arbiter", resource.arbiter.kind, *resource.arbiter.targets]
    words += ["fingerprint", *resource.arbiter.fingerprints] if resource.arbiter.fingerprints else []
    words += ["split-brain", resource.split_brain_policy]
    words += ["tls", resource.tls] if resource.tls else []
    words += ["exec", resource.exec_path] if resource.exec_path else []
    words += ["fence", resource.fence_path] if resource.fence_path else []
    words += ["on", "elsewhere", "{", "remote", "none", "}", "on", "hasta", "{", "device", resource.device]
    words += ["source", resource.source] if resource.source else []
    for remote in resource.remotes:
        words += ["remote", remote]
    return [*words, *(() if resource.remotes else ("remote", "none")), "}"]


@settings(max_examples=60, deadline=None)
@given(configurations(), st.randoms(use_true_random=False))
def test_a_configuration_that_is_printed_reads_back_the_same(configuration: Configuration, random: Any) -> None:
    gaps = (" ", "\n", "\t", "\r\n", " # local { remote\n")
    text = "".join(word + random.choice(gaps) for word in printed(configuration))
    assert read(text) == configuration


WORDS = [*sorted(DIALECT.reserved), *LINUX_WORDS, "{", "}", "a", "hasta", "/x", "1", "0", "10.0.0.1", "::", "\n", "#"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    message = error_of(text)
    assert "\n" not in message
    assert message.isascii()


@settings(max_examples=60, deadline=None)
@given(configurations(), st.data())
def test_a_configuration_with_one_word_changed_gives_a_configuration_or_a_config_error(
    configuration: Configuration, data: st.DataObject
) -> None:
    words = printed(configuration)
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(st.sampled_from(WORDS) | st.text(max_size=5))
    assert "\n" not in error_of(" ".join(words))
