"""Work that was given to a disk and is not reported yet. What was given up is reported by nobody: should the disk
answer after all, that comes too late for whoever asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hast.replication.types import Request

After = Callable[[], None]


class Piece(NamedTuple):
    """`after` is called, and `requests` are reported, when the work has ended."""

    requests: Sequence[Request]
    after: After | None


class Begun:
    """Of one open disk. Each piece has a number."""

    def __init__(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def begin(self, requests: Sequence[Request] = (), after: After | None = None) -> int:
        """Returns its number."""
        self._number += 1
        self._pieces[self._number] = Piece(requests, after)
        return self._number

    def end(self, number: int) -> Piece | None:
        """The disk answered; None when nobody waits for it any more."""
        return self._pieces.pop(number, None)

    def give_up(self) -> list[Request]:
        """Nobody waits any more; returns the requests whose end was not reported, in their order."""
        pieces, self._pieces = self._pieces, {}
        return [request for piece in pieces.values() for request in piece.requests]
