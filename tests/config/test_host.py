"""Who this machine is: specification section 1.4 and our sources for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hast.config.host import Host, this_host

HOST = Host("hasta.example.org", "9B9A0F4E-0000-11E0-8000-000000000001", 3735928559)
DMI = "sys/class/dmi/id/product_uuid"
UUID = "4c4c4544-0031-3010-8052-b4c04f4d3232"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / DMI).parent.mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("node", "matches"),
    [
        ("hasta.example.org", True),
        ("hasta", True),
        ("HASTA", False),
        ("hasta.example", False),
        ("9b9a0f4e-0000-11e0-8000-000000000001", True),
        ("hostid3735928559", True),
        ("HOSTID3735928559", False),
        ("hostid", False),
        ("", False),
    ],
)
def test_a_node_name_matches_name_short_name_uuid_or_hostid(node: str, matches: bool) -> None:
    assert HOST.matches(node) is matches


def test_node_names_are_listed_in_the_order_of_the_reference() -> None:
    assert HOST.node_names == ("hasta", "hasta.example.org", HOST.uuid, "hostid3735928559")
    assert Host("hasta").node_names == ("hasta", "hostid0")


def test_a_host_without_a_uuid_is_not_matched_by_an_empty_one() -> None:
    assert not Host("hasta").matches("")


def test_the_uuid_is_that_of_the_board(root: Path) -> None:
    (root / DMI).write_text(UUID.upper() + "\n")
    (root / "etc/machine-id").write_text("0" * 31 + "1\n")
    assert this_host(root, "a").uuid == UUID


@pytest.mark.parametrize("board", ["", "Not Settable", "0" * 32, "F" * 32, "03000200-0400-0500-0006-000700080009"])
def test_a_board_without_a_usable_uuid_leaves_the_machine_id(root: Path, board: str) -> None:
    (root / DMI).write_text(board)
    (root / "etc/machine-id").write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    assert this_host(root, "a").uuid == "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"


def test_a_machine_without_any_file_still_has_a_name(root: Path) -> None:
    assert this_host(root, "a.b") == Host("a.b", "", 0)


def test_the_hostid_is_read_from_its_file(root: Path) -> None:
    (root / "etc/hostid").write_bytes((3735928559).to_bytes(4, sys.byteorder))
    assert this_host(root, "a").hostid == 3735928559


def test_the_hostid_without_a_file_comes_from_the_hosts_file_as_in_the_c_library(root: Path) -> None:
    (root / "etc/hosts").write_text("::1 hasta\n# 1.1.1.1 hasta\n127.0.1.1 hasta.example.org hasta # me\n")
    assert this_host(root, "hasta").hostid == 0x007F0101
    assert this_host(root, "hastb").hostid == 0


def test_this_machine_can_be_described() -> None:
    assert this_host().name
