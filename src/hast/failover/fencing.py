"""The `fence` program of hast.conf: makes sure that the other host is off. Its exit code decides.

It is run with the name of the resource and of this node as arguments, and gets no input. Every run ends: at the
deadline its whole process group is killed and the answer is no.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

DEADLINE_S = 60.0
_MAX_OUTPUT_BYTES = 4096
_log = logging.getLogger("hast.fence")


async def fence(path: str, resource: str, node: str, deadline_s: float = DEADLINE_S) -> bool:
    """True when the program says that the peer is off (exit code 0). Never raises; the outcome is logged."""
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            resource,
            node,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _log.error("%s: fence program %s cannot be run: %s.", resource, path, error.strerror)
        return False
    output = b""
    try:
        async with asyncio.timeout(deadline_s):
            output, _ = await process.communicate()
    except TimeoutError:
        _log.error("%s: fence program %s did not end within %g s: killed.", resource, path, deadline_s)
        return False
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    said = output[-_MAX_OUTPUT_BYTES:].decode(errors="replace").strip().replace("\n", " | ")
    if process.returncode == 0:
        _log.warning("%s: the peer is fenced. %s", resource, said)
        return True
    _log.error("%s: fence program %s: exit code %d. %s", resource, path, process.returncode, said)
    return False
