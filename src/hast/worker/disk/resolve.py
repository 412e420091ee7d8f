"""The operator's order to throw this copy's changes away, written to or taken off the metadata of an idle provider.

`python -m hast.worker.disk.resolve ORDER NAME PATH REASON`, ORDER being `discard` or `abandon`, prints one JSON object:
the result of docs/control.md, or {"error": text}. A short-lived process, so that a sick disk stalls nobody else; `run`
is the supervisor's side. The map is saved, REASON with it, before the order is given; both are durable before it is
reported.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import Any

from hast.worker.disk.short_lived import DEADLINE_S, ask

MODULE = "hast.worker.disk.resolve"
DISCARD, ABANDON = "discard", "abandon"


async def run(order: str, name: str, path: str, reason: str) -> dict[str, Any]:
    """Give or take back the order in a process of its own. Nobody else may be using the provider."""
    silent = f"Provider {path} did not answer within {DEADLINE_S:g} s; look at hastctl status, then repeat."
    return await ask(MODULE, order, name, path, reason, silent=silent)


def carry_out(order: str, name: str, path: str, reason: str) -> dict[str, Any]:
    """The process's work."""
    from hast.worker.disk.provider_open import ProviderError, open_provider, read_metadata

    try:
        opened = open_provider(path)
        try:
            metadata, image = read_metadata(opened, name)
            if order == ABANDON:
                return _abandon(opened.fd, name, metadata)
            return _discard(opened.fd, path, metadata, image, reason)
        finally:
            opened.close()
    except ProviderError as error:
        return {"error": str(error)}
    except OSError as error:
        where = error.filename or path
        return {"error": f"Unable to write {where}: {error.strerror or error}. Nothing is ordered."}


def _discard(fd: int, path: str, metadata: Any, image: bytes, reason: str) -> dict[str, Any]:
    from hast.replication.answer import count_extents
    from hast.replication.types import Discarded
    from hast.worker.disk import discarded

    if metadata.resuid == 0:
        return {"error": f"Provider {path} was never connected to another node: there is nothing to discard."}
    extents = count_extents(metadata, image)
    result = {"error": None, "extents": extents, "bytes": extents * metadata.extentsize_bytes, "map": None}
    if metadata.discard:
        return result | {"already": True}
    saved = discarded.save(Discarded(metadata, image, reason, {}), path)
    _write(fd, replace(metadata, discard=True))
    return result | {"map": str(saved), "already": False}


def _abandon(fd: int, name: str, metadata: Any) -> dict[str, Any]:
    if not metadata.discard:
        text = f"Nothing is ordered for {name}: no order was given, or it was carried out or void already."
        return {"error": text}
    _write(fd, replace(metadata, discard=False))
    return {"error": None}


def _write(fd: int, metadata: Any) -> None:
    from hast.format import metadata as metadata_format

    block = metadata_format.encode(metadata)
    if os.pwrite(fd, block, 0) != len(block):
        raise OSError(5, "short write of the metadata")
    os.fsync(fd)


def main() -> None:
    json.dump(carry_out(*sys.argv[1:5]), sys.stdout)


if __name__ == "__main__":
    main()
