"""A disk that takes its time, for the benchmark."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from bench.slow_disk import PROGRAMS, SlowDisk

MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
if not Path("/dev/fuse").exists():
    MISSING.append("/dev/fuse")

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
SIZE = 1 << 20


def test_it_has_the_content_of_the_file_takes_its_time_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\x17" * SIZE)
    disk = SlowDisk(path, 20)
    try:
        fd = os.open(path, os.O_RDWR)
        try:
            assert os.pread(fd, SIZE, 0) == b"\x17" * SIZE
            began_s = time.monotonic()
            for place in range(5):
                os.pwrite(fd, b"w" * 4096, place * 4096)
                os.fsync(fd)
            assert time.monotonic() - began_s >= 5 * 0.02
        finally:
            os.close(fd)
    finally:
        disk.close()
    assert not os.path.ismount(path)
    assert (tmp_path / "disk.backing").read_bytes()[: 6 * 4096] == b"w" * 4096 * 5 + b"\x17" * 4096
