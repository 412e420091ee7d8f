"""Keeps a record of changes that are about to be thrown away after a split brain: which extents, not their contents.

Two files in the folder `discarded` of the state directory, which is the workers' own: NAME.discarded-TIME.json, for
people and programs (docs/formats.md), and .map, the map as it stood on the disk. Both are durable when `save` returns.
Decides nothing.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from hast.daemon import paths
from hast.replication.answer import marked
from hast.replication.bitmap import Bitmap
from hast.replication.core import MAP_OFFSET_BYTES
from hast.replication.types import Discarded

MAX_RANGES = 65536
"""Ranges listed in the JSON file; the map has them all."""
MAX_SAME_SECOND = 100


def save(discarded: Discarded, local: str) -> Path:
    """Write both files; returns the path of the JSON file. `local` is the provider's path. Raises OSError."""
    directory = paths.make_state_directory() / "discarded"
    directory.mkdir(mode=0o700, exist_ok=True)
    base = _free_name(directory, discarded.metadata.resource)
    mapsize = discarded.metadata.offset_bytes - MAP_OFFSET_BYTES
    _write(base.with_name(base.name + ".map"), discarded.image[:mapsize])
    path = base.with_name(base.name + ".json")
    text = json.dumps(describe(discarded, local) | {"map_file": base.name + ".map"}, indent=1)
    _write(path, text.encode() + b"\n")
    _sync_directory(directory)
    return path


def describe(discarded: Discarded, local: str) -> dict[str, Any]:
    """The JSON object. Offsets are relative to the data area, which begins `data_offset` bytes into the provider."""
    metadata = discarded.metadata
    extents = marked(metadata, discarded.image)
    ranges, complete = _ranges(extents, metadata.extentsize_bytes, metadata.datasize_bytes)
    return {
        "resource": metadata.resource,
        "node": socket.gethostname(),
        "time": int(time.time()),
        "reason": discarded.reason,
        "localpath": local,
        "data_offset": metadata.offset_bytes,
        "datasize": metadata.datasize_bytes,
        "extentsize": metadata.extentsize_bytes,
        "resuid": metadata.resuid,
        "localcnt": metadata.localcnt,
        "remotecnt": metadata.remotecnt,
        "since": metadata.ahead_since_s or None,
        "peer": discarded.report.get("peer"),
        "extents": extents.count,
        "bytes": extents.count * metadata.extentsize_bytes,
        "ranges": ranges,
        "ranges_complete": complete,
    }


def _ranges(extents: Bitmap, extentsize_bytes: int, datasize_bytes: int) -> tuple[list[dict[str, int]], bool]:
    ranges: list[dict[str, int]] = []
    end = -1
    for extent in extents:
        length = min(extentsize_bytes, datasize_bytes - extent * extentsize_bytes)
        if extent == end:
            ranges[-1]["length"] += length
        elif len(ranges) == MAX_RANGES:
            return ranges, False
        else:
            ranges.append({"offset": extent * extentsize_bytes, "length": length})
        end = extent + 1
    return ranges, True


def _free_name(directory: Path, resource: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    base = directory / f"{paths.file_stem(resource)}.discarded-{stamp}"
    for number in range(1, MAX_SAME_SECOND):
        name = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not os.path.lexists(f"{name}.json") and not os.path.lexists(f"{name}.map"):
            return name
    raise FileExistsError(17, f"too many files like {base}")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
