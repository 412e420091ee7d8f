"""The kernel's count of completed requests tells a slow disk from a hung one."""

from __future__ import annotations

import os
from pathlib import Path

from hast.worker.disk.progress import Progress


def test_progress_is_what_the_device_under_the_file_completed(tmp_path: Path) -> None:
    provider = tmp_path / "disk"
    provider.touch()
    device = provider.stat().st_dev
    counts = tmp_path / f"{os.major(device)}:{os.minor(device)}" / "stat"
    counts.parent.mkdir()
    counts.write_text("1 0 0 0 5 0 0 0 0 0 0 2 0 0 0 7 0\n")
    with provider.open() as file:
        progress = Progress(file.fileno(), tmp_path)
    assert not progress.moved()
    counts.write_text("1 0 0 0 6 0 0 0 9 0 0 2 0 0 0 7 0\n")
    assert progress.moved()
    counts.write_text("1 0 0 0 6 0 0 0 3 9 9 2 0 0 0 7 0\n")
    assert not progress.moved()


def test_a_file_system_without_a_device_shows_none(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("w") as file:
        progress = Progress(file.fileno(), tmp_path / "nothing")
    assert not progress.moved()
