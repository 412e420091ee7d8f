"""A writer that knows what was acknowledged: it runs outside the hosts and survives their power cuts."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path

from hast.lab.processes import LabError

BLOCK_BYTES = 4096
STOP_TIMEOUT_S = 30.0


def content(block: int, generation: int) -> bytes:
    """What block `block` holds after it was written `generation` times."""
    return struct.pack("<QQ", block, generation) * (BLOCK_BYTES // 16)


class Writer:
    """Writes numbered blocks to a block device, several at a time, past the page cache.

    Each thread writes every `threads`-th block over and over, and ends at the first I/O error. `acknowledged` and
    `issued` hold the newest generation of each block. `first_generation` may be raised before the start, to go on where
    another writer ended.
    """

    def __init__(self, device: Path, blocks: int, threads: int = 8) -> None:
        self.acknowledged = [0] * blocks
        self.issued = [0] * blocks
        self.first_generation = 1
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(device, range(first, blocks, threads)), daemon=True)
            for first in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the writing. Raises LabError when a write hangs."""
        self._stop.set()
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                raise LabError(f"a write has not returned after {STOP_TIMEOUT_S:g} s")

    def wait_for_writes(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait for so many acknowledged writes. Raises LabError."""
        deadline_s = time.monotonic() + timeout_s
        while sum(self.acknowledged) < count:
            if time.monotonic() > deadline_s:
                raise LabError(f"only {sum(self.acknowledged)} of {count} writes in {timeout_s:g} s")
            time.sleep(0.02)

    def _write(self, device: Path, mine: range) -> None:
        descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        buffer = mmap.mmap(-1, BLOCK_BYTES)
        generation = self.first_generation - 1
        try:
            while True:
                generation += 1
                for block in mine:
                    if self._stop.is_set():
                        return
                    buffer[:] = content(block, generation)
                    self.issued[block] = generation
                    os.pwrite(descriptor, buffer, block * BLOCK_BYTES)
                    self.acknowledged[block] = generation
        except OSError:
            return
        finally:
            os.close(descriptor)

    def wrong_blocks(self, device: Path) -> list[str]:
        """Blocks that hold neither their last acknowledged generation nor a later issued one; one line each."""
        wrong = []
        with device.open("rb") as file:
            for block, (acknowledged, issued) in enumerate(zip(self.acknowledged, self.issued, strict=True)):
                found = file.read(BLOCK_BYTES)
                generation = struct.unpack_from("<Q", found, 8)[0]
                expected = content(block, generation) if generation else bytes(BLOCK_BYTES)
                if found != expected or not acknowledged <= generation <= issued:
                    wrong.append(
                        f"block {block}: generation {generation}, {acknowledged} acknowledged, {issued} issued"
                    )
        return wrong
