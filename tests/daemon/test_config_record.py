"""The daemon's note of its control address."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hast.daemon import config_record


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAST_RUN", str(tmp_path))


def test_counts_only_while_the_file_is_unchanged(tmp_path: Path) -> None:
    config = tmp_path / "hast.conf"
    config.write_text("a")
    assert config_record.read(str(config)) is None
    config_record.write(str(config), "/run/ctl")
    assert config_record.read(str(config)) == "/run/ctl"
    os.utime(config, ns=(1, 1))
    assert config_record.read(str(config)) is None


def test_removed_or_damaged_record_is_no_record(tmp_path: Path) -> None:
    config = tmp_path / "hast.conf"
    config.write_text("a")
    config_record.write(str(config), "/run/ctl")
    record = next(tmp_path.glob("*.control"))
    record.write_text("{")
    assert config_record.read(str(config)) is None
    config_record.write(str(config), "/run/ctl")
    config_record.remove(str(config))
    assert config_record.read(str(config)) is None
    config_record.remove(str(config))
