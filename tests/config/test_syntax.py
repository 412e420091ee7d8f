"""Tokens, reserved and contextual keywords, and the wording of syntax errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hast.config import syntax
from hast.config.hastconf import DIALECT
from hast.config.model import ConfigError


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        syntax.statements(text, "/etc/hast.conf", DIALECT)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_line_and_column_count_from_one() -> None:
    assert complaint("timeout 5\n\tfriends x\n").startswith("/etc/hast.conf:2:2: syntax error near 'friends': ")


def test_an_error_names_what_was_found_and_all_that_could_stand_there() -> None:
    assert complaint("replication quick") == (
        "/etc/hast.conf:1:13: syntax error near 'quick': found 'quick', expected 'async', 'fullsync' or 'memsync'"
    )


def test_an_error_names_the_value_that_the_keyword_wants() -> None:
    assert complaint("resource {").endswith("found '{', expected a resource name")
    assert complaint("timeout soon").endswith("found 'soon', expected a number of seconds")
    assert "'}' or" not in complaint("timeout soon")


def test_a_keyword_or_a_number_in_the_place_of_a_name_is_explained() -> None:
    assert "found the keyword 'local', which cannot be used as a name" in complaint("resource local {")
    assert "found the number '1', which cannot be used as a name" in complaint("resource 1 {")


@pytest.mark.parametrize(("wrong", "meant"), [("Listen 1.1.1.1", "listen"), ("replicaton async", "replication")])
def test_a_misspelt_keyword_is_recognised(wrong: str, meant: str) -> None:
    assert f"(did you mean '{meant}'?)" in complaint(wrong)


def test_the_end_of_the_file_in_the_middle_is_named() -> None:
    assert "/etc/hast.conf:2:1: syntax error near '': found the end of the file, expected " in complaint(
        "resource a {\n"
    )


@pytest.mark.parametrize("character", ['"', "'", "@", "=", ",", ";", "\x00", "\x0b", "ä", "\udce4", "\u2028"])
def test_a_character_without_meaning_is_refused_in_plain_ascii(character: str) -> None:
    text = complaint(f"listen {character}")
    assert text.isascii()
    assert text.startswith("/etc/hast.conf:1:8: syntax error: found ")


def test_a_very_long_word_is_shortened_in_the_error() -> None:
    assert len(complaint("x" * 100000)) < 1000


def test_junk_inside_a_comment_is_no_matter() -> None:
    assert syntax.statements('# "ä" @ \udce4', "f", DIALECT) == ()


def test_a_file_that_cannot_be_opened_has_its_own_exit_code(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, "a\0b"):
        with pytest.raises(ConfigError, match="Unable to open configuration file") as caught:
            syntax.read_text(str(path))
        assert caught.value.exit_code == 72


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        syntax.read_text("/dev/zero")


def test_a_byte_order_mark_and_latin_1_comments_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hast.conf"
    path.write_bytes(b"\xef\xbb\xbf# gr\xfc\xdfe\ntimeout 5\n")
    assert len(syntax.statements(syntax.read_text(str(path)), str(path), DIALECT)) == 1


def test_lark_is_not_imported_before_a_file_is_read() -> None:
    code = "import hast.config.hastconf, hast.config.carpconf, hast.config.devdconf, sys; print('lark' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize(
    ("mode", "owner", "group", "said"),
    [
        (0o644, 0, 0, ""),
        (0o664, 0, 0, ""),
        (0o646, 0, 0, "everybody may write it"),
        (0o664, 0, 65534, "the group 65534 may write it"),
        (0o640, 0, 65534, ""),
        (0o600, 65534, 0, "the user 65534 may write it"),
    ],
)
def test_a_configuration_that_others_may_write_is_not_read(
    tmp_path: Path, mode: int, owner: int, group: int, said: str
) -> None:
    """It names programs that run as root."""
    path = tmp_path / "hast.conf"
    path.write_text("timeout 5\n")
    path.chmod(mode)
    os.chown(path, owner, group)
    if not said:
        assert syntax.read_text(str(path)) == "timeout 5\n"
        return
    with pytest.raises(ConfigError, match=said) as raised:
        syntax.read_text(str(path))
    assert raised.value.exit_code == 78
    assert f"chmod go-w {path}" in str(raised.value)
