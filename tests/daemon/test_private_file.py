"""Who may read a file that holds a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hast.daemon.private_file import complaint


@pytest.mark.parametrize(
    ("mode", "good"), [(0o600, True), (0o400, True), (0o640, False), (0o644, False), (0o602, False)]
)
def test_a_file_with_a_secret_that_others_can_read_is_named_with_what_to_do(
    tmp_path: Path, mode: int, good: bool
) -> None:
    path = tmp_path / "carp.conf"
    path.touch()
    path.chmod(mode)
    said = complaint(str(path), "passwords")
    assert said == ("" if good else f"{path} holds passwords and can be read by others: chmod 600 {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_with_a_secret_that_belongs_to_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "carp.conf"
    path.touch()
    path.chmod(0o600)
    os.chown(path, 65534, -1)
    assert "belongs to the user 65534" in complaint(str(path), "passwords")


def test_a_file_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert complaint(str(tmp_path / "none"), "passwords") == ""
