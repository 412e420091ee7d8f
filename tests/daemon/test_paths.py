"""Names of run-time files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hast.daemon import paths


def test_defaults_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAST_RUN", raising=False)
    monkeypatch.delenv("HAST_DEV", raising=False)
    assert paths.nbd_socket("disk1") == Path("/run/hast/disk1.nbd")
    assert paths.device_path("disk1") == Path("/dev/hast/disk1")
    monkeypatch.setenv("HAST_RUN", "/x")
    monkeypatch.setenv("HAST_DEV", "/y")
    assert paths.nbd_socket("disk1") == Path("/x/disk1.nbd")
    assert paths.device_path("a/b") == Path("/y/a/b")


@given(st.text(min_size=1, max_size=300))
def test_any_name_is_one_short_file_name_and_stays_in_the_device_directory(name: str) -> None:
    stem = paths.file_stem(name.encode("utf-8", "replace").decode())
    assert "/" not in stem
    assert "\0" not in stem
    assert not stem.startswith(".")
    assert len(stem.encode()) <= 60
    assert ".." not in paths.device_path(name).relative_to(paths.device_directory()).parts


def test_long_names_stay_distinct() -> None:
    assert paths.file_stem("a" * 100 + "1") != paths.file_stem("a" * 100 + "2")
