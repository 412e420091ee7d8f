"""Foreign text made harmless: what a peer, a client, a program or a file says, before a person or a terminal sees it.

Used where such text enters: messages of the handshake, answers of arbiters, names of clients, and every line of a log.
No I/O, no state.
"""

from __future__ import annotations

from typing import Any

MAX_TEXT_CHARACTERS = 1024
"""Of one text from outside."""


def printable(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """`text` with everything that no terminal should be told (control characters, line ends, surrogates, changes of
    direction) written as an escape, `\\x1b`, and what is longer than `limit` characters left out: `…`.
    """
    shown = text[: limit - 1] + "…" if len(text) > limit else text
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in shown)


def printable_json(value: Any) -> Any:
    """A value as read from JSON with every string in it, keys too, made `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_json(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): printable_json(each) for key, each in value.items()}
    return value


def _escaped(letter: str) -> str:
    """A byte that was not UTF-8 (a lone surrogate, PEP 383) is shown as that byte."""
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
