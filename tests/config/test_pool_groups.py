"""config/pool_groups.py: which resources a pool of failover.conf holds together."""

from __future__ import annotations

import pytest

from hast.config.failoverconf import parse
from hast.config.pool_groups import groups_of

KNOWN = ["disk1", "disk2", "disk3", "disk4"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("pool zhast", [("zhast", KNOWN)]),
        ("resources disk1 disk2\npool zhast", [("zhast", ["disk1", "disk2"])]),
        ("resources disk1 disk9\npool zhast", []),
        ("resources disk1 disk2 disk9\npool zhast", [("zhast", ["disk1", "disk2"])]),
        ("pool mail { type filesystem resource disk4 mount /m }", []),
        (
            "pool a { resource disk1 resource disk2 }\npool b { resource disk3 resource disk4 }",
            [("a", ["disk1", "disk2"]), ("b", ["disk3", "disk4"])],
        ),
        (
            "pool a { resource disk1 resource disk2 }\npool b { resource disk3 resource disk4 }\n"
            "pool c { resource disk2 resource disk3 }",
            [("b a c", ["disk3", "disk4", "disk1", "disk2"])],
        ),
    ],
)
def test_groups(text: str, expected: list[tuple[str, list[str]]]) -> None:
    found = groups_of(parse(text, "failover.conf"), KNOWN)
    assert [(" ".join(group.pools), sorted(group.resources)) for group in found] == [
        (pools, sorted(names)) for pools, names in expected
    ]


def test_a_group_is_named_by_its_pool() -> None:
    (group,) = groups_of(parse("pool zhast { resource disk1 resource disk2 }", "failover.conf"), KNOWN)
    assert str(group) == "pool zhast (disk1 disk2)"
