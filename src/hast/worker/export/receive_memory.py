"""Memory into which the kernel copies what users of a device write: resident, in chunks, used again when unreferenced.

A page fault in it while the worker is being killed would fail that request upwards.
"""

from __future__ import annotations

import mmap
from collections import deque

CHUNK_BYTES = 4 * 1024 * 1024
MAX_CHUNKS = 8
"""Receive memory at most; with all of it in use the device is not read."""


def lock_memory() -> bool:
    """Keep every page of this process resident once touched. False when the system does not allow it."""
    import ctypes

    current_future_onfault = 1 | 2 | 4
    return bool(ctypes.CDLL(None, use_errno=True).mlockall(current_future_onfault) == 0)


class ReceiveMemory:
    """Resident memory for write payloads: page-aligned room is taken from the front of the current chunk.

    Every page is written to first: MAP_POPULATE does nothing in memory that is locked as it is touched (`lock_memory`).
    Views handed out stay valid for as long as anybody holds them; a chunk is used again when its last view is gone.
    """

    def __init__(self) -> None:
        self._spare: deque[mmap.mmap] = deque()
        self._count = 1
        self._chunk = self._allocate()
        self.view = memoryview(self._chunk)
        self.position = 0

    @staticmethod
    def _allocate() -> mmap.mmap:
        chunk = mmap.mmap(-1, CHUNK_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        chunk[:: mmap.PAGESIZE] = bytes(CHUNK_BYTES // mmap.PAGESIZE)
        return chunk

    def next_chunk(self) -> bool:
        """Go on with a chunk that nobody uses. False, and no change, when all are in use."""
        chunk = self._unused_chunk()
        if chunk is None:
            if self._count >= MAX_CHUNKS:
                return False
            chunk = self._allocate()
            self._count += 1
        self._spare.append(self._chunk)
        self._chunk = chunk
        self.view = memoryview(chunk)
        self.position = 0
        return True

    def _unused_chunk(self) -> mmap.mmap | None:
        for _ in range(len(self._spare)):
            chunk = self._spare.popleft()
            if _is_free(chunk):
                return chunk
            self._spare.append(chunk)
        return None


def _is_free(chunk: mmap.mmap) -> bool:
    """Whether no view into it is left: a mapping refuses to be resized, be it to the size it has, under a view."""
    try:
        chunk.resize(CHUNK_BYTES)
    except BufferError:
        return False
    return True
