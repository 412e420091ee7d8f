"""The process that opens a disk for a worker that may not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from hast.worker.disk import opener
from hast.worker.disk.opener import Opener, ask


def slow_interpreter(tmp_path: Path, delay_s: float) -> tuple[str, Path]:
    """One that takes so long to start, as on a busy host; the file is there from then on."""
    started = tmp_path / "started"
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nsleep {delay_s}\n: > {started}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script), started


def test_the_start_of_the_process_is_over_before_the_disk_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a busy host takes to start it was held for a disk that does not answer."""
    interpreter, started = slow_interpreter(tmp_path, 0.5)
    monkeypatch.setattr(sys, "executable", interpreter)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))

    async def story() -> None:
        process = Opener()
        await process.start(str(disk))
        assert started.exists()
        opened = await asyncio.to_thread(ask, process.theirs, str(disk))
        assert opened.size_bytes == 1 << 20
        opened.close()
        process.close()

    asyncio.run(story())


def test_a_process_that_does_not_start_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter, _ = slow_interpreter(tmp_path, 1)
    monkeypatch.setattr(sys, "executable", interpreter)
    monkeypatch.setattr(opener, "START_DEADLINE_S", 0.1)

    async def story() -> None:
        process = Opener()
        with pytest.raises(OSError, match="not ready within"):
            await process.start(str(tmp_path / "disk"))
        process.close()

    asyncio.run(story())
