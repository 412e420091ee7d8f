"""`hastctl top`: finds the terminal, the source of pictures and the programs; the view is watch/top/."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hast.cli import programs
from hast.cli.session import Failure

EX_UNAVAILABLE = 69
MISSING = "hastctl top needs the Python package rich: install python3-rich (Debian), or hast[top]."


def run(config: str | None, once: bool) -> None:
    """Show it until it is ended, or one frame. Raises Failure."""
    try:
        from hast.watch.top import live, terminal
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        raise Failure(MISSING, EX_UNAVAILABLE) from None
    from hast.watch.source import Source

    more = programs.of_this_hastd(config)

    def command(words: Sequence[str]) -> list[str]:
        return programs.command(words, more)

    async def show() -> None:
        view = live.Live(Source(keep_s=0.5), command)
        if once or not terminal.can_draw():
            width = terminal.size()[0]
            lines = live.plain(await view.once(), width)
            print("\n".join(terminal.to_text(lines, width, colours=terminal.can_draw())))
            return
        await view.run(terminal.Terminal())

    asyncio.run(show())
