"""Whether a disk is read and written through the kernel's page cache. Without I/O."""

from __future__ import annotations

from hast.config.model import DiskCache

CACHED_MAJORS = frozenset((1, 7))
"""Memory disks, and loop devices: their file lies in the cache already (Documentation/admin-guide/devices.txt)."""


def goes_past(setting: DiskCache, is_block_device: bool, major: int) -> bool:
    """`major` of a block device's number. A cache on top of a disk is a second one beside that of the file system or
    pool above, holds back writes until it lets go of all at once, and reads a page first to write a part of it."""
    if setting is DiskCache.AUTO:
        return is_block_device and major not in CACHED_MAJORS
    return setting is DiskCache.OFF
