"""Has a module of this room do one thing to a provider in a process of its own, so that a sick disk stalls nobody else.

The module prints one JSON object. Raises nothing: whatever goes wrong is the `error` of the answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

DEADLINE_S = 20.0


async def ask(module: str, *arguments: str, silent: str) -> dict[str, Any]:
    """What the module answers. `silent`: the error of one that says nothing within DEADLINE_S."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        return {"error": f"Unable to start a process: {error.strerror}."}
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
        answer = json.loads(output)
    except (TimeoutError, ValueError):
        if process.returncode is None:
            process.kill()
        return {"error": silent}
    return answer if isinstance(answer, dict) else {"error": "The answer makes no sense."}
