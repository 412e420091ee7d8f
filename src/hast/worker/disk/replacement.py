"""A disk that takes the place of another one: checked, and given metadata that say that it lacks everything."""

from __future__ import annotations

import os
from collections.abc import Callable

from hast.format import metadata as metadata_format
from hast.format.constants import METADATA_SIZE_BYTES
from hast.replication.disk_service import full_map, replacement_of
from hast.replication.types import Metadata
from hast.worker.disk.provider_open import OpenedProvider, ProviderError, open_provider


def open_replacement(
    path: str, present: Metadata, write: bool, open_by: Callable[[str], OpenedProvider] = open_provider
) -> tuple[OpenedProvider, Metadata]:
    """Open `path` for the copy that `present` describes. `write`: the metadata, too, durably. Raises ProviderError."""
    opened = open_by(path)
    try:
        check(opened, present)
        fresh = replacement_of(present)
        if write:
            _write(opened.fd, metadata_format.encode(fresh) + full_map(present))
        return opened, fresh
    except OSError as error:
        opened.close()
        raise ProviderError(f"Unable to write metadata to {path}: {error.strerror}.", 74) from None
    except ProviderError:
        opened.close()
        raise


def check(opened: OpenedProvider, present: Metadata) -> None:
    """Refuse what is too small or belongs to something else. Raises ProviderError."""
    path = opened.path
    needed_bytes = present.offset_bytes + present.datasize_bytes
    if opened.size_bytes < needed_bytes:
        raise ProviderError(f"{path} is too small: {opened.size_bytes} bytes, and {needed_bytes} are needed.", 65)
    if (present.offset_bytes | present.datasize_bytes) % opened.sector_size_bytes:
        raise ProviderError(
            f"{path} has sectors of {opened.sector_size_bytes} bytes, which this copy does not fit.", 65
        )
    refuse_foreign(opened, present.resource)


def refuse_foreign(opened: OpenedProvider, resource: str) -> None:
    """Refuse the disk of another resource. Raises ProviderError."""
    try:
        found = metadata_format.decode(os.pread(opened.fd, METADATA_SIZE_BYTES, 0))
    except metadata_format.MetadataError as error:
        if error.missing:
            return
        raise ProviderError(f"{opened.path} holds HAST metadata that are damaged; hastctl wipe frees it.", 65) from None
    except OSError as error:
        raise ProviderError(f"Unable to read {opened.path}: {error.strerror}.", 74) from None
    if found.resource != resource:
        raise ProviderError(f"{opened.path} belongs to resource {found.resource}; hastctl wipe frees it.", 65)


def _write(fd: int, data: bytes) -> None:
    view, offset = memoryview(data), 0
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
    os.fsync(fd)
