"""The tools that users have work with the export: nbdinfo, nbdcopy, qemu-io, qemu-img, fio's nbd engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ram_worker import RamNbd

SIZE = 16 << 20


@pytest.fixture(params=[512, 4096])
def export(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RamNbd]:
    server = RamNbd(tmp_path / "nbd.sock", SIZE, request.param)
    yield server
    server.stop()


def run(*command: str) -> str:
    """Output of a tool; skips where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def test_nbdinfo_sees_everything_that_is_offered(export: RamNbd) -> None:
    (found,) = json.loads(run("nbdinfo", "--json", export.uri))["exports"]
    assert found["export-size"] == SIZE
    for ability in ("can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
        assert found[ability] is True, ability
    assert found["is_read_only"] is False
    assert found["block_size_minimum"] == export.export.description.block_size_bytes
    assert found["block_size_maximum"] == 32 << 20


def test_nbdinfo_lists_the_export(export: RamNbd) -> None:
    listed = json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={export.path}"))
    assert [item["export-name"] for item in listed["exports"]] == ["disk1"]


def test_nbdcopy_carries_an_image_in_and_out(export: RamNbd, tmp_path: Path) -> None:
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(os.urandom(4 << 20) + bytes(4 << 20) + os.urandom(SIZE - (8 << 20)))
    run("nbdcopy", "--flush", str(image), export.uri)
    assert bytes(export.engine.memory) == image.read_bytes()
    run("nbdcopy", export.uri, str(copy))
    assert copy.read_bytes() == image.read_bytes()


def test_qemu_io_writes_verifies_zeroes_and_discards(export: RamNbd) -> None:
    commands = [
        "write -P 0x5a 0 3M",
        "read -P 0x5a 1M 2M",
        "write -f -P 0x11 4k 4k",
        "read -P 0x11 4k 4k",
        "write -z 1M 64k",
        "write -z -u 2M 64k",
        "read -P 0 1M 64k",
        "read -P 0 2M 64k",
        "discard 0 64k",
        "flush",
        "aio_write -P 0x77 8M 1M",
        "aio_flush",
        "read -P 0x77 8M 1M",
    ]
    output = run("qemu-io", "-f", "raw", *[part for command in commands for part in ("-c", command)], export.uri)
    assert "failed" not in output.lower()
    assert export.engine.memory[8 << 20 : 9 << 20] == b"\x77" * (1 << 20)


def test_qemu_img_converts_both_ways_and_compares(export: RamNbd, tmp_path: Path) -> None:
    image, back = tmp_path / "image", tmp_path / "back"
    image.write_bytes(os.urandom(1 << 20) + bytes(SIZE - (1 << 20)))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(image), export.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", str(image), export.uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", export.uri, str(back))
    assert back.read_bytes() == image.read_bytes()


def test_fio_verifies_what_it_wrote_over_two_connections(export: RamNbd) -> None:
    if shutil.which("fio") and "nbd" not in run("fio", "--enghelp"):
        pytest.skip("fio has no nbd engine")
    run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={export.uri}",
        "--rw=randrw",
        "--bsrange=4k-128k",
        "--blockalign=4k",
        "--iodepth=16",
        "--size=4m",
        "--io_size=8m",
        "--numjobs=2",
        "--offset_increment=8m",
        "--verify=crc32c",
        "--verify_state_save=0",
        "--fsync=32",
        f"--output={export.path}.log",
    )
