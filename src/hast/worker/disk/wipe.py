"""`hastctl wipe`: looks at what HAST wrote on a provider and removes it, without the daemon.

Touches the metadata block and the activemap behind it, never the data area.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hast.format import metadata as metadata_format
from hast.format.constants import METADATA_SIZE_BYTES
from hast.replication.types import Metadata
from hast.worker.disk.provider_open import ProviderError, open_provider

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A provider that carries metadata, open and locked."""

    path: str
    metadata: Metadata
    marked_extents: int
    """Bits set in its map: extents that the other node may lack."""
    fd: int


@contextmanager
def opened(path: str) -> Iterator[Found]:
    """The provider, held exclusively as long as the context lasts.

    Raises ProviderError: 66 missing or in use, 71 system, 255 without metadata that can be read.
    """
    provider = open_provider(path)
    try:
        yield _look(provider.fd, path, provider.size_bytes)
    finally:
        provider.close()


def _look(fd: int, path: str, size_bytes: int) -> Found:
    try:
        metadata = metadata_format.decode(os.pread(fd, METADATA_SIZE_BYTES, 0))
        if metadata.offset_bytes > size_bytes:
            raise ProviderError(f"Metadata on {path} is of a larger provider; nothing wiped.", 255)
        marked = sum(int.from_bytes(chunk, "little").bit_count() for chunk in _map(fd, metadata.offset_bytes))
    except OSError as error:
        raise ProviderError(f"Unable to read metadata from {path}: {error.strerror}.", 255) from None
    except metadata_format.MetadataError as error:
        text = f"There is no HAST metadata on {path}" if error.missing else f"Metadata on {path} is invalid"
        raise ProviderError(f"{text}: {error}; nothing wiped.", 255) from None
    return Found(path, metadata, marked, fd)


def _map(fd: int, end_bytes: int) -> Iterator[bytes]:
    position = METADATA_SIZE_BYTES
    while position < end_bytes:
        chunk = os.pread(fd, min(_CHUNK_BYTES, end_bytes - position), position)
        if not chunk:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        yield chunk
        position += len(chunk)


def wipe(found: Found) -> None:
    """Zeros over the metadata, durably, then over the map. Raises ProviderError (74)."""
    try:
        _zero(found.fd, 0, METADATA_SIZE_BYTES)
        os.fsync(found.fd)
        _zero(found.fd, METADATA_SIZE_BYTES, found.metadata.offset_bytes)
        os.fsync(found.fd)
    except OSError as error:
        raise ProviderError(f"Unable to wipe {found.path}: {error.strerror}.", 74) from None


def _zero(fd: int, position: int, end_bytes: int) -> None:
    while position < end_bytes:
        position += os.pwrite(fd, bytes(min(_CHUNK_BYTES, end_bytes - position)), position)
