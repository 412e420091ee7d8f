"""POSIX extended regular expressions, as devd.conf writes them, for Python's `re`. Pure functions.

The two agree on nearly everything; what differs are bracket expressions: `[[:alpha:]]`, a literal `[` inside, and
set operators that only Python reserves.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(r"\[:([a-z]+):\]")


class RegexError(ValueError):
    """An expression that cannot be compiled; `str()` says why."""


def to_python(expression: str) -> str:
    """The same expression for `re.fullmatch`. Raises RegexError."""
    translated = "".join(_pieces(expression))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(translated)
    except (re.error, OverflowError, RecursionError) as error:
        raise RegexError(str(error).replace("\n", " ")) from None
    return translated


def _pieces(expression: str) -> Iterator[str]:
    place = 0
    while place < len(expression):
        character = expression[place]
        if character == "\\" and place + 1 < len(expression):
            yield expression[place : place + 2]
            place += 2
        elif character == "[":
            piece, place = _bracket(expression, place)
            yield piece
        else:
            yield character
            place += 1


def _bracket(expression: str, start: int) -> tuple[str, int]:
    """One bracket expression from `start`, and the place after it."""
    place = start + 1
    pieces = ["["]
    if expression[place : place + 1] == "^":
        pieces.append("^")
        place += 1
    if expression[place : place + 1] == "]":
        pieces.append("\\]")
        place += 1
    while place < len(expression) and expression[place] != "]":
        found = _CLASS.match(expression, place)
        if found:
            if found[1] not in _CLASSES:
                raise RegexError(f"no character class [:{found[1]}:]")
            pieces.append(_CLASSES[found[1]])
            place = found.end()
        elif expression[place] == "\\":
            pieces.append(expression[place : place + 2])
            place += 2
        else:
            pieces.append(f"\\{expression[place]}" if expression[place] in "[&|~" else expression[place])
            place += 1
    if place >= len(expression):
        raise RegexError("a '[' is never closed")
    return "".join([*pieces, "]"]), place + 1
