"""`hastctl create` and `dump`: writes and reads the metadata of a local provider, without the daemon (section 7).

Refuses a provider that anybody uses. Touches the metadata block and the activemap, never the data area.
"""

from __future__ import annotations

import errno
import os

from hast.config.model import Resource
from hast.daemon import paths
from hast.format import metadata as metadata_format
from hast.format.constants import DEFAULT_EXTENT_SIZE_BYTES, DEFAULT_KEEPDIRTY, METADATA_SIZE_BYTES
from hast.format.geometry import Geometry, GeometryError
from hast.replication.types import Metadata
from hast.worker.disk.flush_mark import forget
from hast.worker.disk.provider_open import OpenedProvider, ProviderError, open_provider

_CHUNK_BYTES = 1 << 20
MAX_KEEPDIRTY = 2**32 - 1


def create(resource: Resource, extentsize_bytes: int = 0, keepdirty: int = 0, mediasize_bytes: int = 0) -> Metadata:
    """Make the provider one of `resource`; 0 means the default. Raises ProviderError (65, 66, 71, 74)."""
    opened = open_provider(resource.local)
    try:
        metadata = _new_metadata(resource, opened, extentsize_bytes, keepdirty, mediasize_bytes)
        try:
            _write(opened.fd, metadata)
        except OSError as error:
            raise ProviderError(f"Unable to write metadata to {resource.local}: {error.strerror}.", 74) from None
        forget(paths.resource_file(resource.name, "flush"))
        return metadata
    finally:
        os.close(opened.fd)


def foresee(resource: Resource, extentsize_bytes: int = 0, keepdirty: int = 0, mediasize_bytes: int = 0) -> Metadata:
    """What `create` would write; refuses what it would refuse, and changes nothing. Raises ProviderError."""
    opened = open_provider(resource.local)
    try:
        return _new_metadata(resource, opened, extentsize_bytes, keepdirty, mediasize_bytes)
    finally:
        os.close(opened.fd)


def _new_metadata(
    resource: Resource, opened: OpenedProvider, extentsize_bytes: int, keepdirty: int, mediasize_bytes: int
) -> Metadata:
    if mediasize_bytes > opened.size_bytes:
        raise ProviderError(f"Provided mediasize is larger than provider {opened.path} size.", 65)
    if not 0 <= keepdirty <= MAX_KEEPDIRTY:
        raise ProviderError(f"Keepdirty ({keepdirty}) is not a number from 1 to {MAX_KEEPDIRTY}.", 65)
    try:
        geometry = Geometry(
            mediasize_bytes or opened.size_bytes,
            extentsize_bytes or DEFAULT_EXTENT_SIZE_BYTES,
            opened.sector_size_bytes,
        )
    except GeometryError as error:
        raise ProviderError(f"{error} Provider {opened.path} not changed.", 65) from None
    return Metadata(
        resource=resource.name,
        datasize_bytes=geometry.datasize_bytes,
        extentsize_bytes=geometry.extentsize_bytes,
        keepdirty=keepdirty or DEFAULT_KEEPDIRTY,
        offset_bytes=geometry.offset_bytes,
    )


def _write(fd: int, metadata: Metadata) -> None:
    _write_all(fd, metadata_format.encode(metadata), 0)
    left, offset = metadata.offset_bytes - METADATA_SIZE_BYTES, METADATA_SIZE_BYTES
    while left:
        piece = min(left, _CHUNK_BYTES)
        _write_all(fd, bytes(piece), offset)
        left, offset = left - piece, offset + piece
    os.fsync(fd)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data, offset = data[written:], offset + written


def read(resource: Resource) -> Metadata:
    """The metadata of a provider, read-only and without a lock. Raises ProviderError (66, or 255 as section 9.2)."""
    path = resource.local
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProviderError(f"Unable to open {path}: {error.strerror}.", 66) from None
    try:
        metadata = metadata_format.decode(os.pread(fd, METADATA_SIZE_BYTES, 0))
    except OSError as error:
        raise ProviderError(f"Unable to read metadata from {path}: {error.strerror}.", 255) from None
    except metadata_format.MetadataError as error:
        hint = f'if it is new, run "hastctl create {resource.name}"'
        if error.missing:
            raise ProviderError(f"Unable to read metadata from {path}: {error}; {hint}.", 255) from None
        raise ProviderError(f"Metadata read from {path} is invalid: {error}; {hint}.", 255) from None
    finally:
        os.close(fd)
    if metadata.resource != resource.name:
        raise ProviderError(f"Provider {path} is not part of resource {resource.name}.", 255)
    return metadata
