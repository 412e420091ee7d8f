"""Opening a local provider: exclusive, locked, measured, and its metadata and map read and checked.

Changes nothing on the provider. Every refusal is a ProviderError with one line that says what, to what and why.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from hast.format import metadata as metadata_format
from hast.format.constants import METADATA_SIZE_BYTES
from hast.replication.types import Metadata

BLKGETSIZE64 = 0x80081272
BLKSSZGET = 0x1268
FILE_SECTOR_BYTES = 512


class ProviderError(Exception):
    """A provider that cannot be used; `str()` is one line for the log, `exit_code` from sysexits."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class OpenedProvider:
    """An open and exclusively locked provider."""

    fd: int
    path: str
    size_bytes: int
    sector_size_bytes: int
    is_block_device: bool
    store_fd: int
    """A description of its own for the metadata: an error of writing back data pages is reported once per description,
    and must reach a flush of the data even when a map write got it first."""
    witness_fd: int = -1
    """Another one, to be left for the next worker (`flush_witness.py`); -1 where it could not be had."""

    def descriptors(self) -> list[int]:
        """All of them, `fd` first."""
        return [fd for fd in (self.fd, self.store_fd, self.witness_fd) if fd >= 0]

    def close(self) -> None:
        """Give it back unused."""
        for fd in self.descriptors():
            os.close(fd)


def open_provider(path: str) -> OpenedProvider:
    """Open and lock `path`, a regular file or a block device. Raises ProviderError (66 no input, 71 system)."""
    fd = _open_exclusively(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size_bytes, sector_size_bytes, is_block = _measure(fd)
        store_fd = _again(fd, os.O_RDWR)
    except BlockingIOError:
        os.close(fd)
        raise ProviderError(f"Unable to lock {path}: it is in use by another process (another hastd?).", 66) from None
    except OSError as error:
        os.close(fd)
        raise ProviderError(f"Unable to use {path}: {error.strerror}.", 71) from None
    try:
        witness_fd = _again(fd, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        witness_fd = -1
    return OpenedProvider(fd, path, size_bytes, sector_size_bytes, is_block, store_fd, witness_fd)


def _again(fd: int, flags: int) -> int:
    """The same disk, in another description."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def _open_exclusively(path: str) -> int:
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISBLK(mode):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL)
        if stat.S_ISREG(mode):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            text = f"Unable to open {path}: it is in use (mounted, or part of a pool, array or volume on this host)."
            raise ProviderError(text, 66) from None
        raise ProviderError(f"Unable to open {path}: {error.strerror}.", 66) from None
    raise ProviderError(f"Unable to open {path}: neither a regular file nor a block device.", 66)


def _measure(fd: int) -> tuple[int, int, bool]:
    """(size, logical sector size, is a block device) of an open provider."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return status.st_size, FILE_SECTOR_BYTES, False
    (size_bytes,) = struct.unpack("=Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))
    (sector_size_bytes,) = struct.unpack("=i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))
    return size_bytes, sector_size_bytes, True


def read_metadata(opened: OpenedProvider, resource: str) -> tuple[Metadata, bytes]:
    """The metadata block and the on-disk map (`offset_bytes - 4096` bytes) of an open provider.

    Raises ProviderError with the texts of section 7.2, 65 for contents that do not fit, 74 for a read error.
    """
    path = opened.path
    try:
        block = os.pread(opened.fd, METADATA_SIZE_BYTES, 0)
        if len(block) < METADATA_SIZE_BYTES:
            raise ProviderError(f"Unable to read metadata from {path}: it holds only {len(block)} bytes.", 65)
        metadata = metadata_format.decode(block)
    except metadata_format.MetadataError as error:
        hint = f'if it is new, run "hastctl create {resource}"'
        raise ProviderError(f"Metadata read from {path} is invalid: {error}; {hint}.", 65) from None
    except OSError as error:
        raise ProviderError(f"Unable to read metadata from {path}: {error.strerror}.", 74) from None
    _check_metadata(metadata, opened, resource)
    try:
        bitmap = os.pread(opened.fd, metadata.offset_bytes - METADATA_SIZE_BYTES, METADATA_SIZE_BYTES)
    except OSError as error:
        raise ProviderError(f"Unable to read activemap from {path}: {error.strerror}.", 74) from None
    if len(bitmap) < metadata.offset_bytes - METADATA_SIZE_BYTES:
        raise ProviderError(f"Unable to read activemap from {path}: short read.", 74)
    return metadata, bitmap


def _check_metadata(metadata: Metadata, opened: OpenedProvider, resource: str) -> None:
    path, size_bytes = opened.path, opened.size_bytes
    if metadata.resource != resource:
        text = f"Provider {path} is not part of resource {resource}. Its metadata names resource {metadata.resource}."
        raise ProviderError(text, 65)
    needed_bytes = metadata.offset_bytes + metadata.datasize_bytes
    if needed_bytes > size_bytes:
        text = f"Provider {path} has {size_bytes} bytes but its metadata needs {needed_bytes}: has it been shrunk?"
        raise ProviderError(text, 65)
    if metadata.offset_bytes % opened.sector_size_bytes or metadata.datasize_bytes % opened.sector_size_bytes:
        text = f"Metadata of {path} does not fit its sector size of {opened.sector_size_bytes} bytes."
        raise ProviderError(text, 65)
