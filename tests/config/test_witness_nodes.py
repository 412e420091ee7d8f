"""The witness's file of nodes: what is understood, and that every mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hast.config.model import ConfigError
from hast.config.witness_nodes import Member, Pair, load, parse

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "0" * 64)


def test_a_line_names_a_pair_and_both_its_nodes() -> None:
    nodes = parse(f"# whom we serve\n\noffice hast1={A} hast2={B.upper()} # by keygen --show\n", "nodes")
    pair = Pair("office", frozenset({"hast1", "hast2"}))
    assert nodes == {A: Member("hast1", pair), B: Member("hast2", pair)}


def test_a_node_has_two_fingerprints_while_its_key_is_changed() -> None:
    nodes = parse(f"office hast1={A} hast2={B} hast2={C}", "nodes")
    assert nodes[B] == nodes[C] == Member("hast2", Pair("office", frozenset({"hast1", "hast2"})))


def test_a_line_may_take_the_right_to_force_away() -> None:
    nodes = parse(f"office hast1={A} hast2={B} no-force\nlab x={C} y={D}", "nodes")
    assert [nodes[key].pair.may_force for key in (A, B, C, D)] == [False, False, True, True]


def test_an_empty_file_serves_nobody() -> None:
    assert parse("# nobody yet\n", "nodes") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("office", "nodes:1: pair office has fewer than two nodes"),
        (f"office hast1={A}", "nodes:1: pair office has fewer than two nodes"),
        (f"office hast1={A} hast1={B}", "nodes:1: pair office has fewer than two nodes"),
        (f"office {A} {B}", "nodes:1: NODE=FINGERPRINT is expected"),
        (f"office ={A} hast2={B}", "nodes:1: NODE=FINGERPRINT is expected"),
        (f"office hast1={A[:63]} hast2={B}", "nodes:1: fingerprint aaa"),
        (f"office hast1={A}0 hast2={B}", "nodes:1: fingerprint aaa"),
        (f"office hast1={A} hast2={A}", "nodes:1: hast1 and hast2 have one fingerprint"),
        (f"office hast1={A} no-force hast2={B}", "nodes:1: NODE=FINGERPRINT is expected, not no-force"),
        (f"of/fice hast1={A} hast2={B}", "nodes:1: of/fice is no name for a pair"),
        (f"x a={A} b={B}\n\nx a={C} b={D}", "nodes:3: pair x is given in line 1 already"),
        (f"x a={A} b={B}\ny a={C} b={B}", "nodes:2: this fingerprint belongs to b of x already"),
    ],
)
def test_a_mistake_names_its_line(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "nodes")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_a_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text(f"office hast1={A} hast2={B}\n")
    path.chmod(0o644)
    assert set(load(str(path))) == {A, B}
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="everybody may write it"):
        load(str(path))


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nodes: No such file"):
        load(str(tmp_path / "nodes"))
    (tmp_path / "nodes").write_bytes(b"\xff\xfe")
    (tmp_path / "nodes").chmod(0o600)
    with pytest.raises(ConfigError, match="not text"):
        load(str(tmp_path / "nodes"))
