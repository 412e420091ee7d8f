"""Reading metadata in a process of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hast.config.model import Resource
from hast.format import metadata as metadata_format
from hast.worker.disk import probe, provision


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(8 << 20)
    return path


def test_values_and_errors_of_several_providers(disk: Path, tmp_path: Path) -> None:
    provision.create(Resource("disk1", "disk1", str(disk), ()))
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(8192))
    providers = {"disk1": str(disk), "disk2": str(blank), "disk3": str(tmp_path / "none"), "other": str(disk)}
    found = asyncio.run(probe.read_metadata(providers))
    assert (found["disk1"]["extentsize_bytes"], found["disk1"]["keepdirty"]) == (2097152, 64)
    assert "hastctl create disk2" in found["disk2"]["error"]
    assert "No such file" in found["disk3"]["error"]
    assert "belongs to disk1" in found["other"]["error"]


def test_every_kind_of_metadata_can_be_told(disk: Path, shared_compat: Path) -> None:
    for vector in sorted((shared_compat / "vectors").glob("5*-metadata-*.hex")):
        disk.write_bytes(bytes.fromhex(vector.read_text()))
        found = asyncio.run(probe.read_metadata({"shared": str(disk)}))
        assert found["shared"]["datasize_bytes"] == 1073737216
    full = metadata_format.decode(disk.read_bytes())
    import dataclasses

    extra = {each.name: os.urandom(16) for each in dataclasses.fields(full) if each.type in ("bytes", "bytes | None")}
    disk.write_bytes(metadata_format.encode(dataclasses.replace(full, inconsistent=True, **extra)))
    assert asyncio.run(probe.read_metadata({"shared": str(disk)}))["shared"]["inconsistent"] is True


def test_stuck_provider_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_DEADLINE_S", 0.01)
    found = asyncio.run(probe.read_metadata({"disk1": str(tmp_path / "none")}))
    assert found == {"disk1": {"error": f"Provider {tmp_path / 'none'} did not answer."}}


def test_sick_provider_does_not_hide_the_others(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe stands for the sick disk: its open would block without O_NONBLOCK, its read finds nothing."""
    provision.create(Resource("disk1", "disk1", str(disk), ()))
    os.mkfifo(tmp_path / "pipe")
    found = asyncio.run(probe.read_metadata({"sick": str(tmp_path / "pipe"), "disk1": str(disk)}))
    assert "error" in found["sick"]
    assert found["disk1"]["keepdirty"] == 64
