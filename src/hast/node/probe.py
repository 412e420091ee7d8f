"""A short-lived process that reads the metadata of providers without a worker, so that a sick disk stalls nobody else.

`python -m hast.node.probe NAME PATH …` prints one JSON object, resource name to {"error"} or the metadata's values.
`read_metadata` is the client's side. Opens read-only, takes no lock, writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

PROBE_DEADLINE_S = 3.0


def probe(name: str, path: str) -> dict[str, Any]:
    """The values of one provider's metadata block, or {"error": text}."""
    import dataclasses

    import hast.format.metadata as metadata
    from hast.format.constants import METADATA_SIZE_BYTES

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = metadata.decode(os.pread(descriptor, METADATA_SIZE_BYTES, 0))
        finally:
            os.close(descriptor)
    except OSError as error:
        return {"error": f"Unable to read {path}: {error.strerror}."}
    except metadata.MetadataError:
        return {"error": f"Provider {path} holds no HAST metadata; run: hastctl create {name}"}
    if found.resource != name:
        return {"error": f"Provider {path} is not part of resource {name}: it belongs to {found.resource}."}
    values = dataclasses.asdict(found).items()
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in values}


async def read_metadata(providers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Probe these (resource name to path) in one process. Names that could not be read in time carry an `error`."""
    if not providers:
        return {}
    missing = {name: {"error": f"Provider {path} did not answer."} for name, path in providers.items()}
    arguments = [part for item in providers.items() for part in item]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "hast.node.probe",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return missing
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            output, _ = await process.communicate()
        answer = json.loads(output)
    except ValueError:
        return missing
    except TimeoutError:
        await _end(process)
        return missing
    return missing | answer if isinstance(answer, dict) else missing


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it; one that is stuck on its disk is left to end when the disk lets it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)


def main() -> None:
    arguments = sys.argv[1:]
    found = {name: probe(name, path) for name, path in zip(arguments[::2], arguments[1::2], strict=True)}
    json.dump(found, sys.stdout, default=bytes.hex)


if __name__ == "__main__":
    main()
