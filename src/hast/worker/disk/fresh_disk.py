"""A new disk for a secondary: fresh metadata on it, of the size that the copy had, so that it takes everything.

`python -m hast.worker.disk.fresh_disk NAME PATH DATASIZE EXTENTSIZE KEEPDIRTY [look]` prints {"error": text or null};
zeros are the defaults of hastctl create, `look` writes nothing. A short-lived process, so that a sick disk stalls
nobody else; `run` is the supervisor's side.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from hast.config.model import Resource
from hast.worker.disk.short_lived import DEADLINE_S, ask

MODULE = "hast.worker.disk.fresh_disk"
LOOK = "look"


async def run(
    resource: Resource, datasize_bytes: int, extentsize_bytes: int, keepdirty: int, *, only_look: bool = False
) -> dict[str, Any]:
    """Write the metadata in a process of its own. Nobody else may be using the provider. `only_look`: would it do?"""
    arguments = [resource.name, resource.local, *(str(each) for each in (datasize_bytes, extentsize_bytes, keepdirty))]
    arguments += [LOOK] if only_look else []
    silent = f"Provider {resource.local} did not answer within {DEADLINE_S:g} s."
    return await ask(MODULE, *arguments, silent=silent)


def write(
    name: str, path: str, datasize_bytes: int, extentsize_bytes: int, keepdirty: int, *, only_look: bool = False
) -> dict[str, Any]:
    """The process's work."""
    from hast.format.geometry import mediasize_for
    from hast.worker.disk.provider_open import ProviderError, open_provider
    from hast.worker.disk.provision import create
    from hast.worker.disk.replacement import refuse_foreign

    try:
        opened = open_provider(path)
        try:
            refuse_foreign(opened, name)
            sector_bytes = opened.sector_size_bytes
        finally:
            os.close(opened.fd)
        media_bytes = mediasize_for(datasize_bytes, extentsize_bytes, sector_bytes) if datasize_bytes else 0
        if media_bytes > opened.size_bytes:
            return {"error": f"{path} is too small: {opened.size_bytes} bytes, and {media_bytes} are needed."}
        if only_look:
            return {"error": None}
        create(Resource(name, name, path, ()), extentsize_bytes, keepdirty, media_bytes)
    except ProviderError as error:
        return {"error": str(error)}
    return {"error": None}


def main() -> None:
    name, path = sys.argv[1:3]
    datasize_bytes, extentsize_bytes, keepdirty = (int(each) for each in sys.argv[3:6])
    only_look = sys.argv[6:] == [LOOK]
    json.dump(write(name, path, datasize_bytes, extentsize_bytes, keepdirty, only_look=only_look), sys.stdout)


if __name__ == "__main__":
    main()
