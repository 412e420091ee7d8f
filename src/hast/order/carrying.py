"""Runs the command of an order, tells its lines as they come, and says how it ended. Kills nothing that it has begun.

Half an order is worse than a whole one: a command that does not end in time goes on, and is waited for by `settled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hast.format.text import printable

MAX_LINES = 200
MAX_LINE_CHARACTERS = 400
MAX_LINE_BYTES = 64 * 1024
NOT_STARTED = 127

Tell = Callable[[str], Awaitable[None]]


class Running:
    """One command. `run` once."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._ended: asyncio.Task[int] | None = None

    async def run(self, limit_s: float, tell: Tell) -> int | None:
        """The exit code; None where it has not ended in time."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:
            await tell(f"{self._argv[0]}: {error.strerror}")
            return NOT_STARTED
        self._ended = asyncio.create_task(self._follow(process, tell))
        done, _still = await asyncio.wait((self._ended,), timeout=limit_s)
        return self._ended.result() if done else None

    async def settled(self) -> int:
        """The exit code of what had not ended in time, however long that takes."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def _follow(self, process: asyncio.subprocess.Process, tell: Tell) -> int:
        """All output is taken, so that no command waits for us; as much is told as anybody reads."""
        assert process.stdout is not None
        told = 0
        while piece := await _line(process.stdout):
            told += 1
            if told <= MAX_LINES:
                await tell(printable(piece.decode(errors="surrogateescape").rstrip("\n"), MAX_LINE_CHARACTERS))
        return await process.wait()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line; a longer one than the limit in pieces. Empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(max(1, error.consumed))
