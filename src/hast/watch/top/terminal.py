"""The terminal of the live view: keys one by one, a screen of its own, and everything as it was afterwards.

Draws what it is given; knows nothing of what that is.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import termios
import tty
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"
_SEQUENCES = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}
MAX_KEY_BYTES = 64


class Closed(Exception):
    """The terminal is gone."""


def can_draw() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24


def to_text(lines: Sequence[Text], width: int, *, colours: bool) -> list[str]:
    """The lines as they go to a terminal; NO_COLOR and TERM decide what of the colours is left."""
    buffer = io.StringIO()
    no_color = None if colours else True
    console = Console(file=buffer, width=width, force_terminal=colours, no_color=no_color, highlight=False)
    console.print(Text("\n").join(lines), no_wrap=True, overflow="crop", soft_wrap=True)
    return buffer.getvalue().split("\n")[: len(lines)]


class Terminal:
    """A context: inside, the screen is ours. `keys` is the descriptor to wait for; None where nobody can type."""

    def __init__(self) -> None:
        self.keys: int | None = sys.stdin.fileno() if _is_terminal(sys.stdin) else None
        self._before: list[object] | None = None
        self._shown: list[str] = []

    def __enter__(self) -> Terminal:
        try:
            if self.keys is not None:
                self._before = termios.tcgetattr(self.keys)
                tty.setcbreak(self.keys)
            self._write(_ENTER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_ended: object) -> None:
        with contextlib.suppress(Closed):
            self._write(_LEAVE)
        if self.keys is not None and self._before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def draw(self, lines: Sequence[Text], width: int) -> None:
        """Show a frame; nothing is sent when it is the one that is there. Raises Closed."""
        shown = to_text(lines, width, colours=True)
        if shown != self._shown:
            self._write(_HOME + (_CLEAR_LINE + "\r\n").join(shown) + _CLEAR_LINE + _CLEAR_BELOW)
            self._shown = shown

    def forget(self) -> None:
        """The next frame is drawn whatever is there: the window has another size."""
        self._shown = []

    def read_key(self) -> str:
        """The key that was pressed: a character, `up`, `down`, or empty for another one. Raises Closed."""
        assert self.keys is not None
        try:
            found = os.read(self.keys, MAX_KEY_BYTES)
        except OSError:
            raise Closed from None
        if not found:
            raise Closed
        return _SEQUENCES.get(found) or ("" if found.startswith(b"\x1b") else found[:1].decode(errors="replace"))

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError):
            raise Closed from None


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream is not None and os.isatty(stream.fileno()))  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return False
