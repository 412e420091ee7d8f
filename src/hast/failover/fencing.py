"""The `fence` program of hast.conf: makes sure that the other host is off. Its exit code decides.

It is run with the name of the resource and of this node as arguments, and gets no input. Every run ends: at the
deadline its whole process group is killed and the answer is no, also when the program lies on a frozen file system or
cannot be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

from hast.daemon import launch

DEADLINE_S = 60.0
_KILL_WAIT_S = 2.0
_MAX_OUTPUT_BYTES = 4096
_log = logging.getLogger("hast.fence")


async def fence(path: str, resource: str, node: str, deadline_s: float = DEADLINE_S) -> bool:
    """True when the program says that the peer is off (exit code 0). Never raises; the outcome is logged."""
    try:
        process = await asyncio.create_subprocess_exec(
            *launch.by_shell([path, resource, node]),
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _KILL_WAIT_S)
    said = output[-_MAX_OUTPUT_BYTES:].decode(errors="replace").strip().replace("\n", " | ")
    if process.returncode == 0:
        _log.warning("%s: the peer is fenced. %s", resource, said)
        return True
    why_not_run = launch.why_not_run(process.returncode or 0)
    if why_not_run is not None:
        _log.error("%s: fence program %s cannot be run: %s.", resource, path, why_not_run)
        return False
    _log.error("%s: fence program %s: exit code %d. %s", resource, path, process.returncode, said)
    return False
