"""The record of discarded changes, and the process that gives the order: what is kept, refused, and survives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from worker_pair import create_image

from hast.format import metadata as metadata_format
from hast.replication.types import Discarded, Metadata
from hast.worker.disk import discarded, resolve

EXTENT = 65536


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A provider that was ahead since second 1000, with extents 0, 1 and the last one marked."""
    monkeypatch.setenv("HAST_STATE", str(tmp_path / "state"))
    path = tmp_path / "one.img"
    create_image(path, resuid=7, localcnt=2, ahead_since_s=1000)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes([3]))
        file.seek(4096 + 127 // 8)
        file.write(bytes([1 << 127 % 8]))
    return path


def block(path: Path) -> Metadata:
    return metadata_format.decode(path.read_bytes()[:4096])


def files(disk: Path) -> list[Path]:
    return sorted((disk.parent / "state" / "discarded").glob("*"))


def test_an_order_saves_the_map_and_marks_the_metadata(disk: Path) -> None:
    before = disk.read_bytes()[4096:]
    result = resolve.carry_out(resolve.DISCARD, "disk1", str(disk), "why")
    assert (result["error"], result["extents"], result["already"]) == (None, 3, False)
    assert block(disk).discard
    assert disk.read_bytes()[4096:] == before
    record = json.loads(Path(result["map"]).read_text())
    datasize = block(disk).datasize_bytes
    assert record["ranges"] == [
        {"offset": 0, "length": 2 * EXTENT},
        {"offset": 127 * EXTENT, "length": datasize - 127 * EXTENT},
    ]
    assert (record["since"], record["localcnt"], record["ranges_complete"]) == (1000, 2, True)
    assert (disk.parent / "state" / "discarded" / record["map_file"]).read_bytes() == before[:512]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(disk))


def test_an_order_given_twice_saves_once_and_can_be_taken_back_once(disk: Path) -> None:
    resolve.carry_out(resolve.DISCARD, "disk1", str(disk), "why")
    assert resolve.carry_out(resolve.DISCARD, "disk1", str(disk), "why")["already"]
    assert len(files(disk)) == 2
    assert resolve.carry_out(resolve.ABANDON, "disk1", str(disk), "why")["error"] is None
    assert not block(disk).discard
    assert "Nothing is ordered" in resolve.carry_out(resolve.ABANDON, "disk1", str(disk), "why")["error"]


def test_without_a_place_for_the_map_nothing_is_ordered(disk: Path) -> None:
    (disk.parent / "state").write_text("in the way")
    assert "Nothing is ordered" in resolve.carry_out(resolve.DISCARD, "disk1", str(disk), "why")["error"]
    assert not block(disk).discard


def test_a_provider_that_was_never_connected_has_nothing_to_discard(disk: Path) -> None:
    create_image(disk)
    assert "never connected" in resolve.carry_out(resolve.DISCARD, "disk1", str(disk), "why")["error"]


@pytest.mark.parametrize("name", ["other", "disk1"])
def test_providers_that_cannot_be_used_are_refused(disk: Path, name: str) -> None:
    path = disk if name == "other" else disk.parent / "missing"
    assert resolve.carry_out(resolve.DISCARD, name, str(path), "why")["error"]
    assert files(disk) == []


def test_records_of_the_same_second_do_not_overwrite_each_other(disk: Path) -> None:
    found = Discarded(block(disk), disk.read_bytes()[4096:4608], "policy", {"peer": {"extents": 1}})
    paths = {discarded.save(found, str(disk)) for _ in range(4)}
    assert len(paths) == 4
    assert len(files(disk)) == 8


def test_too_many_ranges_are_left_to_the_map(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discarded, "MAX_RANGES", 1)
    found = Discarded(replace(block(disk), resource="a/b"), disk.read_bytes()[4096:4608], "policy", {})
    record = json.loads(discarded.save(found, str(disk)).read_text())
    assert (record["extents"], len(record["ranges"]), record["ranges_complete"]) == (3, 1, False)
    assert record["map_file"].startswith("a%2Fb.discarded-")
