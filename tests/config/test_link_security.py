"""What is said of links that are open, and of a key that the other node would refuse."""

from __future__ import annotations

from hast.config.hastconf import parse
from hast.config.host import Host
from hast.config.link_security import Finding, OwnKey, findings
from hast.config.model import Resource

OWN, PEER, OTHER = "a" * 64, "b" * 64, "c" * 64
KEY = OwnKey(OWN)
RESOURCE = "resource {0} {{ local /{0} {1} on hasta {{ remote 10.0.0.2 }} on hastb {{ remote 10.0.0.1 }} }} "
A, B = RESOURCE.format("a", ""), RESOURCE.format("b", "")
KNOWN_OWN, KNOWN_PEER = f"on hasta {{ fingerprint {OWN} }} ", f"on hastb {{ fingerprint {PEER} }} "


def found(text: str, key: OwnKey = KEY, *encrypted_below: str) -> list[Finding]:
    def is_encrypted_below(resource: Resource) -> bool:
        return resource.name in encrypted_below

    return findings(parse(text, "hast.conf", Host("hasta")), key, is_encrypted_below)


def texts(text: str, key: OwnKey = KEY, *encrypted_below: str) -> list[str]:
    assert not any(finding.is_error for finding in found(text, key, *encrypted_below))
    return [finding.text for finding in found(text, key, *encrypted_below)]


def test_nothing_is_said_of_a_pair_that_knows_each_other() -> None:
    assert found(A + B + KNOWN_OWN + KNOWN_PEER) == []


def test_nothing_is_said_of_a_resource_that_has_no_other_node() -> None:
    assert found("resource a { local /a tls off on hasta { remote none } }", OwnKey(problem="none")) == []


def test_open_links_are_named_in_one_line_with_the_way_to_close_them() -> None:
    (line,) = texts(A + B, OwnKey(problem="there is none"))
    assert line.startswith("a, b: the link is neither encrypted nor authenticated: hast.conf has no fingerprints; ")
    assert "hastctl keygen, then hastctl trust" in line


def test_a_fingerprint_of_this_node_only_secures_nothing() -> None:
    (line,) = texts(A + KNOWN_OWN)
    assert "a: the link is neither encrypted nor authenticated: " in line
    assert "a fingerprint of this node and none of hastb; hastctl trust a shows it" in line


def test_tls_off_is_told_apart_from_what_was_never_thought_of() -> None:
    off, nothing = texts(RESOURCE.format("a", "tls off") + B)
    assert off.startswith("a: the link is neither encrypted nor authenticated: tls off is written; ")
    assert nothing.startswith("b: ")


def test_a_link_that_is_encrypted_below_is_not_called_open() -> None:
    assert texts(RESOURCE.format("a", "tls off") + B, KEY, "a", "b") == []


def test_a_missing_key_is_told_once_where_fingerprints_are_configured() -> None:
    (line,) = texts(A + B + KNOWN_OWN + KNOWN_PEER, OwnKey(problem="there is no node.crt; make it"))
    assert line == "fingerprints are configured, and this node cannot show a key: there is no node.crt; make it"


def test_a_key_with_another_fingerprint_than_hast_conf_gives_is_an_error() -> None:
    (finding,) = found(A + B + KNOWN_OWN + KNOWN_PEER, OwnKey(OTHER))
    assert finding.is_error
    assert finding.text.startswith("a, b: the other node would refuse this one: its key has a fingerprint other than ")
    assert finding.text.endswith(f"{OWN}: write 'on hasta {{ fingerprint {OTHER} }}' on both")


def test_a_key_of_which_hast_conf_says_nothing_is_an_error_where_the_other_node_is_known() -> None:
    (finding,) = found(A + KNOWN_PEER)
    assert finding.is_error
    assert "its key has a fingerprint and none is given for it" in finding.text


def test_a_key_that_is_to_be_removed_is_still_good() -> None:
    assert found(A + KNOWN_OWN + KNOWN_PEER + f"on hasta {{ fingerprint {OTHER} }}", OwnKey(OTHER)) == []


def test_the_key_does_not_matter_where_tls_is_off() -> None:
    assert found(RESOURCE.format("a", "tls off") + KNOWN_OWN + KNOWN_PEER, OwnKey(OTHER), "a") == []


def test_a_key_that_others_can_read_is_told_with_the_way_to_hide_it() -> None:
    assert texts(A + KNOWN_OWN + KNOWN_PEER, OwnKey(OWN, "", ("/s/node.key",))) == [
        "/s/node.key can be read by others: chmod 600 /s/node.key"
    ]


def test_a_witness_that_is_believed_unseen_is_named_with_what_that_allows() -> None:
    pair = A + B + KNOWN_OWN + KNOWN_PEER
    (line,) = texts("arbiter witness w " + pair)
    assert line.startswith("a, b: any host that reaches the witness can make two masters: give its fingerprint (")
    assert texts(f"arbiter witness w fingerprint {OTHER} " + pair) == []
    assert texts("arbiter ping w " + pair) == []


def test_a_witness_that_expects_a_key_of_a_node_without_one_is_named() -> None:
    alone = f"resource a {{ local /a arbiter witness w fingerprint {OTHER} on hasta {{ remote none }} }}"
    assert texts(alone, OwnKey(problem="there is none")) == [
        "the witness knows this node by its key, and it cannot show one: there is none"
    ]
