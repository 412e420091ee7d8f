"""A short-lived process that reads the metadata of providers without a worker, so that a sick disk stalls nobody else.

`python -m hast.worker.disk.probe NAME PATH …` prints a line for each as it is read, [name, {"error"} or metadata].
Every provider has a thread of its own. `read_metadata` is the client's side. Opens read-only, takes no lock, writes
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from hast.format import metadata  # here and not in the threads: compiled modules cannot be imported by two at once
from hast.format.constants import METADATA_SIZE_BYTES

PROBE_DEADLINE_S = 3.0
MAX_LINE_BYTES = 1 << 20


def probe(name: str, path: str) -> dict[str, Any]:
    """The values of one provider's metadata block, or {"error": text}."""
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
            "hast.worker.disk.probe",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE_BYTES,
        )
    except OSError:
        return missing
    found: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            while len(found) < len(providers) and (line := await _line(process)):
                name, values = json.loads(line)
                found[name] = values
    except (TimeoutError, ValueError, TypeError):
        pass
    await _end(process)
    return missing | found


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make sure that it ends; one that is stuck on its disk is left to end when the disk lets it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.1)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)


def main() -> None:
    arguments = sys.argv[1:]
    lock = threading.Lock()

    def tell(name: str, path: str) -> None:
        line = json.dumps([name, probe(name, path)]) + "\n"
        with lock:
            sys.stdout.write(line)
            sys.stdout.flush()

    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    threads = [threading.Thread(target=tell, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
