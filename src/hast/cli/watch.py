"""`hastctl status --watch`: draws the live view again in place; in a pipe, one block after another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from hast.cli import output

_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"


def watch(fetch: Callable[[], list[dict[str, Any]]], interval_s: float, rounds: int | None = None) -> None:
    """Show `fetch()` every `interval_s` seconds, for ever or `rounds` times. What `fetch` raises ends it."""
    in_place = sys.stdout.isatty()
    drawn = 0
    while rounds is None or rounds > 0:
        lines = [time.strftime("%H:%M:%S"), *output.watch_lines(fetch())]
        if in_place and drawn:
            sys.stdout.write(f"\x1b[{drawn}A\r")
        end = _CLEAR_LINE + "\n" if in_place else "\n"
        sys.stdout.write("".join(line + end for line in lines) + (_CLEAR_BELOW if in_place else ""))
        sys.stdout.flush()
        drawn = len(lines)
        if rounds is not None:
            rounds -= 1
            if not rounds:
                return
        time.sleep(interval_s)
