"""The floor in C: it holds what it was given in both files, or its figures would mean nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.contestant import SIZE_BYTES, Contestant
from bench.others import FLOOR_SOURCE, compiled_floor, floor
from nbd_client import FLUSH, NbdClient

from hast.lab.processes import LabError

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
MAX_LINES = 300


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Contestant]:
    contestant = floor(tmp_path)
    yield contestant
    contestant.close()


def front(contestant: Contestant) -> Path:
    return Path(contestant.uris[0].partition("socket=")[2])


@needs_compiler
def test_what_was_written_is_read_again_and_is_in_both_files(running: Contestant, tmp_path: Path) -> None:
    chance = random.Random(1)
    expected = bytearray(8 << 20)
    client = NbdClient(front(running))
    assert client.size == SIZE_BYTES
    sizes = [512, 4096, 4096, 131072, 1 << 20] * 8
    for size in sizes:
        offset = chance.randrange((len(expected) - size) // 512) * 512
        data = chance.randbytes(size)
        client.send(1, offset, data=data)
        expected[offset : offset + size] = data
    client.send(FLUSH)
    handles = [client.receive()[:2] for _ in range(len(sizes) + 1)]
    assert handles == [(number + 1, 0) for number in range(len(sizes) + 1)]
    assert client.read(0, len(expected)) == expected
    client.close()
    for name in ("local0.img", "remote0.img"):
        with (tmp_path / name).open("rb") as file:
            assert file.read(len(expected)) == expected


@needs_compiler
def test_a_client_after_another_is_served_whatever_the_first_left_undone(running: Contestant) -> None:
    first = NbdClient(front(running))
    for place in range(64):
        first.send(1, place * 4096, data=bytes([place]) * 4096)
    first.close()
    second = NbdClient(front(running))
    assert second.write(0, b"\x77" * 4096) == 0
    assert second.read(0, 4096) == b"\x77" * 4096
    second.close()


def test_it_is_small_enough_to_be_believed() -> None:
    assert len(FLOOR_SOURCE.read_text().splitlines()) <= MAX_LINES


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="no C compiler"):
        compiled_floor(tmp_path)
